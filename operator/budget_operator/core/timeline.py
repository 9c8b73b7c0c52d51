"""When callers got no answer: every preemption and other outage once, how it was found, how long it lasted.

Pure. An operator that was off finds what happened meanwhile in the operations of the VM's zone; one that is
there sees both ends itself. The figures over days are in `availability`; what follows from several
preemptions in a row is in `preemptions`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from budget_operator.core.api import Outage, Status
from budget_operator.core.budget import Limit
from budget_operator.core.conditions import timestamp
from budget_operator.core.observed import DOWN, PREEMPTED, UP, Instance, PowerChange

KEPT = 20  # of all outages
PREEMPTIONS_KEPT = 5  # at least, however many others there were since
_NEVER = "9999-12-31T23:59:59Z"
SKEW = timedelta(seconds=5)  # between the clocks of a VM and of who tells of it
NOTICE = timedelta(minutes=3)  # within which a preemption, with the notice before it, has ended a VM
Cause = Literal[
    "Preempted", "HostError", "PoweredOff", "Stopped", "Suspended", "NotRunning", "NotAnswering", "Paused"
]
PAUSED: Cause = (
    "Paused"  # by spec.suspend or a spent budget: no outage to be counted, but a time without answers
)
CAUSES: Mapping[str, Cause] = {
    PREEMPTED: "Preempted",
    "compute.instances.hostError": "HostError",
    "compute.instances.guestTerminate": "PoweredOff",
    "stop": "Stopped",
    "suspend": "Suspended",
}


@dataclass(frozen=True)
class Look:
    """What one pass saw."""

    now: datetime
    serving: bool | None  # None: nobody knows
    zone: str
    running: bool | None = None  # the VM; None: it could not be seen
    instance: Instance | None = None
    power: Sequence[PowerChange] = ()  # of the VM, as far back as Google remembers
    silent_seconds: float = 0.0  # for which the endpoint has not answered so far
    boot_seconds: float = 0.0  # that the last boot took until the model was served
    noticed_at: datetime | None = None  # when the VM read that Google would take it away
    watched: bool = False  # the same process saw that it was down, a moment ago
    paused: bool = False  # as the spec wants it


@dataclass(frozen=True)
class Ended:
    """An outage that is over, with its exact ends."""

    outage: Outage
    since: datetime
    until: datetime


@dataclass(frozen=True)
class Course:
    """The timeline after a pass."""

    outages: tuple[Outage, ...]
    preempted: tuple[Outage, ...] = ()  # that were noticed in this pass
    ended: tuple[Ended, ...] = ()


def noted(
    before: Status, power: Iterable[PowerChange], created: datetime, limit: Limit | None = None
) -> Course:
    """With what the operations tell that was not known. What was before the object was `created` is not its.

    A preemption is new if its operation is in none of the outages and it is not older than all of those that
    are kept. Of what else takes a VM down only what came after the last time at which it served for sure. By
    the `limit` that stands on it a VM switches itself off: then it is paused.
    """
    outages = list(before.timeline)
    known = {each.operation for each in outages}
    horizon, settled = _counted_until(before), _settled(before)
    preempted: list[Outage] = []
    for change in sorted(power, key=lambda each: (each.at, each.operation)):
        if change.kind not in DOWN or change.operation in known or change.at < created:
            continue
        if change.kind != PREEMPTED and _is_paused(outages):
            continue
        told = _told(change, limit)
        if told.at <= (horizon if change.kind == PREEMPTED else settled):
            continue
        known.add(change.operation)
        outages = _explained(outages, told) or [*outages, told]
        preempted += [told] if change.kind == PREEMPTED else []
    ordered = sorted(outages, key=lambda each: (each.at, each.operation or ""))
    return Course(tuple(ordered), tuple(preempted))


def _told(change: PowerChange, limit: Limit | None) -> Outage:
    cause, at = CAUSES[change.kind], timestamp(change.at)
    if cause == "PoweredOff" and limit is not None and limit.is_over(change.at + SKEW):
        cause = PAUSED
    down = at if cause == PAUSED else None
    return Outage(
        at=at, zone=change.zone, cause=cause, found="Operation", operation=change.operation, down_since=down
    )


def _is_paused(outages: Sequence[Outage]) -> bool:
    last = outages[-1] if outages else None
    return last is not None and last.cause == PAUSED and last.down_seconds is None


def _counted_until(before: Status) -> str:
    """Up to then every preemption was counted; empty: all that were are still there to compare."""
    there = [each.at for each in before.timeline if each.cause == "Preempted" and each.operation]
    return min(there, default="") if before.preemptions.count > len(there) else ""


def _settled(before: Status) -> str:
    """When it last began to serve, as far as outages tell; later than anything before it ever did."""
    if before.availability is None:
        return _NEVER
    over = [timestamp(_end(each)) for each in before.timeline if each.down_seconds is not None]
    return max((before.availability.since, *over))


def _explained(outages: list[Outage], told: Outage) -> list[Outage] | None:
    """With the cause of the last outage that was noticed without one, if this is it."""
    at = moment(told.at)
    for index, each in reversed(list(enumerate(outages))):
        begun, latest = moment(each.at), moment(each.at) + timedelta(minutes=1)
        if each.down_seconds is not None:
            latest = min(latest, begun + timedelta(seconds=each.down_seconds))
        if each.operation is None and begun - NOTICE <= at <= latest:
            changes = {"cause": told.cause, "operation": told.operation, "zone": told.zone}
            return [*outages[:index], each.model_copy(update=changes), *outages[index + 1 :]]
    return None


def _kept(outages: Sequence[Outage]) -> tuple[Outage, ...]:
    preempted = [each for each in outages if each.cause == "Preempted"][-PREEMPTIONS_KEPT:]
    return tuple(each for each in outages if each in outages[-(KEPT - len(preempted)) :] or each in preempted)


def followed(course: Course, since: str | None, look: Look) -> Course:
    """With what the endpoint tells: which outages begin and end. `since`: when it was Ready first."""
    if since is None or (look.serving is None and not look.paused):
        return replace(course, outages=_kept(course.outages))
    earlier = tuple(each for each in course.outages if each.at < since)
    later = course.outages[len(earlier) :]
    if look.paused:
        look = replace(look, serving=False)  # whoever still answers will not for long
        later = _paused(later, look)
    else:
        later = _unseen(later, look, moment(since)) if look.serving else _begun(later, look, moment(since))
    if look.noticed_at is not None:
        later = tuple(_as_the_vm_tells(each, look.noticed_at) for each in later)
    outages: list[Outage] = []
    ended: list[Ended] = []
    for index, each in enumerate(later):
        after = later[index + 1] if index + 1 < len(later) else None
        over = None if each.down_seconds is not None else _over(each, after, look)
        outages.append(each if over is None else over.outage)
        ended += [] if over is None else [over]
    return replace(course, outages=_kept((*earlier, *outages)), ended=tuple(ended))


def _unseen(outages: tuple[Outage, ...], look: Look, since: datetime) -> tuple[Outage, ...]:
    """It serves, and no operation tells that it ever stopped; but the VM was off and started meanwhile."""
    instance, last = look.instance, outages[-1] if outages else None
    if instance is None or instance.started_at is None or instance.stopped_at is None:
        return outages
    if last is not None and last.down_seconds is None:
        return outages
    if not (since if last is None else _end(last)) < instance.stopped_at <= instance.started_at:
        return outages
    at = timestamp(instance.stopped_at)
    return (*outages, Outage(at=at, zone=instance.zone, cause="NotRunning", found="Function"))


def _as_the_vm_tells(outage: Outage, noticed: datetime) -> Outage:
    """With its cause, where no operation tells one: they are not to be had, or not there yet."""
    begun = moment(outage.at)
    if outage.operation is not None or not begun - NOTICE <= noticed <= begun + timedelta(minutes=1):
        return outage
    return outage.model_copy(update={"cause": "Preempted", "found": "Metadata"})


def _begun(outages: tuple[Outage, ...], look: Look, since: datetime) -> tuple[Outage, ...]:
    """It does not serve: an outage is under way."""
    last = outages[-1] if outages else None
    if last is not None and last.down_seconds is None:
        if last.down_since is not None:
            return outages
        down = last.model_copy(update={"down_since": timestamp(_went_down(look, moment(last.at)))})
        return (*outages[:-1], down)
    at = timestamp(_went_down(look, since if last is None else _end(last)))
    cause: Cause = "NotRunning" if look.running is False else "NotAnswering"
    return (*outages, Outage(at=at, zone=look.zone, cause=cause, found="Probe", down_since=at))


def _paused(outages: tuple[Outage, ...], look: Look) -> tuple[Outage, ...]:
    """Its owner wants nobody to be answered, from now on and until it serves again."""
    if _is_paused(outages):
        return outages
    at = timestamp(look.now)
    return (*outages, Outage(at=at, zone=look.zone, cause=PAUSED, found="Spec", down_since=at))


def _went_down(look: Look, earliest: datetime) -> datetime:
    """When it stopped serving, which is noticed later; not earlier than it is known to have served."""
    noticed = look.now - timedelta(seconds=look.silent_seconds)
    off = look.instance.stopped_at if look.instance is not None else None
    return off if off is not None and earliest <= off <= noticed else max(earliest, noticed)


def _end(outage: Outage) -> datetime:
    """Of one that is over."""
    return moment(outage.down_since or outage.at) + timedelta(seconds=outage.down_seconds or 0)


def _over(outage: Outage, after: Outage | None, look: Look) -> Ended | None:
    """The outage's end, if it has one: the next one cut it short, or the model serves again."""
    begun = moment(outage.down_since or outage.at)
    if after is not None:
        limit = moment(after.at)
        up = _came_up(begun, look, limit)
        return _ended(outage, begun, limit if up is None else min(limit, _served(up, look)))
    if not look.serving:
        return None
    up = _came_up(begun, look, look.now)
    if outage.down_since is None:
        return None if up is None else _ended(outage, _off(begun, up, look), min(look.now, _served(up, look)))
    return _ended(outage, begun, look.now if up is None or look.watched else min(look.now, _served(up, look)))


def _came_up(begun: datetime, look: Look, limit: datetime) -> datetime | None:
    """When the VM was running again after it had gone down then, and before the limit."""
    ends = [each.ended for each in look.power if each.kind in UP and each.at >= begun]
    if look.instance is not None:
        ends.append(look.instance.started_at)
    return min((end for end in ends if end is not None and begun < end <= limit), default=None)


def _served(up: datetime, look: Look) -> datetime:
    """Nobody saw it: it took as long as the last boot."""
    return up + timedelta(seconds=look.boot_seconds)


def _off(begun: datetime, up: datetime, look: Look) -> datetime:
    """When a VM that went down and came up unseen was off."""
    off = look.instance.stopped_at if look.instance is not None else None
    return off if off is not None and begun <= off <= up else begun


def _ended(outage: Outage, since: datetime, until: datetime) -> Ended:
    until = max(since, until)
    seconds = round((until - since).total_seconds())
    changes = {"down_since": timestamp(since), "down_seconds": seconds}
    return Ended(outage.model_copy(update=changes), since, until)


def is_awaited(outages: Sequence[Outage], now: datetime) -> bool:
    """Whether the VM is about to go: its notice runs."""
    last = outages[-1] if outages else None
    return last is not None and last.down_since is None and now - moment(last.at) < NOTICE


def moment(text: str) -> datetime:
    """Of a time as it stands in a status."""
    return datetime.fromisoformat(text)
