"""From the outcome of a pass to the status, the merge patch that writes it and the Events that tell of it.

Pure. The status is written once per pass and only if it changed; times are written only where something
flipped.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

from pydantic import ValidationError

from budget_operator.core import pause
from budget_operator.core.actions import Room
from budget_operator.core.api import (
    Availability,
    Condition,
    Cost,
    Drill,
    Outage,
    Preemptions,
    RevisionStatus,
    Status,
)
from budget_operator.core.conditions import (
    ABNORMAL,
    DEPENDENCIES,
    IN_MOTION,
    Reason,
    Type,
    Verdict,
    Verdicts,
    because,
    find,
    is_true,
    is_warning,
    kept,
    merged,
    not_seen,
    ready,
)
from budget_operator.core.desired import WANTED_CHANGING, WANTED_RUNNING, Pause
from budget_operator.core.errors import BudgetError, CapacityExhausted, Disposition, Unavailable
from budget_operator.core.names import LABEL_SCHEDULE, LABEL_WANTED
from budget_operator.core.observed import Instance, InstanceStatus
from budget_operator.core.serving import Serving, sentence
from budget_operator.core.steps import Observation, Outcome

SERVED = frozenset({"Serving", "Updating", "Restarting"})
WAITS_FOR_CHANGE = "waits for a change; Stalled tells which"
SILENCE = Unavailable("the project could not be looked at")


@dataclass(frozen=True)
class Facts:
    """Everything one pass found out."""

    generation: int
    now: datetime
    target: str | None  # the wanted revision; None if the spec cannot work or what it refers to was not seen
    login_secret: str | None
    logs: str | None
    ca: str
    stall: BudgetError | None
    seen: Observation | None  # None: the cloud could not be looked at
    outcome: Outcome
    serving: Serving
    preemptions: Preemptions
    timeline: tuple[Outage, ...]
    availability: Availability | None
    drill: Drill | None
    schedule_label: str  # of the VMs that the keep-alive starts
    pause: Pause | None = None  # why it is to be off
    budget: Verdict | None = None  # None: it has none
    cost: Cost | None = None  # None: nothing new is known of it
    hindrance: BudgetError | None = None  # why the target is not known although the spec may work


def read(document: Mapping[str, Any]) -> Status:
    """The status of a live object; one that is not readable counts as lost."""
    try:
        return Status.model_validate(document.get("status") or {})
    except ValidationError:
        return Status()


def dump(status: Status) -> dict[str, Any]:
    """The status as it travels."""
    return status.model_dump(mode="json", by_alias=True, exclude_none=True)


def merge_patch(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON merge patch from one to the other; empty if nothing changed. Nulls remove keys."""
    patch: dict[str, Any] = {key: None for key in before if key not in after}
    for key, value in after.items():
        old = before.get(key)
        if isinstance(value, Mapping) and isinstance(old, Mapping):
            inner = merge_patch(old, value)
            if inner:
                patch[key] = inner
        elif key not in before or old != value:
            patch[key] = value
    return patch


def build(before: Status, facts: Facts) -> Status:
    """The status after a pass over a deployment that should be there."""
    verdicts = judge(before, facts)
    instance = facts.seen.instance if facts.seen is not None else None
    ip = address_of(before, facts.seen, facts.outcome)
    target = facts.target or before.revision.target
    intent = facts.outcome.intent
    zone = instance.zone if instance is not None else (intent.zone if intent else None)
    unseen = facts.seen is None or (instance is None and Room.INSTANCE in facts.outcome.unseen)
    model = instance.provisioning if instance is not None else None
    return before.model_copy(
        update={
            "state": state(before, facts),
            "endpoint": (facts.serving.url or before.endpoint or f"https://{ip}") if ip else None,
            "ip": ip,
            "zone": before.zone if unseen else zone,
            "provisioning": before.provisioning if unseen else model,
            "login_secret": facts.login_secret or before.login_secret,
            "ca_certificate": facts.ca or None,
            "revision": RevisionStatus(target=target, active=facts.serving.active),
            "observed_generation": facts.generation,
            "conditions": merged(before.conditions, verdicts, facts.generation, facts.now),
            "boot": facts.serving.boot,
            "logs": facts.logs or before.logs,
            "preemptions": facts.preemptions,
            "timeline": facts.timeline,
            "availability": facts.availability,
            "drill": facts.drill,
            "replacement": facts.serving.replacement,
            "cost": facts.cost or before.cost,
            "last_failure": facts.serving.failure,
            "instance": intent,
        }
    )


def judge(before: Status, facts: Facts) -> Verdicts:
    """Every condition."""
    stall = stalling(facts)
    verdicts: dict[Type, Verdict] = {
        Type.ARTIFACT_UPLOADED: _artifact(before, facts),
        Type.KEEP_ALIVE_ARMED: _keep_alive(before, facts),
        Type.INSTANCE_RUNNING: _instance(before, facts),
        Type.MODEL_SERVING: _model(facts),
        Type.CERTIFICATE_VALID: facts.serving.certificate,
        **({} if facts.budget is None else {Type.WITHIN_BUDGET: facts.budget}),
    }
    verdicts[Type.READY] = ready(verdicts)
    verdicts[Type.RECONCILING] = _reconciling(facts, stall, verdicts)
    verdicts[Type.STALLED] = Verdict("False", Reason.UP_TO_DATE) if stall is None else because(stall, "True")
    return verdicts


def stalling(facts: Facts) -> BudgetError | None:
    """The error that only the owner of the object, or of the project, can mend."""
    if facts.stall is not None:
        return facts.stall
    uncounted = _uncounted(facts)
    problems = (*facts.outcome.problems.values(), *([uncounted] if uncounted is not None else []))
    return next((error for error in problems if error.stalls), None)


def _artifact(before: Status, facts: Facts) -> Verdict:
    problem = facts.outcome.problems.get(Room.ARTIFACT)
    if facts.target is None or Room.ARTIFACT in facts.outcome.unseen:
        return _not_looked_at(before, facts, Type.ARTIFACT_UPLOADED, problem)
    if problem is not None:
        passing = problem.disposition is not Disposition.STALL
        if passing and is_true(before.conditions, Type.ARTIFACT_UPLOADED):
            # An earlier revision lies there and serves; Reconciling tells why the new one does not.
            return kept(before.conditions, Type.ARTIFACT_UPLOADED, problem.message)
        return because(problem)
    step = facts.outcome.open.get(Room.ARTIFACT)
    if step is not None:
        return Verdict("False", step.reason, step.message)
    return Verdict("True", Reason.UPLOADED, "code and credentials lie in the bucket")


def _keep_alive(before: Status, facts: Facts) -> Verdict:
    skipped = _skipped(before, facts)
    if skipped is not None:
        return skipped
    problem = facts.outcome.problems.get(Room.KEEP_ALIVE)
    if facts.target is None or Room.KEEP_ALIVE in facts.outcome.unseen:
        return _not_looked_at(before, facts, Type.KEEP_ALIVE_ARMED, problem)
    if problem is not None:
        return because(problem)
    step = facts.outcome.open.get(Room.KEEP_ALIVE)
    armed = is_true(before.conditions, Type.KEEP_ALIVE_ARMED)
    if step is not None and step.reason == Reason.FUNCTION_DEPLOYING and armed:
        # The function that is there works on until its next version is built.
        return kept(before.conditions, Type.KEEP_ALIVE_ARMED, step.message)
    if step is not None:
        return Verdict("False", step.reason, step.message)
    return Verdict("True", Reason.ARMED, "a stopped VM is started without the operator")


def _skipped(before: Status, facts: Facts) -> Verdict | None:
    """The keep-alive goes by the VM's own labels: with other ones it would leave the VM alone.

    So it does for some seconds with one that moves. While no zone has room, and it is tried again and again,
    that is no news.
    """
    instance = facts.seen.instance if facts.seen is not None else None
    if instance is None:
        return None
    again = isinstance(facts.outcome.problems.get(Room.INSTANCE), CapacityExhausted)
    if instance.destination and not (again and is_true(before.conditions, Type.KEEP_ALIVE_ARMED)):
        message = f"the keep-alive would not start {instance.name}, which moves to {instance.destination}"
        return Verdict("False", Reason.MOVING, message)
    if facts.pause is not None and instance.labels.get(LABEL_WANTED) == facts.pause.label:
        assert facts.seen is not None
        leaves = Verdict("False", facts.pause.reason, f"the keep-alive leaves {instance.name} off")
        return pause.verdict(facts.pause, facts.seen) if _sleeps(facts) else leaves
    wanted, schedule = instance.labels.get(LABEL_WANTED), instance.labels.get(LABEL_SCHEDULE)
    if wanted in (WANTED_RUNNING, WANTED_CHANGING) and schedule == facts.schedule_label:
        return None
    message = f"the keep-alive would not start {instance.name}: it has {LABEL_WANTED}={wanted or ''}"
    if schedule != facts.schedule_label:
        message += f" and {LABEL_SCHEDULE}={schedule or ''} instead of {facts.schedule_label}"
    problem = facts.outcome.problems.get(Room.INSTANCE)
    if problem is not None:
        return Verdict("False", problem.reason, f"{message}; {problem.sentence}")
    return Verdict("False", Reason.ARMING, message)


def _instance(before: Status, facts: Facts) -> Verdict:
    instance = facts.seen.instance if facts.seen is not None else None
    if instance is not None and instance.status is InstanceStatus.RUNNING:
        return Verdict("True", Reason.RUNNING, f"{instance.name} runs in {instance.zone}")
    if facts.seen is not None and facts.pause is not None and _sleeps(facts):
        return pause.verdict(facts.pause, facts.seen)
    return _not_running(before, facts, instance)


def _not_running(before: Status, facts: Facts, instance: Instance | None) -> Verdict:
    problem = facts.outcome.problems.get(Room.INSTANCE)
    if facts.seen is None or (instance is None and Room.INSTANCE in facts.outcome.unseen):
        return not_seen(before.conditions, Type.INSTANCE_RUNNING, problem or SILENCE)
    if problem is not None:
        return because(problem)
    step = facts.outcome.open.get(Room.INSTANCE)
    if step is not None:
        return Verdict("False", step.reason, step.message)
    cause = facts.stall or facts.hindrance
    if cause is not None and instance is None:
        return because(cause)
    what = f"{instance.name} is {instance.status}" if instance is not None else "there is no VM yet"
    return Verdict("False", Reason.PROVISIONING, what)


def _sleeps(facts: Facts) -> bool:
    """It is off, as it should be."""
    return facts.pause is not None and pause.is_off(facts.seen, facts.outcome)


def _model(facts: Facts) -> Verdict:
    """Where the VM cannot be looked at, that may be why nobody starts it."""
    verdict, problem = facts.serving.model, facts.outcome.problems.get(Room.INSTANCE)
    hidden = facts.seen is None or facts.seen.instance is None
    if (
        verdict.status != "False"
        or problem is None
        or not hidden
        or Room.INSTANCE not in facts.outcome.unseen
    ):
        return verdict
    return replace(verdict, message=f"{verdict.message}; the VM cannot be looked at: {problem.sentence}")


def _not_looked_at(before: Status, facts: Facts, kind: Type, problem: BudgetError | None) -> Verdict:
    if facts.stall is not None and not is_true(before.conditions, kind):
        return because(facts.stall)
    return not_seen(before.conditions, kind, problem or facts.hindrance or SILENCE)


def _reconciling(facts: Facts, stall: BudgetError | None, verdicts: Verdicts) -> Verdict:
    if stall is not None:
        return Verdict("False", stall.reason, WAITS_FOR_CHANGE)
    told = [
        *((error.reason, error.sentence) for error in facts.outcome.problems.values()),
        *((step.reason, step.message) for step in facts.outcome.open.values()),
        *([] if _sleeps(facts) else _changing(facts)),
    ]
    uncounted = _uncounted(facts)
    if uncounted is not None:
        told.append((uncounted.reason, uncounted.sentence))
    if told:
        return Verdict("True", *told[0])
    if facts.pause is not None and _sleeps(facts):
        return Verdict("False", facts.pause.reason)
    if verdicts[Type.READY].status != "True":
        return Verdict("True", verdicts[Type.READY].reason, verdicts[Type.READY].message)
    return Verdict("False", Reason.UP_TO_DATE)


def _changing(facts: Facts) -> list[tuple[str, str]]:
    """What the VM is still about to do."""
    serving = facts.serving
    if serving.model.status != "True":
        return [(serving.model.reason, serving.model.message)]
    if not serving.updates(facts.target):
        return [] if serving.lag is None else [(serving.lag.reason, serving.lag.message)]
    if serving.failure is not None:
        message = f"revision {facts.target} failed, {serving.active} serves on: {sentence(serving.failure)}"
        return [(serving.failure.reason, message)]
    return [(Reason.UPDATING, f"revision {serving.active} serves until {facts.target} does")]


def _uncounted(facts: Facts) -> BudgetError | None:
    """Why preemptions are missed; nothing else waits for it."""
    return facts.seen.inventory.problems.get("power") if facts.seen is not None else None


def state(before: Status, facts: Facts) -> str:
    """One word for people."""
    if stalling(facts) is not None:
        return "Stalled"
    if facts.seen is None:
        return before.state or "Pending"
    if facts.pause is not None and _sleeps(facts):
        return facts.pause.state
    serving = facts.serving
    if serving.model.status == "True":
        return "Updating" if serving.in_motion(facts.target) else "Serving"
    if serving.failure is not None and serving.model.reason not in IN_MOTION:
        return "Failed"
    return _state_on_the_way(before, facts, facts.seen.instance)


def _state_on_the_way(before: Status, facts: Facts, instance: Instance | None) -> str:
    if before.state in SERVED and before.ip:
        return "Restarting"
    making = facts.outcome.intent is not None
    if instance is None:
        return "Provisioning" if making else "Pending"
    return "Starting" if instance.status is InstanceStatus.RUNNING or not making else "Provisioning"


def address_of(before: Status, seen: Observation | None, outcome: Outcome) -> str | None:
    """Where callers are sent: to the VM's address, or to the one that it is about to get."""
    if seen is None:
        return before.ip
    if seen.instance is not None and seen.instance.external_ip:
        return seen.instance.external_ip
    if seen.address is not None:
        return seen.address.address or None
    return before.ip if Room.INSTANCE in outcome.unseen else None


def deleting(before: Status, generation: int, outcome: Outcome, now: datetime, ignored: str = "") -> Status:
    """The status of a deployment that is being removed. `ignored`: what its owner asked for in vain."""
    message, reason = "the deployment is being deleted", str(Reason.DELETING)
    for step in outcome.open.values():
        message = step.message
        break
    for error in outcome.problems.values():
        message, reason = error.sentence, error.reason
        break
    if ignored:
        message = f"{message}; {ignored}"
    verdicts = _before(before)
    verdicts[Type.READY] = Verdict("False", Reason.DELETING, message)
    verdicts[Type.RECONCILING] = Verdict("True", reason, message)
    verdicts[Type.STALLED] = Verdict("False", Reason.UP_TO_DATE)
    if any(error.stalls for error in outcome.problems.values()):
        verdicts[Type.RECONCILING] = Verdict("False", reason, WAITS_FOR_CHANGE)
        verdicts[Type.STALLED] = Verdict("True", reason, message)
    return before.model_copy(
        update={
            "state": "Deleting",
            "observed_generation": generation,
            "conditions": merged(before.conditions, verdicts, generation, now),
            "instance": outcome.intent,
        }
    )


def elsewhere(before: Status, generation: int, error: BudgetError, now: datetime) -> Status:
    """The status of a deployment of an installation that another cluster has."""
    verdicts = _before(before)
    verdicts[Type.READY] = Verdict("False", error.reason, error.message)
    verdicts[Type.RECONCILING] = Verdict("False", error.reason, WAITS_FOR_CHANGE)
    verdicts[Type.STALLED] = Verdict("True", error.reason, error.message)
    conditions = merged(before.conditions, verdicts, generation, now)
    return before.model_copy(
        update={"state": "Stalled", "observed_generation": generation, "conditions": conditions}
    )


def _before(before: Status) -> dict[Type, Verdict]:
    """What was known, for a pass that looks no further."""
    found = {kind: find(before.conditions, kind) for kind in Type}
    return {kind: Verdict(old.status, old.reason, old.message) for kind, old in found.items() if old}


@dataclass(frozen=True)
class Event:
    """One Kubernetes Event."""

    kind: Literal["Normal", "Warning"]
    reason: str
    message: str


def events(before: Iterable[Condition], after: Iterable[Condition]) -> tuple[Event, ...]:
    """One Event per condition whose status or reason changed; where several tell the same, of the first only.

    What was never there is no news, and Reconciling and Stalled are only where they warn of what none of the
    others tells.
    """
    old, now = {condition.type: condition for condition in before}, tuple(after)
    known = {_cause(each) for each in now if each.type not in ABNORMAL}
    told: dict[tuple[str, str], Event] = {}
    for condition in now:
        cause = _cause(condition)
        if cause in told or (condition.type in ABNORMAL and cause in known):
            continue
        was = old.get(condition.type)
        if was is not None and (was.status, was.reason) == (condition.status, condition.reason):
            continue
        warning = is_warning(condition)
        if not warning and (condition.type in ABNORMAL or (was is None and condition.status != "True")):
            continue
        message = f"{condition.type}={condition.status}: {condition.message or condition.reason}"
        told[cause] = Event("Warning" if warning else "Normal", str(condition.reason), message)
    return tuple(told.values())


def _cause(condition: Condition) -> tuple[str, str]:
    """Reason and message; `Ready` repeats those of the condition that is its cause, after its name."""
    message = condition.message or condition.reason
    kind, _, rest = message.partition(": ")
    repeated = condition.type == Type.READY and kind in DEPENDENCIES
    return condition.reason, rest if repeated else message


def recreation(serving: Serving) -> tuple[Event, ...]:
    """Callers were without an answer for the time of a load: one Event when it is over."""
    if serving.recreated is None:
        return ()
    message = (
        f"memory does not hold two models, so the one before was stopped before revision {serving.recreated} "
        "was loaded; a larger spec.machine.type updates without a pause"
    )
    return (Event("Warning", str(Reason.RECREATED_FOR_MEMORY), message),)


def replacement(before: Status, serving: Serving) -> tuple[Event, ...]:
    """One Event for each image that was replaced: callers were without an answer."""
    told = serving.replacement
    if told is None or told == before.replacement:
        return ()
    message = f"{told.image} took the place of another image; nobody was answered for {told.down_seconds:g} s"
    return (Event("Normal", str(Reason.IMAGE_REPLACED), message),)


def instance_is_running(instance: Instance | None, unseen: bool) -> bool | None:
    """True, False, or None where it could not be seen."""
    if instance is not None:
        return instance.status is InstanceStatus.RUNNING
    return None if unseen else False
