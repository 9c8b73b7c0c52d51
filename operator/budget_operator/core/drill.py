"""A preemption that the owner asks for, to see how the deployment comes back. Pure.

Whether one is asked for, and what stands in its way; how far one is that was begun, as Google's own records
and the timeline tell, so that a crash between any two steps loses none of them. The call is in
`reconcile.drilling`.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from budget_operator.core.api import DRILL, Drill, DrillSteps, Outage, Status
from budget_operator.core.conditions import Reason, Type, find, timestamp
from budget_operator.core.observed import PREEMPTED, UP, Instance, InstanceStatus, PowerChange
from budget_operator.core.status import Event
from budget_operator.core.timeline import is_awaited, moment

VALUE_LIMIT = 253
SKEW = timedelta(minutes=1)  # by which Google's clock may be behind
#: Google preempts within seconds. Later than this nothing does, and the call is not made again.
PATIENCE = timedelta(minutes=10)
UNDER_WAY = ("Requested", "Running")


def asked(annotations: Mapping[str, str], before: Drill | None) -> str | None:
    """The value of a drill that was never begun nor refused. Another one ends first."""
    value = annotations.get(DRILL, "")[:VALUE_LIMIT]
    if not value or is_under_way(before) or (before is not None and before.value == value):
        return None
    return value


def is_under_way(drill: Drill | None) -> bool:
    """Whether it has begun and not ended."""
    return drill is not None and drill.state in UNDER_WAY


def obstacle(before: Status, instance: Instance | None, now: datetime, *, busy: bool) -> str | None:
    """Why the VM is not preempted now. `busy`: something is under way."""
    ready = find(before.conditions, Type.READY)
    if ready is None or ready.status != "True":
        return f"not Ready: {ready.message if ready is not None else 'it has never been'}"
    if instance is None or instance.status is not InstanceStatus.RUNNING:
        return f"the VM is {instance.status if instance is not None else 'not there'}"
    if instance.provisioning_model != "SPOT":
        return "Google preempts only Spot VMs, and this one is Standard"
    if is_awaited(before.timeline, now):
        return "Google is about to take the VM away anyway"
    if busy:
        return "something is being changed, or does not answer"
    return None


def refused(value: str, now: datetime, why: str) -> Drill:
    """The end of one that was not begun; it is not tried again."""
    message = f"{why}; another value of the annotation asks again"
    return Drill(value=value, at=timestamp(now), state="Refused", message=message)


def followed(
    drill: Drill,
    instance: Instance | None,
    power: Sequence[PowerChange],
    outages: Sequence[Outage],
    now: datetime,
) -> Drill:
    """How far one is that is under way. A step that was passed stays, whatever happens to the VM later."""
    begun = moment(drill.at)
    taken = _taken(begun, power, outages)
    if taken is None:
        if now - begun < PATIENCE:
            return drill
        minutes = f"{PATIENCE.total_seconds() / 60:g} minutes"
        return refused(drill.value, begun, f"Google preempted nothing within {minutes}")
    passed = drill.steps.model_dump(exclude_none=True) if drill.steps is not None else {}
    steps = _steps(begun, taken, instance, power).model_copy(update=passed)
    own = next((each for each in outages if each.operation == taken.operation), None)
    if own is None or any(each.down_seconds is None and each.at >= own.at for each in outages):
        return drill.model_copy(update={"state": "Running", "steps": steps})
    last = max((each for each in outages if each.at >= own.at), key=lambda each: each.at)
    served = moment(last.down_since or last.at) + timedelta(seconds=last.down_seconds or 0)
    down = sum(each.down_seconds or 0 for each in outages if each.at >= own.at)
    steps = steps.model_copy(update={"serving": _since(begun, served)})
    return drill.model_copy(update={"state": "Recovered", "steps": steps, "down_seconds": down})


def _taken(begun: datetime, power: Sequence[PowerChange], outages: Sequence[Outage]) -> PowerChange | None:
    """The preemption that the drill is about, not one that was over before it began."""
    over = {
        each.operation
        for each in outages
        if each.down_since is not None
        and each.down_seconds is not None
        and moment(each.down_since) + timedelta(seconds=each.down_seconds) <= begun
    }
    found = [each for each in power if each.kind == PREEMPTED and each.operation not in over]
    return min((each for each in found if each.at >= begun - SKEW), key=lambda each: each.at, default=None)


def _steps(
    begun: datetime, taken: PowerChange, instance: Instance | None, power: Sequence[PowerChange]
) -> DrillSteps:
    """As Google's records have them."""
    starts = [each for each in power if each.kind in UP and each.at >= taken.at]
    first = min(starts, key=lambda each: each.at, default=None)
    off = instance.stopped_at if instance is not None else None
    up = first.ended if first is not None else None
    return DrillSteps(
        notice=_since(begun, taken.at),
        stopped=_since(begun, off) if off is not None and off >= taken.at else None,
        started=_since(begun, first.at) if first is not None else None,
        running=_since(begun, up) if up is not None else None,
    )


def _since(begun: datetime, at: datetime) -> int:
    return max(0, round((at - begun).total_seconds()))


def events(before: Drill | None, after: Drill | None) -> tuple[Event, ...]:
    """One Event when a drill begins, and one when it ends."""
    if after is None or (before is not None and (before.value, before.state) == (after.value, after.state)):
        return ()
    name = f"drill {after.value}"
    if after.state == "Refused":
        return (Event("Warning", str(Reason.DRILL_REFUSED), f"{name}: {after.message}"),)
    if after.state == "Recovered":
        passed = after.steps.model_dump(exclude_none=True) if after.steps is not None else {}
        steps = ", ".join(f"{step} after {seconds} s" for step, seconds in passed.items())
        text = f"{name}: {steps}; callers got no answer for {after.down_seconds} s"
        return (Event("Normal", str(Reason.DRILL_RECOVERED), text),)
    if is_under_way(before):
        return ()
    return (Event("Normal", str(Reason.DRILL_STARTED), f"{name}: Google is asked to preempt the VM"),)
