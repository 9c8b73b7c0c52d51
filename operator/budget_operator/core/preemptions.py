"""How often Google took the VM away: each preemption counted once, by its operation; and what follows from
several in a row. Pure.
"""

from collections.abc import Iterable
from datetime import datetime

from budget_operator.core.api import Condition, PreemptionRecord, Preemptions, Status
from budget_operator.core.conditions import Reason, Type, find, timestamp
from budget_operator.core.observed import Preemption
from budget_operator.core.serving import Serving
from budget_operator.core.status import Event

RECENT = 5  # so many are kept in the status
SKEW = 60.0  # seconds by which clocks may differ without anything being wrong
FIRST_REST = 10.0  # seconds after the first boot that was cut short; doubled after each further one


def count(
    before: Preemptions, seen: Iterable[Preemption], name: str, created: datetime
) -> tuple[Preemptions, tuple[PreemptionRecord, ...]]:
    """The preemptions with those that are new, each counted once by its operation; and the new ones.

    Only the last few are kept. What is not newer than the oldest of these was counted before.
    """
    known = {record.operation for record in before.recent}
    horizon = min((record.at for record in before.recent), default="") if before.count > RECENT else ""
    new = sorted(
        (
            PreemptionRecord(at=timestamp(item.at), zone=item.zone, operation=item.operation)
            for item in seen
            if item.instance == name and item.at >= created
        ),
        key=lambda record: (record.at, record.operation),
    )
    unique = {
        record.operation: record
        for record in new
        if record.operation not in known and (not horizon or record.at > horizon)
    }
    added = tuple(unique.values())
    if not added:
        return before, ()
    recent = sorted((*before.recent, *added), key=lambda record: (record.at, record.operation))
    return Preemptions(count=before.count + len(added), recent=tuple(recent[-RECENT:])), added


def measured(preemptions: Preemptions, before: Status, serving: Serving, now: datetime) -> Preemptions:
    """Fill in how long the last preemption lasted, if this operator saw both of its ends."""
    was = find(before.conditions, Type.MODEL_SERVING)
    was_down = was is not None and was.status == "False"
    if not (was_down and serving.model.status == "True" and preemptions.recent):
        return preemptions
    last = preemptions.recent[-1]
    if last.down_seconds is not None or last not in before.preemptions.recent:
        return preemptions
    down = int((now - datetime.fromisoformat(last.at)).total_seconds())
    measured_last = last.model_copy(update={"down_seconds": max(0, down)})
    return preemptions.model_copy(update={"recent": (*preemptions.recent[:-1], measured_last)})


def cut_short(preemptions: Preemptions, conditions: Iterable[Condition]) -> tuple[PreemptionRecord, ...]:
    """Those since the model served last, without the one that ended that: boots that came to nothing."""
    serving = find(conditions, Type.MODEL_SERVING)
    if serving is None or serving.status == "True":
        return ()
    return tuple(record for record in preemptions.recent if record.at > serving.last_transition_time)


def rest(preemptions: Preemptions, conditions: Iterable[Condition], now: datetime) -> float:
    """Seconds until the operator starts the VM again: the more boots were cut short, the longer."""
    cut = cut_short(preemptions, conditions)
    if not cut:
        return 0.0
    pause = FIRST_REST * 2.0 ** (len(cut) - 1)
    elapsed = (now - datetime.fromisoformat(cut[-1].at)).total_seconds()
    if elapsed < -SKEW:
        return 0.0  # this machine's clock cannot count the pause, and a VM that never starts is worse
    return min(pause, max(0.0, pause - elapsed))


def events(records: Iterable[PreemptionRecord], cut: tuple[PreemptionRecord, ...]) -> tuple[Event, ...]:
    """Google took the VM away: one Event each. `cut` are the boots that were cut short."""

    def told(record: PreemptionRecord) -> str:
        text = f"the VM was preempted in {record.zone} at {record.at}"
        if record not in cut:
            return text
        number = cut.index(record) + 1
        return f"{text}, before it served: {number}{' or more' if number == RECENT else ''} in a row"

    return tuple(Event("Normal", str(Reason.PREEMPTED), told(record)) for record in records)
