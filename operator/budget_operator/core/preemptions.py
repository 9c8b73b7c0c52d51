"""How often Google took the VM away, and what follows from several preemptions in a row. Pure.

Which ones are new is found out by `timeline`: each is counted once, by its operation.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta

from budget_operator.core.api import Condition, Outage, Preemptions
from budget_operator.core.conditions import Reason, Type, find
from budget_operator.core.observed import PREEMPTED, PowerChange
from budget_operator.core.status import Event
from budget_operator.core.timeline import PREEMPTIONS_KEPT, Course, moment

RECENTLY = timedelta(hours=24)
SKEW = 60.0  # seconds by which clocks may differ without anything being wrong
FIRST_REST = 10.0  # seconds after the first boot that was cut short; doubled after each further one


def counted(
    before: Preemptions, course: Course, power: Iterable[PowerChange] | None, created: datetime, now: datetime
) -> Preemptions:
    """With those that were noticed. `power`: of the VM; None: it could not be looked at."""
    count = before.count + len(course.preempted)
    if power is None:
        return Preemptions(count=count, last_24h=before.last_24h)
    return Preemptions(count=count, last_24h=len(_recent(power, created, now)))


def _recent(power: Iterable[PowerChange], created: datetime, now: datetime) -> list[datetime]:
    """When the preemptions of the last 24 hours were."""
    times = [each.at for each in power if each.kind == PREEMPTED and each.at >= created]
    return [at for at in times if now - at < RECENTLY]


def until_forgotten(power: Iterable[PowerChange], created: datetime, now: datetime) -> timedelta:
    """Until the first of the last 24 hours is older than that."""
    return min((at + RECENTLY - now for at in _recent(power, created, now)), default=RECENTLY)


def cut_short(outages: Iterable[Outage], conditions: Iterable[Condition]) -> tuple[Outage, ...]:
    """Those since the model served last, without the one that ended that: boots that came to nothing."""
    serving = find(conditions, Type.MODEL_SERVING)
    if serving is None or serving.status == "True":
        return ()
    preempted = [each for each in outages if each.cause == "Preempted"][-PREEMPTIONS_KEPT:]
    return tuple(each for each in preempted if each.at > serving.last_transition_time)


def rest(outages: Iterable[Outage], conditions: Iterable[Condition], now: datetime) -> float:
    """Seconds until the operator starts the VM again: the more boots were cut short, the longer."""
    cut = cut_short(outages, conditions)
    if not cut:
        return 0.0
    pause = FIRST_REST * 2.0 ** (len(cut) - 1)
    elapsed = (now - moment(cut[-1].at)).total_seconds()
    if elapsed < -SKEW:
        return 0.0  # this machine's clock cannot count the pause, and a VM that never starts is worse
    return min(pause, max(0.0, pause - elapsed))


def events(preempted: Iterable[Outage], cut: tuple[Outage, ...]) -> tuple[Event, ...]:
    """Google took the VM away: one Event each. `cut` are the boots that were cut short."""
    order = [each.operation for each in cut]

    def told(outage: Outage) -> str:
        text = f"the VM was preempted in {outage.zone} at {outage.at}"
        if outage.operation not in order:
            return text
        number = order.index(outage.operation) + 1
        return (
            f"{text}, before it served: {number}{' or more' if number == PREEMPTIONS_KEPT else ''} in a row"
        )

    return tuple(Event("Normal", str(Reason.PREEMPTED), told(outage)) for outage in preempted)
