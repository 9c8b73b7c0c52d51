"""One look for all: believed for a while, and where it fails not made again by each of them."""

from datetime import UTC, datetime, timedelta

import pytest

from budget_operator.core.errors import BudgetError, Unavailable
from budget_operator.reconcile.shared import Shared

AGE = timedelta(minutes=15)


class Place:
    """What is looked at; and the time."""

    def __init__(self) -> None:
        self.now = datetime(2026, 12, 1, tzinfo=UTC)
        self.looks = 0
        self.failure: BudgetError | None = None

    def look(self) -> int:
        self.looks += 1
        if self.failure is not None:
            raise self.failure
        return self.looks


@pytest.fixture
def place() -> Place:
    return Place()


@pytest.fixture
def shared(place: Place) -> Shared[int]:
    return Shared(place.look, lambda found: found * AGE, lambda: place.now)


def test_a_look_is_believed_for_its_age(place: Place, shared: Shared[int]) -> None:
    first = shared.get()
    place.now += AGE - timedelta(seconds=1)
    assert shared.get() is first
    place.now += timedelta(seconds=1)
    second = shared.get()
    assert (second.found, second.at) == (2, place.now)
    place.now += 2 * AGE - timedelta(seconds=1)
    assert shared.get() is second, "the age is that of what was found"


def test_a_look_that_fails_is_not_repeated_by_everybody(place: Place, shared: Shared[int]) -> None:
    place.failure = Unavailable("no answer")
    for _ in range(60):
        for _ in range(5):
            with pytest.raises(Unavailable):
                shared.get()
        place.now += timedelta(seconds=1)
    assert place.looks == 6, "after 0, 1, 3, 7, 15 and 31 seconds"
    place.failure = None
    place.now += timedelta(seconds=2)
    assert shared.get().found == 7
