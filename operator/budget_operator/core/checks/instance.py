"""The VM itself: one, as it should be, and running. How it gets another size is in `resize`."""

from budget_operator.core import actions
from budget_operator.core.actions import Room
from budget_operator.core.api import Intent
from budget_operator.core.checks.resize import boots_for_disk, changes_type, file_system_gib
from budget_operator.core.conditions import Reason
from budget_operator.core.desired import WANTED_CHANGING, WANTED_RUNNING
from budget_operator.core.errors import CapacityExhausted, NameConflict, Unavailable
from budget_operator.core.names import LABEL_DISK, LABEL_WANTED, METADATA_LIMIT, region_of
from budget_operator.core.observed import COMING_UP, GOING_DOWN, OFF, Instance, InstanceStatus
from budget_operator.core.steps import ANOTHER_ROOM, CHANGE, OPERATION, Situation, Step, Unseen


def check_surplus(now: Situation) -> Step | None:
    """There is never a second VM that could serve: one that appeared goes, and so does one that has moved.

    That one has lost its address, and stays until the new one has come up.
    """
    kept = now.seen.instance
    if not now.seen.surplus or kept is None:
        return None
    extra = now.seen.surplus[0]
    if extra.destination and kept.status not in (*OFF, InstanceStatus.RUNNING, InstanceStatus.SUSPENDED):
        return None
    return Step((actions.DeleteInstance(extra.zone, extra.name),), after=OPERATION)


def check_strangers(now: Situation) -> Step | None:
    if now.seen.strangers:
        raise NameConflict(now.seen.strangers[0])
    return None


def check_visible(now: Situation) -> Step | None:
    """Where a zone does not answer, a VM may be there that cannot be seen: none is made."""
    if now.seen.instance is not None and (now.seen.address is not None or now.desired is None):
        return None
    zones = {*now.zones, *([now.seen.intent.zone] if now.seen.intent else [])}
    scopes = {f"zones/{zone}" for zone in zones} | {f"regions/{region_of(zone)}" for zone in zones}
    silent = sorted(scopes & now.seen.inventory.unknown)
    if silent:
        raise Unseen(Unavailable(f"{silent[0]} does not answer: nothing is made in the meantime"))
    if Room.INSTANCE in now.seen.problems:
        raise Unseen(now.seen.problems[Room.INSTANCE])
    return None


def check_insert(now: Situation) -> Step | None:
    """An insert that was started ends before anything else is done to the VM."""
    operation = now.seen.insert
    if operation is None or operation.done:
        return None
    place = operation.ref.scope.rpartition("/")[2]
    message, reason = f"the VM is being made in {place}", Reason.PROVISIONING
    old = next(
        (vm for vm in (now.seen.instance, *now.seen.surplus) if vm is not None and vm.destination), None
    )
    if old is not None:
        message, reason = f"{old.name} moves from {old.zone}, which is sold out, to {place}", Reason.MOVING
    return Step((), reason, message, OPERATION, attempt=actions.InsertInstance.__name__)


def check_replaced(now: Situation) -> Step | None:
    """Provisioning cannot be changed on a VM; the address stays, so the endpoint does.

    Nor can the region, whose address cannot move: only where the old one has no room is it left.
    """
    desired, instance = now.wanted, now.seen.instance
    if instance is None:
        return None
    moved = (
        instance.status in (*OFF, InstanceStatus.SUSPENDED)
        and region_of(instance.zone) != desired.region
        and instance.zone in now.sold_out
        and any(zone not in now.sold_out for zone in desired.zones)
    )
    if instance.provisioning_model == desired.provisioning_model and not moved:
        return None
    message = f"{instance.name} in {instance.zone} is replaced"
    if instance.status in GOING_DOWN:
        return Step((), Reason.RECREATING, message, OPERATION)
    remove = actions.DeleteInstance(instance.zone, instance.name)
    return Step((remove,), Reason.RECREATING, message, OPERATION)


def check_metadata(now: Situation) -> Step | None:
    """A new revision reaches a running VM at once, a stopped one at its next boot."""
    instance = now.seen.instance
    if instance is None:
        return None
    desired = now.wanted
    if not desired.artifact.lies_in(now.seen.objects or {}):
        return None  # first the objects, then the word that they are there
    changes = {key: value for key, value in desired.metadata.items() if instance.metadata.get(key) != value}
    if not changes:
        return None
    change = actions.SetMetadata(instance.zone, instance.name, changes)
    return Step((change,), after=OPERATION, proceed=True)


def check_labels(now: Situation) -> Step | None:
    instance = now.seen.instance
    if instance is None:
        return None
    desired = now.wanted
    labels = {**desired.labels, LABEL_DISK: str(file_system_gib(instance) or desired.disk_gib)}
    changing = desired.pause is None and (changes_type(now) or boots_for_disk(now))
    if changing and instance.labels.get(LABEL_WANTED) == WANTED_CHANGING:
        labels[LABEL_WANTED] = WANTED_CHANGING  # until type and disk are as wanted
    changes = {key: value for key, value in labels.items() if instance.labels.get(key) != value}
    if not changes:
        return None
    return Step((actions.SetLabels(instance.zone, instance.name, changes),), after=OPERATION, proceed=True)


def check_suspended(now: Situation) -> Step | None:
    """A VM that is suspended can neither be stopped nor started: whatever is next, first it resumes."""
    instance = now.seen.instance
    if instance is None or instance.status is not InstanceStatus.SUSPENDED or not is_kept(now, instance):
        return None
    resume = actions.ResumeInstance(
        instance.zone, instance.name, instance.machine_type, instance.provisioning_model
    )
    message = f"{instance.name} in {instance.zone} is SUSPENDED and is being resumed"
    return Step((resume,), Reason.RESUMING, message, OPERATION)


def is_kept(now: Situation, instance: Instance) -> bool:
    """Whether it is brought back; without a spec that works, what stands on the VM itself decides."""
    if now.desired is not None:
        return True
    return instance.labels.get(LABEL_WANTED) in (WANTED_RUNNING, WANTED_CHANGING) and not now.over_limit


def check_wanted(now: Situation) -> Step | None:
    """A change that was begun for a spec that cannot work any more is over: the keep-alive takes over."""
    instance = now.seen.instance
    if instance is None or instance.labels.get(LABEL_WANTED) != WANTED_CHANGING:
        return None
    change = actions.SetLabels(instance.zone, instance.name, {LABEL_WANTED: WANTED_RUNNING})
    return Step((change,), after=OPERATION, proceed=True)


def check_started(now: Situation) -> Step | None:
    instance = now.seen.instance
    if instance is None or instance.status == InstanceStatus.RUNNING:
        return None
    where = f"{instance.name} in {instance.zone} is {instance.status}"
    start = actions.StartInstance(
        instance.zone, instance.name, instance.machine_type, instance.provisioning_model
    )
    if instance.status in OFF:
        if not is_kept(now, instance):
            return None
        if now.rest > 0:
            message = f"{where}: it was preempted before it served and is started after a pause"
            return Step((), Reason.STARTING, message, now.rest)
        return Step((start,), Reason.STARTING, f"{where} and is being started", OPERATION)
    if instance.status in COMING_UP:
        return Step((), Reason.STARTING, where, OPERATION, attempt=start.key)
    going = instance.status in GOING_DOWN
    return Step((), Reason.STOPPING if going else Reason.INSTANCE_NOT_RUNNING, where, CHANGE)


def check_stopped(now: Situation) -> Step | None:
    """Off, and left off by everybody: label and limit say so first. All else waits until it starts."""
    instance, desired = now.seen.instance, now.wanted
    if instance is None or instance.status in OFF or desired.pause is None:
        return None
    message = f"{instance.name} in {instance.zone} is stopped: {desired.pause.why}"
    told = instance.labels.get(LABEL_WANTED) == desired.pause.label
    told = told and instance.metadata.get(METADATA_LIMIT) == desired.metadata.get(METADATA_LIMIT)
    if instance.status is not InstanceStatus.RUNNING or not told:
        return Step((), Reason.STOPPING, message, OPERATION)
    stop = actions.StopInstance(instance.zone, instance.name)
    return Step((stop,), Reason.STOPPING, message, OPERATION)


def check_left_disk(now: Situation) -> Step | None:
    """A VM that was deleted without its disk: nothing of ours is on it that is not in the bucket."""
    disk = now.seen.left_disk
    if disk is None:
        return None
    message = f"the disk that an earlier VM left in {disk.zone} is being deleted"
    return Step((actions.DeleteDisk(disk.zone, disk.name),), Reason.PROVISIONING, message, OPERATION)


def check_made(now: Situation) -> Step | None:
    """Make the VM, once code and address are there and nothing of ours was seen anywhere."""
    if now.seen.instance is not None:
        return None
    desired, address = now.wanted, now.seen.address
    if not desired.artifact.lies_in(now.seen.objects or {}):
        message = "the VM waits until its code is uploaded"
        return Step((), Reason.PROVISIONING, message, ANOTHER_ROOM)
    assert address is not None  # check_address
    intent = _intent(now)
    make = actions.InsertInstance(desired.instance_request(intent.zone, address.address), intent)
    return Step((make,), Reason.PROVISIONING, f"the VM is being made in {intent.zone}", OPERATION)


def _intent(now: Situation) -> Intent:
    """The unresolved intent again, or a new one in the first zone that is not known to be sold out."""
    unresolved = now.seen.intent
    if unresolved is not None and unresolved.operation is None:
        return unresolved
    desired = now.wanted
    zone = next((zone for zone in desired.zones if zone not in now.sold_out), None)
    if zone is None:
        raise CapacityExhausted(
            f"{', '.join(desired.zones)} sold out of {desired.provisioning_model} {desired.machine_type}",
            retry="each zone is tried again half an hour after it refused",
        )
    return Intent(name=now.owner.cloud_name, zone=zone, request_id=now.request_id)
