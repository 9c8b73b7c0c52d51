"""When a VM may be preempted on purpose, and how its way back is read from what Google recorded."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from budget_operator.core.api import DRILL, Drill, DrillSteps, Outage, Status
from budget_operator.core.conditions import Reason, Type, Verdict, merged, timestamp
from budget_operator.core.drill import PATIENCE, asked, events, followed, obstacle, refused
from budget_operator.core.observed import PREEMPTED, Instance, InstanceStatus, PowerChange

NOW = datetime(2026, 11, 24, tzinfo=UTC)
VM = Instance("vm", "zone", "1", InstanceStatus.RUNNING, "e2-small", "SPOT", None, {}, "", {}, "")
RUNNING = Drill(value="1", at=timestamp(NOW), state="Running", operation="op", zone="zone", request_id="r")


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def status(ready: str = "True", **more: Any) -> Status:
    verdicts = {Type.READY: Verdict(ready, "Why", "InstanceRunning: sold out")}  # type: ignore[arg-type]
    return Status(conditions=merged((), verdicts, 1, NOW), **more)


def test_each_value_asks_once() -> None:
    assert asked({}, None) is None
    assert asked({DRILL: ""}, None) is None
    assert asked({DRILL: "1"}, None) == "1"
    for state in ("Requested", "Running", "Recovered", "Refused"):
        before = RUNNING.model_copy(update={"state": state})
        assert asked({DRILL: "1"}, before) is None
        waits = state in ("Requested", "Running")
        assert asked({DRILL: "2"}, before) == (None if waits else "2"), "one after the other"
    assert asked({DRILL: "x" * 9999}, None) == "x" * 253


ANNOUNCED = Outage(at=timestamp(NOW), zone="z", cause="Preempted", found="Operation", operation="op")


@pytest.mark.parametrize(
    ("before", "instance", "busy", "why"),
    [
        (status(), VM, False, None),
        (Status(), VM, False, "not Ready: it has never been"),
        (status("False"), VM, False, "not Ready: InstanceRunning: sold out"),
        (status("Unknown"), VM, False, "not Ready: InstanceRunning: sold out"),
        (status(), None, False, "the VM is not there"),
        (status(), replace(VM, status=InstanceStatus.STOPPING), False, "the VM is STOPPING"),
        (status(), replace(VM, provisioning_model="STANDARD"), False, "only Spot VMs"),
        (status(timeline=(ANNOUNCED,)), VM, False, "about to take the VM away"),
        (status(), VM, True, "something is being changed"),
    ],
)
def test_what_stands_in_its_way(
    before: Status, instance: Instance | None, busy: bool, why: str | None
) -> None:
    found = obstacle(before, instance, at(5), busy=busy)
    assert found is None if why is None else why in (found or "")


def power(kind: str, begun: float, ended: float | None) -> PowerChange:
    return PowerChange(f"{kind}-{begun}", "vm", "zone", at(begun), kind, None if ended is None else at(ended))


def outage(since: float, seconds: int | None, operation: str) -> Outage:
    return Outage(
        at=timestamp(at(since)),
        zone="zone",
        cause="Preempted",
        found="Operation",
        operation=operation,
        down_since=timestamp(at(since)),
        down_seconds=seconds,
    )


def test_step_by_step() -> None:
    taken, start = power(PREEMPTED, 1, 1), power("start", 130, 150)
    name = taken.operation
    found = followed(RUNNING, VM, (), (), at(0))
    assert (found.state, found.steps) == ("Running", None)
    found = followed(found, VM, (taken,), (replace_at(ANNOUNCED, name, 1),), at(5))
    assert found.steps == DrillSteps(notice=1)
    off = replace(VM, status=InstanceStatus.TERMINATED, stopped_at=at(125))
    found = followed(found, off, (taken,), (outage(121, None, name),), at(126))
    assert found.steps == DrillSteps(notice=1, stopped=125)
    starting = replace(start, ended=None)
    found = followed(found, off, (taken, starting), (outage(121, None, name),), at(140))
    assert found.steps == DrillSteps(notice=1, stopped=125, started=130)
    assert found.state == "Running"
    found = followed(found, off, (taken, start), (outage(121, 60, name),), at(185))
    assert found.steps == DrillSteps(notice=1, stopped=125, started=130, running=150, serving=181)
    assert (found.state, found.down_seconds) == ("Recovered", 60)
    told = events(RUNNING, found)
    assert [each.reason for each in told] == [Reason.DRILL_RECOVERED]
    assert told[0].message == (
        "drill 1: notice after 1 s, stopped after 125 s, started after 130 s, running after 150 s, "
        "serving after 181 s; callers got no answer for 60 s"
    )
    assert events(found, found) == ()


def replace_at(found: Outage, operation: str, seconds: float) -> Outage:
    return found.model_copy(update={"operation": operation, "at": timestamp(at(seconds))})


def test_one_that_is_taken_away_again_on_its_way_back() -> None:
    """The way is over when it serves; what was passed stays."""
    first, again = power(PREEMPTED, 1, 1), power(PREEMPTED, 40, 40)
    early = replace(VM, stopped_at=at(5))
    found = followed(
        RUNNING, early, (first, power("start", 10, 20)), (outage(5, None, first.operation),), at(21)
    )
    late = replace(VM, stopped_at=at(45))
    outages = (outage(5, 35, first.operation), outage(40, None, again.operation))
    moves = (first, power("start", 10, 20), again)
    found = followed(found, late, moves, outages, at(50))
    assert found.state == "Running"
    outages = (outages[0], outage(40, 30, again.operation))
    found = followed(found, late, (*moves, power("start", 50, 60)), outages, at(71))
    assert found.steps == DrillSteps(notice=1, stopped=5, started=10, running=20, serving=70)
    assert found.down_seconds == 65


def test_a_preemption_that_was_over_before_is_another_one() -> None:
    old = power(PREEMPTED, -50, -50)
    over = outage(-50, 30, old.operation)
    assert followed(RUNNING, VM, (old,), (over,), at(5)) == RUNNING


def test_google_may_preempt_nothing() -> None:
    begun = RUNNING.model_copy(update={"state": "Requested"})
    assert followed(begun, VM, (), (), NOW + PATIENCE - timedelta(seconds=1)) == begun
    found = followed(begun, VM, (), (), NOW + PATIENCE)
    assert found.state == "Refused"
    told = events(begun, found)
    assert [(each.kind, each.reason) for each in told] == [("Warning", Reason.DRILL_REFUSED)]
    assert "nothing within 10 minutes; another value of the annotation asks again" in told[0].message


def test_it_is_told_when_one_begins() -> None:
    before = refused("0", NOW, "not Ready")
    assert [each.reason for each in events(before, RUNNING)] == [Reason.DRILL_STARTED]
    assert [each.reason for each in events(None, RUNNING)] == [Reason.DRILL_STARTED]
    assert events(RUNNING.model_copy(update={"state": "Requested"}), RUNNING) == ()
    assert events(before, None) == ()
