"""Each preemption is counted once, however often and late it is seen."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from budget_operator.core.api import PreemptionRecord, Preemptions, Status
from budget_operator.core.conditions import Reason, Type, Verdict, merged
from budget_operator.core.observed import Preemption
from budget_operator.core.preemptions import FIRST_REST, RECENT, count, events, measured, rest
from budget_operator.core.serving import Serving

CREATED = datetime(2026, 11, 24, tzinfo=UTC)
SERVES = Serving(Verdict("True", Reason.ANSWERING), Verdict("True", Reason.VERIFIED), "rev", None)


def preemption(minute: int, name: str = "vm") -> Preemption:
    return Preemption(f"op-{name}-{minute}", name, "zone", CREATED + timedelta(minutes=minute))


@given(st.lists(st.integers(1, 40), unique=True).map(sorted), st.lists(st.integers(0, 40)))
def test_looking_again_counts_nothing_twice(minutes: list[int], looks: list[int]) -> None:
    found = Preemptions()
    for until in [*sorted(looks), 40]:
        seen = [preemption(minute) for minute in minutes if minute <= until]
        found, _ = count(found, seen, "vm", CREATED)
    assert found.count == len(minutes)
    assert len(found.recent) == min(len(minutes), RECENT)
    assert [record.operation for record in found.recent] == [
        f"op-vm-{minute}" for minute in minutes[-RECENT:]
    ]


def test_others_and_earlier_ones_do_not_count() -> None:
    seen = (preemption(1, "other"), preemption(-1), preemption(0))
    found, added = count(Preemptions(), seen, "vm", CREATED)
    assert found.count == 1
    assert added[0].at == "2026-11-24T00:00:00Z"
    assert events(added, ())[0].reason == Reason.PREEMPTED


def before(model: str, *records: PreemptionRecord) -> Status:
    verdicts = {Type.MODEL_SERVING: Verdict(model, "X")}  # type: ignore[arg-type]
    return Status(
        conditions=merged((), verdicts, 1, CREATED),
        preemptions=Preemptions(count=len(records), recent=records),
    )


def test_the_seconds_down_are_measured_by_who_saw_both_ends() -> None:
    record = PreemptionRecord(at="2026-11-24T00:00:00Z", zone="z", operation="op")
    counted = Preemptions(count=1, recent=(record,))
    now = CREATED + timedelta(seconds=75)
    assert measured(counted, before("False", record), SERVES, now).recent[0].down_seconds == 75
    assert measured(counted, before("True", record), SERVES, now) == counted
    assert measured(counted, before("False"), SERVES, now) == counted, "seen only now: nobody knows"
    silent = Serving(Verdict("False", Reason.BOOTING), SERVES.certificate, None, None)
    assert measured(counted, before("False", record), silent, now) == counted


def test_a_clock_that_is_wrong_by_more_than_a_little_keeps_no_vm_down() -> None:
    record = PreemptionRecord(at="2026-11-24T12:00:00Z", zone="zone", operation="op")
    found = Preemptions(count=1, recent=(record,))
    down = merged((), {Type.MODEL_SERVING: Verdict("False", Reason.INSTANCE_NOT_RUNNING)}, 1, CREATED)
    at = datetime.fromisoformat(record.at)
    assert rest(found, down, at + timedelta(seconds=4)) == FIRST_REST - 4
    assert rest(found, down, at - timedelta(seconds=4)) == FIRST_REST
    assert rest(found, down, at - timedelta(hours=26)) == 0
    assert rest(found, down, at + timedelta(hours=5)) == 0
