"""Runs a plan's steps without waiting for anything: request ids, operations in flight, pauses, isolation of
the rooms. What the steps are is decided by `plan` and `removal`.
"""

import logging
import random
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from budget_operator.core import errors
from budget_operator.core.actions import (
    Action,
    Copy,
    DeleteObject,
    InsertInstance,
    Room,
    SetMachineType,
    StartInstance,
    Upload,
)
from budget_operator.core.api import Intent
from budget_operator.core.capacity import Capacity, Offer
from budget_operator.core.clocks import steady_clock, wall_clock
from budget_operator.core.errors import BudgetError, Disposition
from budget_operator.core.gateways import Cloud
from budget_operator.core.memory import Memory, Refusal, Started
from budget_operator.core.observed import OperationState
from budget_operator.core.operations import operation_error
from budget_operator.core.prices import table
from budget_operator.core.prices.model import PriceList
from budget_operator.core.steps import OPERATION, SOON, Outcome, Plan, Step

log = logging.getLogger(__name__)

# After these Google certainly made nothing: the next insert may be another one.
REFUSALS = (
    errors.CapacityExhausted,
    errors.QuotaExceeded,
    errors.PermissionDenied,
    errors.InvalidSpec,
    errors.NotFound,
)

# After these waiting helps nothing: the VM starts again with the type it had. Not ResourceNotReady: somebody
# started the VM in between.
TYPE_REFUSALS = (
    errors.InvalidSpec,
    errors.OperationFailed,
    errors.PermissionDenied,
    errors.QuotaExceeded,
)

TYPE_RETRY = "tried again when the VM is off, at the latest in a day, or after an edit of the spec"


@dataclass(frozen=True)
class Means:
    """What all passes of the process share."""

    cloud: Cloud
    clock: Callable[[], datetime] = steady_clock  # for ages and pauses
    wall: Callable[[], datetime] = wall_clock  # for what is written down
    jitter: Callable[[], float] = random.random  # between 0 and 1
    fence: Callable[[], None] = lambda: None  # does not return to a process that may not act any more
    capacity: Capacity = field(default_factory=Capacity)
    prices: Callable[[], PriceList] = table.shipped


class Execution:
    """Of one pass over one deployment. `persist` writes an insert's intent down before the insert is made."""

    def __init__(
        self,
        means: Means,
        memory: Memory,
        persist: Callable[[Intent], None],
    ) -> None:
        self._means = means
        self._memory = memory
        self._persist = persist
        self._outcome = Outcome({})
        self._failed: set[Room] = set()  # an action of theirs failed in this pass

    def poll(self) -> None:
        """Look at the operations in flight; one that failed is a trouble of its room.

        Comes before the picture is taken: what an operation's end has changed must be seen in it.
        """
        for resource, started in list(self._memory.operations.items()):
            unpolled = self._memory.unpolled.get(resource)
            if unpolled is not None and self._means.clock() < unpolled.until:
                continue
            try:
                state = self._means.cloud.compute.operation(started.ref)
            except BudgetError as error:  # told by whoever waits for it
                self._memory.note_unpolled(resource, error, self._means.clock(), self._means.jitter())
                continue
            self._memory.unpolled.pop(resource, None)
            if state is not None and not state.done:
                continue
            del self._memory.operations[resource]
            self._memory.acted_at = self._means.clock()
            failure = operation_error(state, started.action.overtaken) if state else None
            if state is not None and failure is None and isinstance(started.action, StartInstance):
                self._means.capacity.admit(_offer(started.action))
            if failure is not None:
                self._note(started.room, started.action, failure, aside=started.aside)

    def insert_ended(self, state: OperationState, lost: InsertInstance) -> None:
        """An insert whose operation was in the status has ended without an instance."""
        failure = operation_error(state, lost.overtaken)
        if failure is not None:
            self._note(Room.INSTANCE, lost, failure)

    def run(self, plan: Plan, intent: Intent | None) -> Outcome:
        """Perform what is due."""
        self._outcome = Outcome(dict(plan.problems), plan.unseen, intent=intent)
        for room, error in plan.problems.items():
            now = self._means.clock()
            trouble = self._memory.note_seen(room, error, now, self._means.jitter())
            self._outcome.again((trouble.until - now).total_seconds())
        closed: set[Room] = set()
        for room, step in plan.steps:
            if room in closed:
                self._leave_open(room, step)
            elif not self._step(room, step):
                closed.add(room)
        self._forget_troubles()
        return self._outcome

    def _forget_troubles(self) -> None:
        """Of rooms in which all is well: nothing is left to do, nothing failed and nothing may still fail."""
        busy = {started.room for started in self._memory.operations.values()}
        for room in set(Room) - busy - self._failed:
            if room not in self._outcome.problems and room not in self._outcome.open:
                self._memory.troubles.pop(room, None)

    def _leave_open(self, room: Room, step: Step) -> None:
        if not step.reason:
            return
        self._outcome.open.setdefault(room, step)
        trouble = self._memory.troubles.get(room)
        if trouble is not None and trouble.covers(self._attempted(room, step)):
            self._outcome.problems.setdefault(room, trouble.error)

    def _attempted(self, room: Room, step: Step) -> set[str]:
        """The keys of what the step does, and of what is under way in its room."""
        started = [each.action for each in self._memory.operations.values() if each.room is room]
        return {step.attempt, *(action.key for action in (*step.actions, *started))}

    def _step(self, room: Room, step: Step) -> bool:
        """One step; False if it could not be done and the room is closed for the rest of the pass.

        Nothing waits for a quiet step that lets later checks proceed: what it fails with keeps only such
        steps from being tried again.
        """
        now, aside = self._means.clock(), step.proceed and not step.reason
        resting = self._memory.resting(room, now)
        if resting is not None and ((resting.aside and not aside) or _helps(step, resting.error)):
            resting = None
        if resting is None and step.failure is not None and room not in self._memory.troubles:
            resting = self._memory.note(room, step.failure, now, self._means.jitter(), key=None)
        if resting is not None:
            self._outcome.problems.setdefault(room, resting.error)
            self._outcome.again((resting.until - now).total_seconds())
            self._leave_open(room, step)
            return resting.aside
        done = all(self._perform(room, action, aside=aside) for action in step.actions)
        if done and step.failure is not None:
            self._memory.note(room, step.failure, now, self._means.jitter(), key=None)
        if not (done and step.completes):
            self._leave_open(room, step)
        self._outcome.again(step.after)
        trouble = self._memory.resting(room, now)
        return done or (trouble is not None and trouble.aside)

    def _perform(self, room: Room, action: Action, *, aside: bool) -> bool:
        if action.resource and action.resource in self._memory.operations:
            self._wait_for(room, action.resource)
            return False
        if isinstance(action, InsertInstance):
            self._persist(action.intent)
            self._outcome.intent = action.intent
            request_id = action.intent.request_id
        else:
            request_id = self._memory.request_ids.setdefault(action.key, str(uuid.uuid4()))
        self._outcome.acted = True
        self._means.fence()
        try:
            started = action.perform(self._means.cloud, request_id)
        except BudgetError as error:
            self._refused(room, action, error, aside=aside)
            return False
        except Exception as error:
            log.exception("%s failed in a way that no gateway knows", action.key)
            unknown = BudgetError(f"{action.key}: {type(error).__name__}")
            self._refused(room, action, unknown, aside=aside)
            return False
        finally:
            self._memory.acted_at = self._means.clock()
            if action.shared:
                self._means.cloud.snapshots.forget()
        self._memory.request_ids.pop(action.key, None)
        if isinstance(action, InsertInstance) and started is not None:
            self._outcome.intent = action.intent.model_copy(update={"operation": started.name})
        elif started is not None:
            self._memory.operations[action.resource] = Started(room, action, started, aside)
        self._remember_object(action)
        return True

    def _wait_for(self, room: Room, resource: str) -> None:
        """For the operation in flight; what keeps its end from being seen is told."""
        unpolled = self._memory.unpolled.get(resource)
        if unpolled is not None:
            self._outcome.problems.setdefault(room, unpolled.error)
        self._outcome.again(poll_pause(self._memory, resource, self._means.clock()))

    def _refused(self, room: Room, action: Action, error: BudgetError, *, aside: bool) -> None:
        if error.disposition is not Disposition.BACK_OFF:
            self._memory.request_ids.pop(action.key, None)  # an answer came: the next attempt is another one
        if isinstance(action, InsertInstance) and (isinstance(error, REFUSALS) or _is_about_a_disk(error)):
            self._outcome.intent = None
        self._note(room, action, error, aside=aside)

    def _note(self, room: Room, action: Action, error: BudgetError, *, aside: bool = False) -> None:
        """Remember a failed call or operation."""
        now = self._means.clock()
        pause = self._learn(action, error, now)
        # Wherever room is looked for next: until there is some, nothing is new.
        key = None if isinstance(error, errors.CapacityExhausted) else action.key
        trouble = self._memory.note(room, error, now, self._means.jitter(), pause, aside=aside, key=key)
        self._failed.add(room)
        if not (error.disposition is Disposition.OBSERVE and trouble.attempts == 1):
            self._outcome.problems.setdefault(room, error)
        self._outcome.again((trouble.until - now).total_seconds())

    def _learn(self, action: Action, error: BudgetError, now: datetime) -> float | None:
        """What a failure teaches about zones and machine types; the pause after it if it has its own."""
        if action.destination and isinstance(error, (*REFUSALS, errors.OperationFailed)):
            self._memory.shun(action.destination, now)
        if isinstance(action, SetMachineType) and isinstance(error, TYPE_REFUSALS):
            if not isinstance(error, errors.InvalidSpec):
                error.retry = TYPE_RETRY
            self._memory.refused = Refusal(action.machine_type, error, now)
            return SOON  # the VM starts again with the type it had
        if isinstance(action, InsertInstance) and _is_about_a_disk(error):
            self._memory.disk_in_the_way = action.intent.zone
            return SOON  # it is looked at
        if isinstance(action, InsertInstance | StartInstance):
            return self._no_room(action, error, now)
        return None

    def _no_room(
        self, action: InsertInstance | StartInstance, error: BudgetError, now: datetime
    ) -> float | None:
        capacity, memory = self._means.capacity, self._memory
        if isinstance(error, errors.QuotaExceeded):
            capacity.rule_out(_offer(action), now)
        if not isinstance(error, errors.CapacityExhausted):
            return None
        capacity.refuse(_offer(action), now)
        if isinstance(action, InsertInstance):
            return SOON  # the next zone is tried at once
        if memory.start_refused != action.zone:
            memory.start_refused = action.zone
            self._outcome.again(SOON)  # perhaps it can move
        return None

    def _remember_object(self, action: Action) -> None:
        held = self._memory.objects
        if held is None:
            return
        if isinstance(action, Upload):
            self._memory.objects = {**held, action.blob.name: action.blob.content}
        elif isinstance(action, Copy):
            self._memory.objects = {**held, action.copied.name: action.copied.content}
        elif isinstance(action, DeleteObject):
            self._memory.objects = {name: each for name, each in held.items() if name != action.name}


def poll_pause(memory: Memory, resource: str, now: datetime) -> float:
    """Seconds until a resource's operation is to be looked at again."""
    unpolled = memory.unpolled.get(resource)
    return OPERATION if unpolled is None else max(0.0, (unpolled.until - now).total_seconds())


def _is_about_a_disk(error: BudgetError) -> bool:
    """Google names the resource that exists by its path: without room for the disk there is no VM."""
    return isinstance(error, errors.AlreadyExists) and "/disks/" in error.message


def _offer(action: InsertInstance | StartInstance) -> Offer:
    """What the zone is asked for."""
    wanted = action.request if isinstance(action, InsertInstance) else action
    return Offer(wanted.zone, wanted.machine_type, wanted.provisioning_model)


def _helps(step: Step, error: BudgetError) -> bool:
    """Whether the step is what helps against the error, so that its pause is none of it."""
    return step.despite is not None and isinstance(error, step.despite)
