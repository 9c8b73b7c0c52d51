"""What is to be done for a deployment that is being deleted: the VM, then its address, its objects, and, with
the last deployment of the installation, what all of them shared. Pure.

Only what carries our mark is touched. Nothing is taken for gone while a part of the project does not answer.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from budget_operator.core import actions
from budget_operator.core.actions import Room
from budget_operator.core.artifact import (
    CODE_PREFIX,
    FUNCTION_PREFIX,
    LEDGER_PREFIX,
    STATE_PREFIX,
    own_prefixes,
)
from budget_operator.core.conditions import Reason
from budget_operator.core.errors import BudgetError, Unavailable
from budget_operator.core.names import Owner, Shared
from budget_operator.core.observed import Address, Disk, Instance, Inventory
from budget_operator.core.ownership import OWNER_OBJECT
from budget_operator.core.steps import CHANGE, OBJECTS_AT_ONCE, OPERATION, SOON, Plan, Step, Unseen, look

OUR_PREFIXES = (CODE_PREFIX, FUNCTION_PREFIX, STATE_PREFIX, LEDGER_PREFIX)


@dataclass(frozen=True)
class Remains:
    """What a pass has seen of a deployment that is being deleted."""

    owner: Owner
    shared: Shared
    inventory: Inventory
    instances: tuple[Instance, ...]  # ours
    addresses: tuple[Address, ...]  # ours
    disks: tuple[Disk, ...]  # ours that outlived their VM; looked for once VM and address are gone
    pending: str  # why a VM may still appear; empty if none can
    objects: tuple[str, ...]  # below our prefix; with the last deployment everything in the bucket
    last: bool  # no other deployment needs what is shared
    problems: Mapping[Room, BudgetError]

    @property
    def takes_shared(self) -> bool:
        """Whether what all deployments share goes as well: nothing that was retained lives by it."""
        return self.last and not self.silent and not retained(self.inventory, self.owner)

    @property
    def silent(self) -> tuple[str, ...]:
        """Zones and regions that do not answer: what lies there cannot be seen."""
        return tuple(sorted(scope for scope in self.inventory.unknown if "/" in scope))


def retained(inventory: Inventory, owner: Owner) -> tuple[str, ...]:
    """VMs and addresses of the installation that belong to others."""
    parts: tuple[Instance | Address, ...] = (*inventory.instances, *inventory.addresses)
    return tuple(dict.fromkeys(part.name for part in parts if not owner.owns(part.labels)))


def plan(remains: Remains) -> Plan:
    """The steps of all rooms; without steps and problems nothing of ours is left."""
    steps: list[tuple[Room, Step]] = []
    problems: dict[Room, BudgetError] = dict(remains.problems)
    unseen: set[Room] = set(problems)
    for room, checks in ROOMS.items():
        for check in checks:
            try:
                step = None if room in problems else check(remains)
            except Unseen as missing:
                problems[room] = missing.error
                unseen.add(room)
                break
            if step is not None:
                steps.append((room, step))
                break
    return Plan(tuple(steps), problems, frozenset(unseen))


def check_instances(now: Remains) -> Step | None:
    if now.instances:
        found = tuple(actions.DeleteInstance(vm.zone, vm.name) for vm in now.instances[:1])
        return Step(found, Reason.DELETING, f"the VM in {now.instances[0].zone} is being deleted", OPERATION)
    if now.pending:
        return Step((), Reason.DELETING, now.pending, CHANGE)
    if now.silent:
        raise Unseen(Unavailable(f"{now.silent[0]} does not answer: what lies there cannot be seen"))
    return None


def check_addresses(now: Remains) -> Step | None:
    if not now.addresses:
        return None
    address = now.addresses[0]
    return Step(
        (actions.ReleaseAddress(address.region, address.name),),
        Reason.DELETING,
        f"the address in {address.region} is being released",
        OPERATION,
    )


def check_disks(now: Remains) -> Step | None:
    if not now.disks:
        return None
    disk = now.disks[0]
    message = f"the disk in {disk.zone} is being deleted"
    return Step((actions.DeleteDisk(disk.zone, disk.name),), Reason.DELETING, message, OPERATION)


def check_objects(now: Remains) -> Step | None:
    look(now.inventory, "bucket")
    if not _bucket_is_ours(now) or now.instances or now.silent:  # a VM may live by them
        return None
    return _delete_objects(now.objects, *own_prefixes(now.owner.cloud_name))


def check_job(now: Remains) -> Step | None:
    if not now.takes_shared:
        return None
    look(now.inventory, "job")
    job = now.inventory.job
    if job is None or job.description != now.shared.mark:
        return None
    return Step((actions.DeleteJob(job.name),), Reason.DELETING, "the Scheduler job is being deleted")


def check_function(now: Remains) -> Step | None:
    if not now.takes_shared:
        return None
    look(now.inventory, "function")
    function = now.inventory.function
    if function is None or not now.shared.owns(function.labels):
        return None
    remove = () if function.state == "DELETING" else (actions.DeleteFunction(function.name),)
    return Step(remove, Reason.DELETING, "the keep-alive function is being deleted", CHANGE)


def check_topic(now: Remains) -> Step | None:
    if not now.takes_shared:
        return None
    look(now.inventory, "topic")
    topic = now.inventory.topic
    if topic is None or not now.shared.owns(topic.labels):
        return None
    return Step((actions.DeleteTopic(topic.name),), Reason.DELETING, "the topic is being deleted")


def check_firewall(now: Remains) -> Step | None:
    if not now.takes_shared or now.instances:
        return None
    look(now.inventory, "firewall")
    firewall = now.inventory.firewall
    if firewall is None or firewall.description != now.shared.mark:
        return None
    remove = actions.DeleteFirewall(firewall.name)
    return Step((remove,), Reason.DELETING, "the firewall rule is being deleted", OPERATION)


def check_bucket(now: Remains) -> Step | None:
    """With the last deployment the bucket goes, unless somebody keeps things of their own in it.

    It is the very last, since it holds the installation for this cluster.
    """
    look(now.inventory, "bucket")
    if not now.takes_shared or now.instances or not _bucket_is_ours(now):
        return None
    others = [name for name in now.objects if not name.startswith(OUR_PREFIXES) and name != OWNER_OBJECT]
    few = len(now.objects) <= OBJECTS_AT_ONCE  # the bucket is emptied in the same call
    if others or not few:
        step = _delete_objects(now.objects, *OUR_PREFIXES)
        if step is not None:
            return step
    if _anything_else(now):
        return None
    if not others:
        return Step((actions.DeleteBucket(),), Reason.DELETING, "the bucket is being deleted")
    return _delete_objects(set(now.objects) & {OWNER_OBJECT}, OWNER_OBJECT)


def _anything_else(now: Remains) -> bool:
    """Whether anything of ours but the bucket may still be there."""
    inventory = now.inventory
    if now.addresses or now.pending or {"job", "function", "topic", "firewall"} & inventory.unknown:
        return True
    labelled = (inventory.function, inventory.topic)
    marked = (inventory.job, inventory.firewall)
    return any(part is not None and now.shared.owns(part.labels) for part in labelled) or any(
        part is not None and part.description == now.shared.mark for part in marked
    )


def _delete_objects(names: Iterable[str], *prefixes: str) -> Step | None:
    ours = [actions.DeleteObject(name) for name in names if name.startswith(prefixes)]
    if not ours:
        return None
    message = f"{len(ours)} objects in the bucket are being deleted"
    return Step(tuple(ours[:OBJECTS_AT_ONCE]), Reason.DELETING, message, SOON)


def _bucket_is_ours(now: Remains) -> bool:
    bucket = now.inventory.bucket
    return bucket is not None and now.shared.owns(bucket.labels)


# The firewall and the bucket are last of their rooms: the VM and the objects come before them.
ROOMS = {
    Room.INSTANCE: (check_instances, check_addresses, check_disks, check_firewall),
    Room.KEEP_ALIVE: (check_job, check_function, check_topic),
    Room.ARTIFACT: (check_objects, check_bucket),
}
