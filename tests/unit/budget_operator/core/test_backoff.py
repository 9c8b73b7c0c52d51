"""What fails is tried again after pauses that grow, and until then everybody is told why."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from budget_operator.core.backoff import LONGEST_PAUSE, Backoff
from budget_operator.core.errors import PermissionDenied, Unavailable


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 12, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


def fail() -> None:
    raise Unavailable("no answer")


def pauses(backoff: Backoff, clock: Clock, count: int) -> list[int]:
    """Whole seconds between looks that fail, each of which is asked for every second."""
    made: list[datetime] = []

    def look() -> None:
        made.append(clock.now)
        fail()

    while len(made) <= count:
        with pytest.raises(Unavailable):
            backoff.call(look)
        clock.now += timedelta(seconds=1)
    return [int((after - before).total_seconds()) for before, after in pairwise(made)]


def test_pauses_grow_up_to_a_bound() -> None:
    clock = Clock()
    found = pauses(Backoff(clock), clock, 40)
    assert found[:6] == [1, 2, 4, 8, 16, 30]
    assert set(found[6:]) == {int(LONGEST_PAUSE.total_seconds())}


def test_its_pauses_can_be_others() -> None:
    clock = Clock()
    backoff = Backoff(clock, timedelta(seconds=3), timedelta(seconds=10))
    assert pauses(backoff, clock, 4) == [3, 6, 10, 10]


def test_a_success_is_a_new_beginning() -> None:
    clock = Clock()
    backoff = Backoff(clock)
    pauses(backoff, clock, 5)
    clock.now += LONGEST_PAUSE
    assert backoff.call(lambda: "found") == "found"
    assert pauses(backoff, clock, 2) == [1, 2]


def test_the_newest_reason_is_told() -> None:
    clock = Clock()
    backoff = Backoff(clock)

    def refuse() -> None:
        raise PermissionDenied("not any more")

    pauses(backoff, clock, 1)
    clock.now += LONGEST_PAUSE
    with pytest.raises(PermissionDenied):
        backoff.call(refuse)
    for _ in range(3):
        with pytest.raises(PermissionDenied, match="not any more") as told:
            backoff.call(fail)
        assert len(told.traceback) == 2, "it does not grow each time it is told"
