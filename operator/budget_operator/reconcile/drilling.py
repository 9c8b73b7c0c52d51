"""Drills of one pass: begins the one that is asked for, and follows the one that is under way.

What is decided is in `core.drill`. Like a VM's making, the call is written down before it is made, with its
request id: a pass after a crash makes the same call, of which Google knows that it is the same.
"""

import uuid
from collections.abc import Callable, Sequence
from datetime import datetime

from budget_operator.core import drill
from budget_operator.core.api import Drill, Outage, Status
from budget_operator.core.conditions import timestamp
from budget_operator.core.errors import BudgetError, Disposition
from budget_operator.core.memory import Memory
from budget_operator.core.observed import Instance, OperationRef, PowerChange
from budget_operator.core.operations import operation_error
from budget_operator.reconcile.execution import Means


class Drilling:
    """Of one pass over one deployment. `persist` writes a drill to the status at once."""

    def __init__(self, means: Means, memory: Memory, persist: Callable[[Drill], None]) -> None:
        self._means = means
        self._memory = memory
        self._persist = persist

    def begin(self, value: str, before: Status, instance: Instance | None, *, busy: bool) -> Drill:
        """One that was asked for: its call is made, or it says why not."""
        now = self._means.wall()
        why = drill.obstacle(before, instance, now, busy=busy)
        if why is not None or instance is None:
            return drill.refused(value, now, why or "")
        wanted = Drill(
            value=value,
            at=timestamp(now),
            state="Requested",
            zone=instance.zone,
            request_id=str(uuid.uuid4()),
        )
        self._persist(wanted)
        return self._call(wanted, instance)

    def follow(
        self,
        begun: Drill,
        instance: Instance | None,
        power: Sequence[PowerChange],
        outages: Sequence[Outage],
    ) -> Drill:
        """How far it is; the call is made again if nobody knows whether it was."""
        now = self._means.wall()
        after = drill.followed(begun, instance, power, outages, now)
        if after.state == "Running" and after.steps is None:
            return self._polled(after, now)
        if after.state == "Requested" and instance is not None:
            return self._call(after, instance)
        return after

    def _call(self, wanted: Drill, instance: Instance) -> Drill:
        self._means.fence()
        try:
            started = self._means.cloud.compute.simulate_maintenance(
                wanted.zone or instance.zone, instance.name, wanted.request_id or ""
            )
        except BudgetError as error:
            return self._failed(wanted, error, self._means.wall())
        finally:
            self._memory.acted_at = self._means.clock()
        return wanted.model_copy(update={"state": "Running", "operation": started.name})

    def _polled(self, begun: Drill, now: datetime) -> Drill:
        """Nothing was preempted yet: the call may have ended with an error."""
        ref = OperationRef(begun.operation or "", f"zones/{begun.zone}", "preempt the VM")
        try:
            state = self._means.cloud.compute.operation(ref)
        except BudgetError:  # what was preempted tells as well
            return begun
        error = operation_error(state) if state is not None else None
        return begun if error is None else self._failed(begun, error, now)

    def _failed(self, wanted: Drill, error: BudgetError, now: datetime) -> Drill:
        """Where the call may still succeed it stays to be made."""
        if error.disposition is Disposition.BACK_OFF:
            return wanted
        return drill.refused(wanted.value, now, f"{error.message}; {error.remedy}".rstrip("; "))
