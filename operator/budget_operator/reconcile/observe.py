"""Looks at the cloud for one deployment and picks out what is its own. Never changes anything.

The shared picture comes from `Snapshots`; only what it cannot tell is looked up here: whether a stranger
holds a name, how an insert ended, which objects lie below the deployment's prefix.
"""

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

from budget_operator.core import errors
from budget_operator.core.actions import Room
from budget_operator.core.api import Intent
from budget_operator.core.artifact import objects_prefix
from budget_operator.core.checks.network import needed_region
from budget_operator.core.errors import BudgetError
from budget_operator.core.gateways import Cloud
from budget_operator.core.memory import Memory
from budget_operator.core.names import Owner
from budget_operator.core.observed import (
    Address,
    Contents,
    Disk,
    Instance,
    InstanceStatus,
    Inventory,
    OperationRef,
    OperationState,
)
from budget_operator.core.steps import Observation
from budget_operator.reconcile.shared import Taken

#: The objects of a deployment, from a list for all; None where that was not begun after this.
Listed = Callable[[Owner, datetime], Taken[Contents] | None]

FRESH = timedelta(seconds=5)  # how old a picture may be while something is in motion


def snapshot(cloud: Cloud, memory: Memory, now: datetime) -> Inventory:
    """A picture that shows everything this process did for the deployment."""
    return cloud.snapshots.snapshot(newer_than=newest(memory, now))


def resting(cloud: Cloud, memory: Memory, now: datetime) -> Inventory:
    """The picture that deployments at rest share, if it shows that as well: it costs no call of its own."""
    found, _ = cloud.snapshots.resting()
    return found if found.taken_at >= newest(memory, now) else snapshot(cloud, memory, now)


def newest(memory: Memory, now: datetime) -> datetime:
    """When a picture must have been begun to show that."""
    begun = memory.acted_at or memory.since
    if memory.last_since is not None:
        begun = max(begun, memory.last_since)
    if memory.motion_since is not None:
        begun = max(begun, now - FRESH)
    return begun


def own_instances(inventory: Inventory, owner: Owner, zones: tuple[str, ...]) -> tuple[Instance, ...]:
    """The deployment's instances, the one to keep first."""
    found = [vm for vm in inventory.instances_of(owner.cloud_name) if owner.owns(vm.labels)]
    return _ranked(found, zones)


def _ranked(found: Iterable[Instance], zones: tuple[str, ...]) -> tuple[Instance, ...]:
    def rank(instance: Instance) -> tuple[bool, bool, int, str]:
        """One that moves gives way to any other."""
        place = zones.index(instance.zone) if instance.zone in zones else len(zones)
        down = instance.status is not InstanceStatus.RUNNING
        return bool(instance.destination), down, place, instance.zone

    return tuple(sorted(found, key=rank))


def own_addresses(inventory: Inventory, owner: Owner) -> tuple[Address, ...]:
    """The deployment's addresses."""
    return tuple(found for found in inventory.addresses_of(owner.cloud_name) if owner.owns(found.labels))


class Observer:
    """Of one pass over one deployment."""

    def __init__(
        self, cloud: Cloud, owner: Owner, memory: Memory, clock: Callable[[], datetime], listed: Listed
    ) -> None:
        self._cloud = cloud
        self._owner = owner
        self._memory = memory
        self._clock = clock
        self._listed = listed
        self._problems: dict[Room, BudgetError] = {}
        self._strangers: list[str] = []

    def observe(
        self,
        inventory: Inventory,
        zones: tuple[str, ...],
        intent: Intent | None,
        *,
        making: bool,
        uploading: bool,
    ) -> Observation:
        """Complete the picture. `making`: what is missing will be made, so strangers are looked for."""
        instances = own_instances(inventory, self._owner, zones)
        ended = self._poll(intent)  # before the looks, so that what it made is seen
        if making and not instances:
            instances = self._look_for_instance(zones, intent)
        elif instances and instances[0].destination:
            intent, moved = self._look_for_moved(instances[0], intent)
            instances = (*moved, *instances)
        instance = instances[0] if instances else None
        intent, insert = self._insert(intent, ended, instances)
        region = needed_region(instance, intent, zones)
        addresses = own_addresses(inventory, self._owner)
        address = next((found for found in addresses if found.region == region), None)
        if address is None and making:
            address = self._look_for_address(region)
        left_disk = self._look_for_disk() if making and not instances else None
        return Observation(
            inventory=inventory,
            instance=instance,
            surplus=instances[1:],
            address=address,
            stale_addresses=tuple(found for found in addresses if found.region != region),
            strangers=tuple(self._strangers),
            objects=self._objects(inventory) if uploading else None,
            intent=intent,
            insert=insert,
            left_disk=left_disk,
            problems=self._problems,
        )

    def _look_for_instance(self, zones: tuple[str, ...], intent: Intent | None) -> tuple[Instance, ...]:
        """Ours where the picture is too old to show it; a stranger under our name is remembered."""
        name = self._owner.cloud_name
        found: list[Instance] = []
        for zone in dict.fromkeys((*([intent.zone] if intent else []), *zones)):
            try:
                seen = self._cloud.compute.instance(zone, name)
            except BudgetError as error:
                self._problems.setdefault(Room.INSTANCE, error)
                continue
            if seen is not None and self._owner.owns(seen.labels):
                found.append(seen)
            elif seen is not None:
                self._stranger(f"instance {name} in {zone}")
        return _ranked(found, zones)

    def _look_for_moved(
        self, old: Instance, intent: Intent | None
    ) -> tuple[Intent | None, tuple[Instance, ...]]:
        """What an instance has become where it moves to: nothing where a stranger has its name."""
        zone = old.destination if intent is None else intent.zone
        try:
            seen = self._cloud.compute.instance(zone, old.name)
        except BudgetError as error:
            self._problems.setdefault(Room.INSTANCE, error)
            return intent, ()
        if seen is None or self._owner.owns(seen.labels):
            return intent, () if seen is None else (seen,)
        self._memory.shun(zone, self._clock())
        return None, ()

    def _look_for_address(self, region: str) -> Address | None:
        name = self._owner.cloud_name
        try:
            seen = self._cloud.compute.address(region, name)
        except BudgetError as error:
            self._problems.setdefault(Room.INSTANCE, error)
            return None
        if seen is None or self._owner.owns(seen.labels):
            return seen
        self._stranger(f"address {name} in {region}")
        return None

    def _stranger(self, what: str, users: tuple[str, ...] = ()) -> None:
        why = f"is attached to {users[0]}" if users else "exists without the labels of this deployment"
        self._strangers.append(f"{what} {why}; it is left alone")

    def _look_for_disk(self) -> Disk | None:
        """That has the name of the next VM's, and is why the last try found it taken."""
        zone = self._memory.disk_in_the_way
        if not zone:
            return None
        try:
            found = self._cloud.compute.disk(zone, self._owner.cloud_name)
        except BudgetError as error:
            self._problems.setdefault(Room.INSTANCE, error)
            return None
        if found is None:
            self._memory.disk_in_the_way = ""
            return None
        if found.users or not self._owner.owns(found.labels):
            self._stranger(f"disk {found.name} in {zone}", found.users)
            return None
        return found

    def _poll(self, intent: Intent | None) -> OperationState | BudgetError | None:
        if intent is None or intent.operation is None:
            return None
        try:
            doing = f"create instance {intent.name} in {intent.zone}"
            ref = OperationRef(intent.operation, f"zones/{intent.zone}", doing)
            return self._cloud.compute.operation(ref)
        except BudgetError as error:
            return error

    def _insert(
        self,
        intent: Intent | None,
        state: OperationState | BudgetError | None,
        instances: tuple[Instance, ...],
    ) -> tuple[Intent | None, OperationState | None]:
        """The intent if it is still open, and its operation. What ended is forgotten."""
        if intent is None:
            return None, None
        made = any(instance.zone == intent.zone for instance in instances)
        if intent.operation is None:
            awaited = not made and (not instances or bool(instances[0].destination))
            return (intent if awaited else None), None
        if isinstance(state, BudgetError):
            if not made:
                self._problems.setdefault(Room.INSTANCE, state)
            return intent, None
        if state is None:  # Google has forgotten it: what is there counts
            return None, None
        return (None if state.done else intent), state

    def _objects(self, inventory: Inventory) -> Contents | None:
        """Where no list can be had now, the last one goes on to tell what the VM may rely on."""
        memory = self._memory
        if inventory.bucket is None:
            memory.objects = None
            return None
        known = memory.known_objects(self._clock())
        try:
            listed = self._newer() or (self._list() if known is None else None)
        except errors.NotFound:
            return None
        except BudgetError as error:
            self._problems[Room.ARTIFACT] = error
            return known
        if listed is None:
            return known
        memory.objects, memory.objects_at = listed.found, listed.at
        return memory.objects

    def _newer(self) -> Taken[Contents] | None:
        """What was listed for all deployments since the last list, where it shows all that was done for this
        one.
        """
        memory = self._memory
        if memory.objects_at is None:
            return None
        return self._listed(self._owner, max(memory.objects_at, memory.acted_at or memory.objects_at))

    def _list(self) -> Taken[Contents]:
        at = self._clock()
        return Taken(at, self._cloud.storage.objects(objects_prefix(self._owner.cloud_name)))
