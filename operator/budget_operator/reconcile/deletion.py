"""One pass over a deployment that is being deleted: the finalizer goes when a fresh picture shows nothing.

What is still to be removed is decided by `removal`. What all deployments share goes with the last of them:
only while that is found out and acted on nobody else may come to the same conclusion, or use it.
"""

import logging
import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from datetime import timedelta
from typing import Literal

from budget_operator.core import actions, removal
from budget_operator.core import status as statuses
from budget_operator.core.actions import Room
from budget_operator.core.api import FINALIZER, Intent
from budget_operator.core.artifact import own_prefixes
from budget_operator.core.conditions import Reason
from budget_operator.core.errors import BudgetError, NotFound, Unavailable
from budget_operator.core.gateways import Document, Kubernetes
from budget_operator.core.memory import Memory
from budget_operator.core.names import LABEL_DELETION, LABEL_DEPLOYMENT, RETAIN, Owner, Shared
from budget_operator.core.observed import Disk, Instance, Inventory, OperationRef
from budget_operator.core.parting import Parting, ignored, parting
from budget_operator.core.settings import Settings
from budget_operator.core.steps import CHANGE, SOON, Outcome, Passed, Plan
from budget_operator.reconcile import observe
from budget_operator.reconcile.execution import Execution, Means, poll_pause
from budget_operator.reconcile.inputs import key_secret
from budget_operator.reconcile.ownership import Ownership

log = logging.getLogger(__name__)

# How long an insert that was decided but never confirmed may still bring a VM into being.
UNRESOLVED_GRACE = timedelta(seconds=30)
# Seconds after which a deletion that waits looks again, so that it says in time whose the installation is.
LONGEST_WAIT = 60.0


class Deletion:
    """Of one deployment."""

    def __init__(
        self,
        kube: Kubernetes,
        means: Means,
        settings: Settings,
        ownership: Ownership,
        owner: Owner,
        memory: Memory,
    ) -> None:
        self._kube = kube
        self._ownership = ownership
        self._means = means
        self._settings = settings
        self._owner = owner
        self._shared = Shared(settings.installation)
        self._memory = memory
        self._problems: dict[Room, BudgetError] = {}

    def run(self, document: Document, alone: Callable[[], AbstractContextManager[None]]) -> Passed:
        """The pass; it needs no other one once nothing is left."""
        apart = parting(
            document, statuses.read(document), self._owner, self._settings, key_secret(self._owner)
        )
        if apart is not None:
            return self._part(document, apart)
        self._memory.new_generation(int(document["metadata"].get("generation", 1)))
        execution = Execution(self._means, self._memory, _never)
        execution.poll()
        intent = statuses.read(document).instance
        last = self._is_last()
        self._memory.last_since = (self._memory.last_since or self._means.clock()) if last else None
        try:
            inventory = observe.snapshot(self._means.cloud, self._memory, self._means.clock())
        except BudgetError as error:
            return self._tell(document, execution.run(_blind(error), intent))
        intent, pending, extra = self._intent(intent, inventory)
        remains = self._remains(inventory, pending, extra, last=last)
        with alone() if last else nullcontext():
            if last and not self._is_last():
                remains = replace(remains, last=False)
            outcome = execution.run(self._plan(remains), intent)
        if outcome.open or outcome.problems or self._memory.operations or outcome.acted:
            return self._tell(document, outcome)
        with alone():  # of two that take each other for the next one, the second is the last
            if not last and self._is_last():
                return Passed(SOON)
            self._means.fence()
            self._kube.delete_secret(self._settings.system_namespace, key_secret(self._owner))
            self._let_go(document)
        return Passed(None)

    def _let_go(self, document: Document) -> None:
        self._means.fence()
        self._kube.remove_finalizer(document)

    def _plan(self, remains: removal.Remains) -> Plan:
        """Nothing is removed for an installation that is not known to be this cluster's.

        It is held while something is left: what is waited for stays ours. What is gone needs no owner.
        """
        planned = removal.plan(remains)
        if planned.steps or planned.problems:
            try:
                self._ownership.hold(remains.inventory)
            except BudgetError as error:
                return _blind(error)
        return planned

    def _part(self, document: Document, apart: Parting) -> Passed:
        """Let the object go. The key stays: it is of use with the VM alone.

        What is given up goes without a call to the cloud, and nothing else waits for an answer of it either.
        """
        message = apart.message
        if apart.reason is Reason.RETAINED:
            try:
                self._mark_as_retained()
            except BudgetError as error:
                message += f"; `budget-operator orphans` may not know that it was retained: {error.message}"
        log.warning("%s: %s", apart.reason, message)
        kind: Literal["Normal", "Warning"] = "Warning" if apart.reason is Reason.ABANDONED else "Normal"
        self._kube.event(document, kind, apart.reason, message)
        self._let_go(document)
        return Passed(None)

    def _mark_as_retained(self) -> None:
        """The VM says so already, unless the field was set only a moment ago."""
        inventory = observe.snapshot(self._means.cloud, self._memory, self._means.clock())
        mine = observe.own_instances(inventory, self._owner, ())
        silent = sorted(scope for scope in inventory.unknown if scope.startswith("zones/"))
        if not mine and silent:
            raise Unavailable(f"{silent[0]} does not answer")
        for vm in mine:
            if vm.labels.get(LABEL_DELETION) != RETAIN:
                self._ownership.hold(inventory)
                self._means.fence()
                mark = actions.SetLabels(vm.zone, vm.name, {LABEL_DELETION: RETAIN})
                mark.perform(self._means.cloud, str(uuid.uuid4()))

    def _is_last(self) -> bool:
        return not any(self._needs_shared(other) for other in self._kube.all_deployments())

    def _intent(
        self, intent: Intent | None, inventory: Inventory
    ) -> tuple[Intent | None, str, tuple[Instance, ...]]:
        """An insert that may still make a VM: (what is open of it, why to wait, a VM it made)."""
        if intent is None:
            return None, "", ()
        if any(vm.zone == intent.zone for vm in observe.own_instances(inventory, self._owner, ())):
            return None, "", ()
        try:
            ended = self._has_ended(intent)  # first, so that what it made is seen
            made = self._means.cloud.compute.instance(intent.zone, intent.name)
            if made is not None and self._owner.owns(made.labels):
                return None, "", (made,)
        except BudgetError as error:
            self._problems[Room.INSTANCE] = error
            return intent, "", ()
        return (None, "", ()) if ended else (intent, f"waits for the VM begun in {intent.zone}", ())

    def _has_ended(self, intent: Intent) -> bool:
        if intent.operation is not None:
            ref = OperationRef(intent.operation, f"zones/{intent.zone}")
            state = self._means.cloud.compute.operation(ref)
            return state is None or state.done
        now = self._means.clock()
        self._memory.unresolved_since = self._memory.unresolved_since or now
        return now - self._memory.unresolved_since >= UNRESOLVED_GRACE

    def _remains(
        self, inventory: Inventory, pending: str, extra: tuple[Instance, ...], *, last: bool
    ) -> removal.Remains:
        instances = observe.own_instances(inventory, self._owner, ()) + extra
        addresses = observe.own_addresses(inventory, self._owner)
        return removal.Remains(
            owner=self._owner,
            shared=self._shared,
            inventory=inventory,
            instances=instances,
            addresses=addresses,
            disks=() if instances or addresses or pending else self._disks(),
            pending=pending,
            objects=self._objects(inventory, last=last),
            last=last,
            problems=self._problems,
        )

    def _disks(self) -> tuple[Disk, ...]:
        """Ours, where somebody deleted a VM without its disk. One that is in use is somebody else's now."""
        label = LABEL_DEPLOYMENT
        try:
            found = self._means.cloud.compute.disks(label, self._owner.labels[label])
        except BudgetError as error:
            self._problems[Room.INSTANCE] = error
            return ()
        if found.unknown:
            what = f"{min(found.unknown)} does not answer: what lies there cannot be seen"
            self._problems[Room.INSTANCE] = Unavailable(what)
        return tuple(disk for disk in found.items if self._owner.owns(disk.labels) and not disk.users)

    def _needs_shared(self, other: Document) -> bool:
        """Any other deployment, also one that is being deleted until it has let go."""
        metadata = other["metadata"]
        if (metadata["namespace"], metadata["name"]) == (self._owner.namespace, self._owner.name):
            return False
        return not metadata.get("deletionTimestamp") or FINALIZER in metadata.get("finalizers", ())

    def _objects(self, inventory: Inventory, *, last: bool) -> tuple[str, ...]:
        if inventory.bucket is None:
            return ()
        prefixes = ("",) if last else own_prefixes(self._owner.cloud_name)
        try:
            return tuple(name for each in prefixes for name in self._means.cloud.storage.objects(each))
        except NotFound:
            return ()
        except BudgetError as error:
            self._problems[Room.ARTIFACT] = error
            return ()

    def _tell(self, document: Document, outcome: Outcome) -> Passed:
        before, now = statuses.read(document), self._means.wall()
        generation = int(document["metadata"].get("generation", 1))
        after = statuses.deleting(before, generation, outcome, now, ignored(document))
        patch = statuses.merge_patch(document.get("status") or {}, statuses.dump(after))
        if patch:
            document = self._kube.patch_status(document, patch)
            for event in statuses.events(before.conditions, after.conditions):
                self._kube.event(document, event.kind, event.reason, event.message)
        for resource in self._memory.operations:
            outcome.again(poll_pause(self._memory, resource, self._means.clock()))
        if outcome.acted:
            outcome.again(SOON)
        pause = CHANGE if outcome.after is None else min(outcome.after, LONGEST_WAIT)
        return Passed(pause, ok=not outcome.unseen, state=after.state or "")


def _blind(error: BudgetError) -> Plan:
    return Plan((), dict.fromkeys(Room, error), frozenset(Room))


def _never(intent: Intent) -> None:
    raise AssertionError(f"nothing is made while {intent.name} is being deleted")
