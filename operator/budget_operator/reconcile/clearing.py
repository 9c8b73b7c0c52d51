"""Removes orphans, one after the other. Each is looked at again right before: it must be the same one, still
bear the mark, and still have no owner; and the installation must still be this cluster's.
"""

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

from budget_operator.core import actions
from budget_operator.core.actions import Action
from budget_operator.core.errors import BudgetError, NotFound, Unavailable
from budget_operator.core.gateways import Cloud
from budget_operator.core.observed import Inventory, OperationRef
from budget_operator.core.operations import operation_error
from budget_operator.core.orphans.model import (
    ROOTS,
    End,
    Found,
    Kind,
    Outcome,
    Report,
    Resource,
    Seen,
    Verdict,
    resources,
)
from budget_operator.core.orphans.verdicts import Judge
from budget_operator.core.ownership import OWNER_OBJECT
from budget_operator.core.removal import OUR_PREFIXES
from budget_operator.reconcile.execution import Means
from budget_operator.reconcile.orphans import Survey
from budget_operator.reconcile.ownership import Ownership

LONGEST = timedelta(minutes=5)  # until an orphan is gone; a function takes a minute or two
PAUSE = 2.0
_LIVE_BY_A_VM = {Kind.DISK, Kind.ADDRESS, Kind.OBJECTS}
_SHARED = {Kind.JOB, Kind.FUNCTION, Kind.TOPIC, Kind.FIREWALL, Kind.BUCKET}


class Clearing:
    """Of what one report has found."""

    def __init__(
        self,
        survey: Survey,
        means: Means,
        report: Report,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._survey = survey
        self._means = means
        self._report = report
        self._sleep = sleep
        self._seen = report.seen
        self._cloud: Cloud = means.cloud
        self._ownership = Ownership(survey.settings, survey.kube, means.cloud, means.clock, means.wall)

    def run(self) -> Iterator[Outcome]:
        """Each orphan's end, as it comes."""
        for found in self._report.orphans:
            try:
                yield self._clear(found)
            except BudgetError as error:
                yield Outcome(found, End.FAILED, error.message)

    def _clear(self, found: Found) -> Outcome:
        of = found.resource
        self._look(of)
        now = self._present(of)
        if now is None:
            return Outcome(found, End.GONE, "not there any more, or without our mark")
        why = self._changed(of, now) or self._needed(of)
        if why:
            return Outcome(found, End.LEFT, why)
        self._hold()
        self._means.fence()
        for action in self._steps(of):
            with suppress(NotFound):  # somebody was faster
                ref = action.perform(self._cloud, str(uuid.uuid4()))
                if ref is not None:
                    self._wait_for(ref)
        self._wait_until_gone(of)
        return Outcome(found, End.DELETED)

    def _look(self, of: Resource) -> None:
        """Put what there is of it now into what was seen."""
        self._seen = _renewed(self._seen, of, self._cloud, self._survey.shared.owns)

    def _present(self, of: Resource) -> Resource | None:
        same = (of.kind, of.name, of.place)
        found = resources(self._seen, self._survey.shared)
        return next((each for each in found if (each.kind, each.name, each.place) == same), None)

    def _changed(self, was: Resource, now: Resource) -> str:
        """Why it is not the orphan that it was; empty if it is."""
        if now.id != was.id:
            return "it is not the one that was listed: somebody has made another one, or changed it"
        if was.kind is Kind.DISK and not now.loose:
            return "a VM has it"
        self._seen = replace(self._seen, owners=self._survey.owners())
        judged = Judge(self._seen, self._survey.shared, self._means.wall()).verdict(now)
        if judged is None:
            return "a BudgetDeployment owns it now"
        verdict, why = judged
        return "" if verdict is Verdict.ORPHAN else why

    def _needed(self, of: Resource) -> str:
        """What has to go before it; empty if nothing has."""
        left = [each for each in resources(self._seen, self._survey.shared) if each.ours]
        if of.kind in _LIVE_BY_A_VM and any(
            each.kind is Kind.INSTANCE and each.key == of.key and not of.loose for each in left
        ):
            return "its VM is still there"
        if of.kind not in _SHARED:
            return ""
        kinds = {Kind.INSTANCE, Kind.DISK, Kind.ADDRESS}
        if of.kind is Kind.BUCKET:  # it holds the installation for this cluster: nothing goes after it
            kinds |= {Kind.OBJECTS, *_SHARED} - {Kind.BUCKET}
            if self._seen.unseen:
                return f"not everything could be seen: {next(iter(self._seen.unseen.values()))}"
        first = next((each for each in left if each.kind in kinds), None)
        if first is not None:
            return f"{first.kind} {first.name} is still there"
        others = self._others() if of.kind is Kind.BUCKET else 0
        return f"it holds {others} objects that are not ours" if others else ""

    def _others(self) -> int:
        """Objects that would go with the bucket and were never listed as orphans."""
        shared = tuple(prefix for prefix in OUR_PREFIXES if prefix not in ROOTS)
        names = [each.name for each in self._seen.objects or ()]
        return sum(not name.startswith(shared) and name != OWNER_OBJECT for name in names)

    def _hold(self) -> None:
        """Raises OwnedElsewhere where the installation is not this cluster's any more."""
        storage = self._cloud.storage
        inventory = Inventory(self._means.clock(), bucket=storage.bucket(), owner=storage.read(OWNER_OBJECT))
        self._ownership.hold(inventory)

    def _steps(self, of: Resource) -> Iterator[Action]:
        if of.kind is Kind.OBJECTS:
            held = [each.name for each in self._seen.objects or ()]
            yield from (actions.DeleteObject(name) for name in held if name.startswith(of.name))
        elif not self._is_going(of):
            yield _ACTIONS[of.kind](of)

    def _is_going(self, of: Resource) -> bool:
        """A function that is being deleted cannot be deleted once more."""
        function = self._seen.inventory.function
        return of.kind is Kind.FUNCTION and function is not None and function.state == "DELETING"

    def _wait_for(self, ref: OperationRef) -> None:
        until = self._means.clock() + LONGEST
        while self._means.clock() < until:
            state = self._cloud.compute.operation(ref)
            error = operation_error(state) if state is not None else None
            if error is not None:
                raise error
            if state is None or state.done:
                return
            self._sleep(PAUSE)
        raise Unavailable(f"{ref.doing or ref.name} goes on for longer than {LONGEST.seconds // 60} minutes")

    def _wait_until_gone(self, of: Resource) -> None:
        until = self._means.clock() + LONGEST
        while self._means.clock() < until:
            self._look(of)
            if self._present(of) is None:
                return
            self._sleep(PAUSE)
        raise Unavailable(f"it is still there {LONGEST.seconds // 60} minutes after it was deleted")


_ACTIONS: dict[Kind, Callable[[Resource], Action]] = {
    Kind.INSTANCE: lambda of: actions.DeleteInstance(of.place, of.name),
    Kind.DISK: lambda of: actions.DeleteDisk(of.place, of.name),
    Kind.ADDRESS: lambda of: actions.ReleaseAddress(of.place, of.name),
    Kind.JOB: lambda of: actions.DeleteJob(of.name),
    Kind.FUNCTION: lambda of: actions.DeleteFunction(of.name),
    Kind.TOPIC: lambda of: actions.DeleteTopic(of.name),
    Kind.FIREWALL: lambda of: actions.DeleteFirewall(of.name),
    Kind.BUCKET: lambda _: actions.DeleteBucket(),
}


def _renewed(seen: Seen, of: Resource, cloud: Cloud, is_ours: Callable[..., bool]) -> Seen:
    """The same with what there is of one resource now; what has lost our mark is not in it."""
    inventory, at = seen.inventory, (of.place, of.name)
    match of.kind:
        case Kind.INSTANCE:
            vm = cloud.compute.instance(*at)
            rest = [each for each in inventory.instances if (each.zone, each.name) != at]
            instances = (*rest, *([vm] if vm is not None and is_ours(vm.labels) else []))
            return replace(seen, inventory=replace(inventory, instances=instances))
        case Kind.DISK:
            disk = cloud.compute.disk(*at)
            others = [each for each in seen.disks if (each.zone, each.name) != at]
            return replace(seen, disks=(*others, *([disk] if disk and is_ours(disk.labels) else [])))
        case Kind.ADDRESS:
            ip = cloud.compute.address(*at)
            kept = [each for each in inventory.addresses if (each.region, each.name) != at]
            addresses = (*kept, *([ip] if ip is not None and is_ours(ip.labels) else []))
            return replace(seen, inventory=replace(inventory, addresses=addresses))
        case Kind.OBJECTS:
            beside = [each for each in seen.objects or () if not each.name.startswith(of.name)]
            return replace(seen, objects=(*beside, *cloud.storage.contents(of.name)))
        case _:
            return _shared_renewed(seen, of, cloud)


def _shared_renewed(seen: Seen, of: Resource, cloud: Cloud) -> Seen:
    inventory = seen.inventory
    match of.kind:
        case Kind.JOB:
            inventory = replace(inventory, job=cloud.scheduler.job(of.name))
        case Kind.FUNCTION:
            inventory = replace(inventory, function=cloud.functions.function(of.name))
        case Kind.TOPIC:
            inventory = replace(inventory, topic=cloud.pubsub.topic(of.name))
        case Kind.FIREWALL:
            inventory = replace(inventory, firewall=cloud.compute.firewall(of.name))
        case _:
            objects = cloud.storage.contents("")
            seen = replace(seen, objects=objects)
            inventory = replace(inventory, bucket=cloud.storage.bucket())
    return replace(seen, inventory=inventory)
