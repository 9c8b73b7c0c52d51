"""Each preemption is counted once, however often and late it is seen."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budget_operator.core.api import Availability, Outage, Preemptions, Status
from budget_operator.core.conditions import Reason, Type, Verdict, merged, timestamp
from budget_operator.core.observed import PowerChange
from budget_operator.core.preemptions import FIRST_REST, counted, events, rest, until_forgotten
from budget_operator.core.timeline import KEPT, PREEMPTIONS_KEPT, Look, followed, noted

CREATED = datetime(2026, 11, 24, tzinfo=UTC)
HOUR = timedelta(hours=1)


def preemption(minute: int) -> PowerChange:
    return PowerChange(f"op-{minute}", "vm", "zone", CREATED + timedelta(minutes=minute))


def stop(minute: int) -> PowerChange:
    return PowerChange(f"stop-{minute}", "vm", "zone", CREATED + timedelta(minutes=minute), "stop")


def after(before: Status, seen: list[PowerChange], now: datetime) -> Status:
    """The status after a pass that saw so much."""
    found = noted(before, seen, CREATED)
    course = followed(found, timestamp(CREATED), Look(now, True, "zone", power=seen))
    return before.model_copy(
        update={
            "timeline": course.outages,
            "preemptions": counted(before.preemptions, found, seen, CREATED, now),
            "availability": Availability(since=timestamp(CREATED), last_7d=100.0, last_30d=100.0),
        }
    )


@given(
    st.lists(st.integers(1, 60), unique=True).map(sorted),
    st.lists(st.integers(1, 60), unique=True).map(sorted),
    st.lists(st.integers(0, 60)),
)
def test_looking_again_counts_nothing_twice(minutes: list[int], stops: list[int], looks: list[int]) -> None:
    """Whatever else happens to the VM, and however much of it the status has room for."""
    status = Status()
    for until in [*sorted(looks), 60]:
        seen = [preemption(minute) for minute in minutes if minute <= until]
        seen += [stop(minute) for minute in stops if minute <= until]
        status = after(status, seen, CREATED + timedelta(minutes=until + 1))
    assert status.preemptions.count == status.preemptions.last_24h == len(minutes)
    kept = [each.operation for each in status.timeline if each.cause == "Preempted"]
    assert kept == [f"op-{minute}" for minute in minutes][-len(kept) :] or not minutes
    assert len(kept) >= min(len(minutes), PREEMPTIONS_KEPT)
    assert len(status.timeline) <= KEPT


def test_earlier_ones_do_not_count() -> None:
    found = noted(Status(), (preemption(-1), preemption(0)), CREATED)
    assert [each.at for each in found.preempted] == ["2026-11-24T00:00:00Z"]
    assert events(found.preempted, ())[0].reason == Reason.PREEMPTED


def test_those_of_the_last_day_are_forgotten_one_after_the_other() -> None:
    seen = (preemption(0), preemption(60))
    now = CREATED + 2 * HOUR
    none = noted(Status(), (), CREATED)
    assert counted(Preemptions(count=2), none, seen, CREATED, now) == Preemptions(count=2, last_24h=2)
    assert until_forgotten(seen, CREATED, now) == 22 * HOUR
    later = now + until_forgotten(seen, CREATED, now)
    assert counted(Preemptions(count=2), none, seen, CREATED, later).last_24h == 1
    assert counted(Preemptions(count=2), none, seen, CREATED, later + HOUR).last_24h == 0
    unseen = counted(Preemptions(count=2, last_24h=2), none, None, CREATED, later)
    assert unseen.last_24h == 2, "what cannot be looked at stays as it was"


@pytest.mark.parametrize(("others", "pause"), [(0, 10.0), (1, 20.0), (4, 160.0), (9, 160.0)])
def test_the_pause_doubles_until_it_is_long_enough(others: int, pause: float) -> None:
    down = merged((), {Type.MODEL_SERVING: Verdict("False", Reason.INSTANCE_NOT_RUNNING)}, 1, CREATED)
    outages = noted(Status(), [preemption(minute) for minute in range(1, others + 2)], CREATED).outages
    assert rest(outages, down, datetime.fromisoformat(outages[-1].at)) == pause


def test_a_clock_that_is_wrong_by_more_than_a_little_keeps_no_vm_down() -> None:
    found = (Outage(at="2026-11-24T12:00:00Z", zone="zone", cause="Preempted", found="Operation"),)
    down = merged((), {Type.MODEL_SERVING: Verdict("False", Reason.INSTANCE_NOT_RUNNING)}, 1, CREATED)
    at = datetime.fromisoformat(found[0].at)
    assert rest(found, down, at + timedelta(seconds=4)) == FIRST_REST - 4
    assert rest(found, down, at - timedelta(seconds=4)) == FIRST_REST
    assert rest(found, down, at - timedelta(hours=26)) == 0
    assert rest(found, down, at + timedelta(hours=5)) == 0
