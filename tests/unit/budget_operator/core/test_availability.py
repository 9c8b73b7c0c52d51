"""The figures are what somebody who had watched every second would say."""

import math
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budget_operator.core.api import Availability, Outage
from budget_operator.core.availability import counted
from budget_operator.core.conditions import timestamp
from budget_operator.core.timeline import Ended

READY = datetime(2026, 11, 1, 10, 30, tzinfo=UTC)
HOUR, DAY = 3600, 86_400


def at(seconds: float) -> datetime:
    return READY + timedelta(seconds=seconds)


def outage(begun: int, seconds: int | None) -> Outage:
    return Outage(
        at=timestamp(at(begun)),
        zone="z",
        cause="Preempted",
        found="Operation",
        down_since=timestamp(at(begun)),
        down_seconds=seconds,
    )


def over(found: Outage) -> Ended:
    assert found.down_since is not None
    assert found.down_seconds is not None
    since = datetime.fromisoformat(found.down_since)
    return Ended(found, since, since + timedelta(seconds=found.down_seconds))


def first() -> Availability:
    found = counted(None, (), (), READY, serving=True)
    assert found is not None
    return found


def test_nothing_counts_before_it_is_ready() -> None:
    assert counted(None, (), (), READY, serving=False) is None
    assert first() == Availability(since="2026-11-01T10:30:00Z", last_7d=100.0, last_30d=100.0)


def told(found: Availability | None) -> tuple[float, float]:
    assert found is not None
    return found.last_7d, found.last_30d


def test_one_outage() -> None:
    """Its share shrinks as time goes by, in steps, until it is older than the figure."""
    gone = outage(HOUR, 90)
    found = counted(first(), (gone,), (over(gone),), at(HOUR + 90), serving=True)
    share = 100 * 90 / (HOUR + 90)
    assert told(found) == (math.floor((100 - share) * 1000) / 1000,) * 2
    for seconds, until in ((50 * 60, 0), (61 * 60, HOUR), (3 * HOUR, 2 * HOUR), (12 * HOUR, 8 * HOUR)):
        now = counted(found, (gone,), (), at(HOUR + 90 + seconds), serving=True)
        total = HOUR + 90 + until
        assert told(now) == (math.floor((100 - 100 * 90 / total) * 1000) / 1000,) * 2
    week = counted(found, (gone,), (), READY.replace(hour=0, minute=0) + timedelta(days=7), serving=True)
    assert told(week)[0] == 100.0 > told(week)[1]
    month = counted(week, (gone,), (), READY + timedelta(days=30), serving=True)
    assert month is not None
    assert told(month) == (100.0, 100.0)
    assert month.days == (), "and forgotten"


def test_a_lasting_one_counts_while_it_lasts() -> None:
    open_ = outage(HOUR, None)
    found = counted(first(), (open_,), (), at(HOUR), serving=False)
    assert told(found) == (100.0, 100.0)
    assert told(counted(found, (open_,), (), at(2 * HOUR), serving=False)) == (50.0, 50.0)


def test_one_over_midnight_is_on_both_days() -> None:
    night = outage(13 * HOUR, 2 * HOUR)  # from half past eleven
    found = counted(first(), (night,), (over(night),), at(15 * HOUR), serving=True)
    assert found is not None
    assert [(day.date, day.seconds) for day in found.days] == [("2026-11-01", 1800), ("2026-11-02", 5400)]


@pytest.mark.parametrize("minutes", [0, 1, 30, 59])
def test_passes_in_between_find_the_same(minutes: int) -> None:
    gone = outage(HOUR, 90)
    found = counted(first(), (gone,), (over(gone),), at(HOUR + 90), serving=True)
    assert counted(found, (gone,), (), at(HOUR + 90 + 60 * minutes), serving=True) == found


GAPS = st.lists(st.tuples(st.integers(1, 3 * DAY), st.integers(0, 2 * DAY)), max_size=40)


@given(GAPS, st.integers(0, 5 * DAY))
def test_they_are_what_a_watcher_would_say(gaps: list[tuple[int, int]], rest: int) -> None:
    """However many outages there were: the status keeps 20 of them, here the last alone."""
    found, end, down = first(), 0, []
    last: tuple[Outage, ...] = ()
    for pause, length in gaps:
        begun, end = end + pause, end + pause + length
        down.append((begun, end))
        last = (outage(begun, length),)
        after = counted(found, last, (over(last[0]),), at(end), serving=True)
        assert after is not None
        found = after
    now = at(end + rest)
    after = counted(found, last, (), now, serving=True)
    assert after is not None
    until = max(
        each
        for each in (
            *(at(end + HOUR * hours) for hours in (0, 1, 2, 4, 8, 16)),
            max(at(end), now.replace(hour=0, minute=0, second=0)),
        )
        if each <= now
    )
    for figure, days in ((after.last_7d, 7), (after.last_30d, 30)):
        begin = max(READY, until.replace(hour=0, minute=0, second=0) - timedelta(days=days - 1))
        total = (until - begin).total_seconds()
        lost = sum(
            max(0.0, (min(at(there), until) - max(at(here), begin)).total_seconds()) for here, there in down
        )
        assert figure == pytest.approx(100 * (1 - lost / total) if total else 100.0, abs=0.002)
    assert len(after.days) <= 30


def test_the_time_of_a_suspended_one_counts_neither_way() -> None:
    paused = outage(HOUR, 2 * HOUR).model_copy(update={"cause": "Paused", "found": "Spec"})
    found = counted(first(), (paused,), (over(paused),), at(3 * HOUR), serving=True)
    assert told(found) == (100.0, 100.0)
    assert found is not None
    assert [(day.seconds, day.paused) for day in found.days] == [(0, 2 * HOUR)]
    gone = outage(3 * HOUR, HOUR)
    found = counted(found, (paused, gone), (over(gone),), at(4 * HOUR), serving=True)
    assert told(found) == (50.0, 50.0), "of four hours two were paused, and one was down"


def test_while_it_is_suspended_the_figures_stay() -> None:
    paused = outage(HOUR, None).model_copy(update={"cause": "Paused", "found": "Spec"})
    for hours in (1, 5, 100):
        assert told(counted(first(), (paused,), (), at(hours * HOUR), serving=False)) == (100.0, 100.0)
