"""What fails is tried again after pauses that grow, and until then everybody is told why."""

from datetime import UTC, datetime, timedelta

import pytest

from budget_operator.core.backoff import LONGEST_PAUSE, Backoff
from budget_operator.core.errors import PermissionDenied, Unavailable


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 12, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def seconds_until_it_may_be_tried(self, backoff: Backoff) -> int:
        for second in range(1000):
            try:
                backoff.check()
            except Unavailable:
                self.now += timedelta(seconds=1)
            else:
                return second
        raise AssertionError("it rests for ever")


def test_pauses_grow_up_to_a_bound() -> None:
    clock = Clock()
    backoff = Backoff(clock)
    pauses = []
    for _ in range(40):
        backoff.failed(Unavailable("no answer"))
        pauses.append(clock.seconds_until_it_may_be_tried(backoff))
    assert pauses[:6] == [1, 2, 4, 8, 16, 30]
    assert set(pauses[6:]) == {int(LONGEST_PAUSE.total_seconds())}


def test_a_success_is_a_new_beginning() -> None:
    clock = Clock()
    backoff = Backoff(clock)
    for _ in range(5):
        backoff.failed(Unavailable("no answer"))
    backoff.succeeded()
    backoff.check()
    backoff.failed(Unavailable("no answer"))
    assert clock.seconds_until_it_may_be_tried(backoff) == 1


def test_the_newest_reason_is_told() -> None:
    backoff = Backoff(Clock())
    backoff.failed(Unavailable("no answer"))
    backoff.failed(PermissionDenied("not any more"))
    for _ in range(3):
        with pytest.raises(PermissionDenied, match="not any more") as told:
            backoff.check()
        assert len(told.traceback) == 2, "it does not grow each time it is told"
