"""From what should be there and what is there to what is done next: an ordered tuple of small checks. Pure.

Each check sees one thing and answers with the step that mends it, or None. A room's checks run in order until
one has to wait; rooms fail alone. Deleting is in `removal`, running the steps in `execution`, what the VM
serves in `serving`.
"""

from collections.abc import Callable, Mapping

from budget_operator.core import actions
from budget_operator.core.actions import Room
from budget_operator.core.api import Intent
from budget_operator.core.artifact import objects_prefix
from budget_operator.core.conditions import Reason
from budget_operator.core.desired import WANTED_CHANGING, WANTED_RUNNING, Desired
from budget_operator.core.errors import (
    CapacityExhausted,
    InvalidSpec,
    NameConflict,
    OperationFailed,
    Unavailable,
)
from budget_operator.core.gateways import HTTPS_PORTS, FunctionRequest
from budget_operator.core.names import LABEL_DISK, LABEL_WANTED, Shared, region_of
from budget_operator.core.observed import Function, Instance, InstanceStatus
from budget_operator.core.steps import (
    ANOTHER_ROOM,
    CHANGE,
    OBJECTS_AT_ONCE,
    OPERATION,
    Check,
    Plan,
    Situation,
    Step,
    Unseen,
    look,
    run,
)

OFF = frozenset({InstanceStatus.TERMINATED, InstanceStatus.STOPPED})
GOING_DOWN = frozenset(
    {
        InstanceStatus.STOPPING,
        InstanceStatus.PENDING_STOP,
        InstanceStatus.SUSPENDING,
        InstanceStatus.DEPROVISIONING,
    }
)
COMING_UP = frozenset({InstanceStatus.PROVISIONING, InstanceStatus.STAGING, InstanceStatus.PENDING})


def plan(situation: Situation) -> Plan:
    """What is to be done for a deployment that should be there."""
    if situation.desired is None:
        return run(KEEPING_CHECKS, situation)
    return run(CHECKS if situation.held else FIRST_CHECKS, situation)


# --- the bucket and what lies in it ---


def check_bucket(now: Situation) -> Step | None:
    desired, inventory = _wanted(now), now.seen.inventory
    look(inventory, "bucket")
    if inventory.bucket is None:
        make = actions.CreateBucket(desired.bucket_region, now.shared.labels)
        return Step((make,), Reason.UPLOADING, "the bucket is being made")
    if not _labelled(inventory.bucket.labels, now.shared):
        raise NameConflict(
            f"bucket {inventory.bucket.name} exists without the label of this installation; "
            f"set BUDGET_BUCKET to a name that is free"
        )
    return None


def check_objects(now: Situation) -> Step | None:
    if Room.ARTIFACT in now.seen.problems:
        raise Unseen(now.seen.problems[Room.ARTIFACT])
    held = now.seen.objects or frozenset()
    missing = tuple(blob for blob in _wanted(now).artifact.blobs if blob.name not in held)
    if not missing:
        return None
    uploads = tuple(actions.Upload(blob) for blob in missing)
    return Step(uploads, Reason.UPLOADING, "code and credentials are being uploaded", completes=True)


def check_old_revisions(now: Situation) -> Step | None:
    """Once the wanted revision serves, nothing asks for another one."""
    if not now.settled or not now.seen.objects:
        return None
    wanted = {blob.name for blob in _wanted(now).artifact.blobs}
    prefix = objects_prefix(now.owner.cloud_name)
    old = sorted(name for name in now.seen.objects if name.startswith(prefix) and name not in wanted)
    found = tuple(actions.DeleteObject(name) for name in old[:OBJECTS_AT_ONCE])
    return Step(found, proceed=True) if found else None


def _wait_for_bucket(reason: Reason) -> Callable[[Situation], Step]:
    """Nothing else is made before other clusters can see in the bucket whose installation this is."""
    step = Step((), reason, "waits until the installation has its bucket", ANOTHER_ROOM)
    return lambda _: step


# --- what starts the VM while the operator is away ---


def check_topic(now: Situation) -> Step | None:
    inventory = now.seen.inventory
    look(inventory, "topic")
    if inventory.topic is None:
        make = actions.CreateTopic(now.shared.keep_alive, now.shared.labels)
        return Step((make,), Reason.ARMING, "the keep-alive topic is being made", proceed=True)
    if not _labelled(inventory.topic.labels, now.shared):
        raise NameConflict(f"topic {inventory.topic.name} exists without the label of this installation")
    return None


def check_job(now: Situation) -> Step | None:
    inventory, wanted = now.seen.inventory, _wanted(now).keep_alive.job
    look(inventory, "job")
    job = inventory.job
    if job is None:
        make: actions.Action = actions.CreateJob(wanted)
        return Step((make,), Reason.ARMING, "the Scheduler job is being made", proceed=True)
    if job.description != now.shared.mark:
        raise NameConflict(f"Scheduler job {job.name} exists without the mark of this installation")
    as_wanted = (job.schedule, job.time_zone, job.topic) == (
        wanted.schedule,
        wanted.time_zone,
        wanted.topic,
    )
    if as_wanted and job.state == "ENABLED":
        return None
    return Step(
        (actions.UpdateJob(wanted),),
        Reason.ARMING,
        f"the Scheduler job is {job.state} and is being updated",
        proceed=True,
    )


def check_function_state(now: Situation) -> Step | None:
    """A function that is there is ours and has come to rest."""
    look(now.seen.inventory, "function")
    function = now.seen.inventory.function
    if function is None:
        return None
    if not _labelled(function.labels, now.shared):
        raise NameConflict(f"function {function.name} exists without the label of this installation")
    remove = actions.DeleteFunction(function.name)
    if function.state == "FAILED":
        failure = OperationFailed(f"the keep-alive function failed: {function.message or 'no message'}")
        return Step((remove,), failure.reason, failure.message, failure=failure)
    if function.state != "ACTIVE":
        message = f"the keep-alive function is {function.state}"
        return Step((), Reason.FUNCTION_DEPLOYING, message, CHANGE)
    wanted = _wanted(now).keep_alive.function
    trigger = wanted.trigger_service_account in ("", function.trigger_service_account)
    if function.topic != wanted.topic or not trigger:  # a trigger cannot be changed
        return Step((remove,), Reason.ARMING, "the keep-alive function is being made again")
    topic = now.seen.inventory.topic
    if topic is not None and not topic.subscribed:
        # A topic that was deleted comes back without its subscriptions, and only a new trigger makes one.
        message = "nothing listens to the keep-alive topic: the function is being made again"
        return Step((remove,), Reason.ARMING, message)
    return None


def check_function(now: Situation) -> Step | None:
    """The function runs the source and environment of this operator, as the settings say."""
    inventory, wanted = now.seen.inventory, _wanted(now).keep_alive
    function = inventory.function
    if function is not None and _is_current(function, wanted.function):
        return None
    look(inventory, "bucket")
    if inventory.bucket is None or not _labelled(inventory.bucket.labels, now.shared):
        return Step((), Reason.ARMING, "the keep-alive function waits for the bucket", ANOTHER_ROOM)
    upload = actions.Upload(wanted.source)
    if function is None:
        make = actions.CreateFunction(wanted.function)
        return Step((upload, make), Reason.ARMING, "the keep-alive function is being made")
    update = actions.UpdateFunction(wanted.function)
    return Step((upload, update), Reason.FUNCTION_DEPLOYING, "the keep-alive function is being updated")


def _is_current(function: Function, wanted: FunctionRequest) -> bool:
    """Accounts that are left to Google are whatever it chose."""
    return (
        (function.source_object, dict(function.environment), function.runtime)
        == (wanted.source_object, dict(wanted.environment), wanted.runtime)
        and wanted.service_account in ("", function.service_account)
        and wanted.build_service_account in ("", function.build_service_account)
    )


# --- the VM and what it needs ---


def check_surplus(now: Situation) -> Step | None:
    """There is never a second VM: one that appeared anyway goes, the one that serves stays."""
    if not now.seen.surplus:
        return None
    extra = now.seen.surplus[0]
    return Step((actions.DeleteInstance(extra.zone, extra.name),), after=OPERATION)


def check_strangers(now: Situation) -> Step | None:
    if now.seen.strangers:
        raise NameConflict(now.seen.strangers[0])
    return None


def check_firewall(now: Situation) -> Step | None:
    desired, inventory = _wanted(now), now.seen.inventory
    look(inventory, "firewall")
    if inventory.firewall is None:
        make = actions.InsertFirewall(
            now.shared.firewall, desired.network, now.shared.network_tag, now.shared.mark
        )
        return Step((make,), Reason.PROVISIONING, "the firewall rule is being made", OPERATION, proceed=True)
    firewall = inventory.firewall
    if firewall.description != now.shared.mark:
        raise NameConflict(f"firewall rule {firewall.name} exists without the mark of this installation")
    if not _on_network(firewall.network, desired.network):
        raise InvalidSpec(
            f"BUDGET_NETWORK: firewall rule and VMs are on {firewall.network}, not on {desired.network}; "
            f"set it back, or delete the deployments first"
        )
    if (set(firewall.target_tags), set(firewall.tcp_ports)) != ({now.shared.network_tag}, set(HTTPS_PORTS)):
        remove = actions.DeleteFirewall(firewall.name)
        message = "the firewall rule was changed and is being made again"
        return Step((remove,), Reason.PROVISIONING, message, OPERATION, proceed=True)
    return None


def _on_network(found: str, wanted: str) -> bool:
    """Google answers with the whole path, the setting may leave out the host and the project."""
    tail = wanted[max(0, wanted.find("projects/")) :]
    return not found or f"/{found}".endswith(f"/{tail}")


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


def check_address(now: Situation) -> Step | None:
    address = now.seen.address
    if address is None:
        region = needed_region(now.seen.instance, now.seen.intent, _wanted(now).zones)
        make = actions.ReserveAddress(region, now.owner.cloud_name, now.owner.labels)
        return Step((make,), Reason.PROVISIONING, "the address is being reserved", OPERATION)
    if not address.address or address.status == "RESERVING":
        return Step((), Reason.PROVISIONING, "the address is being reserved", OPERATION)
    return None


def check_stale_addresses(now: Situation) -> Step | None:
    if not now.seen.stale_addresses or now.seen.instance is None:
        return None
    stale = now.seen.stale_addresses[0]
    return Step((actions.ReleaseAddress(stale.region, stale.name),), after=OPERATION, proceed=True)


def check_insert(now: Situation) -> Step | None:
    """An insert that was started ends before anything else is done to the VM."""
    operation = now.seen.insert
    if operation is None or operation.done:
        return None
    place = operation.ref.scope.rpartition("/")[2]
    message = f"the VM is being made in {place}"
    return Step((), Reason.PROVISIONING, message, OPERATION, attempt=actions.InsertInstance.__name__)


def check_replaced(now: Situation) -> Step | None:
    """Provisioning cannot be changed on a VM; the address stays, so the endpoint does."""
    desired, instance = _wanted(now), now.seen.instance
    if instance is None:
        return None
    moved = (
        instance.status in (*OFF, InstanceStatus.SUSPENDED)
        and instance.zone not in desired.zones
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
    desired = _wanted(now)
    held = now.seen.objects or frozenset()
    if any(blob.name not in held for blob in desired.artifact.blobs):
        return None  # first the objects, then the word that they are there
    changes = {key: value for key, value in desired.metadata.items() if instance.metadata.get(key) != value}
    if not changes:
        return None
    change = actions.SetMetadata(instance.zone, instance.name, changes)
    return Step((change,), after=OPERATION, proceed=True)


def check_disk(now: Situation) -> Step | None:
    """A disk grows whether its VM runs or not. Refused, it keeps nothing from starting."""
    desired, instance = _wanted(now), now.seen.instance
    if instance is None or not 0 < instance.disk_gib < desired.disk_gib:
        return None
    grow = actions.ResizeDisk(instance.zone, instance.name, instance.disk, desired.disk_gib)
    if instance.status in OFF:
        return Step((grow,), after=OPERATION, proceed=True)
    if instance.status is not InstanceStatus.RUNNING or _changes_type(now):
        return None  # soon it is off
    message = f"the disk of {instance.name} grows from {instance.disk_gib} to {desired.disk_gib} GiB"
    return Step((grow,), Reason.GROWING_DISK, message, OPERATION)


def check_labels(now: Situation) -> Step | None:
    instance = now.seen.instance
    if instance is None:
        return None
    desired = _wanted(now)
    labels = {**desired.labels, LABEL_DISK: str(_file_system_gib(instance) or desired.disk_gib)}
    changing = _changes_type(now) or _boots_for_disk(now)
    if changing and instance.labels.get(LABEL_WANTED) == WANTED_CHANGING:
        labels[LABEL_WANTED] = WANTED_CHANGING  # until the type is the wanted one
    changes = {key: value for key, value in labels.items() if instance.labels.get(key) != value}
    if not changes:
        return None
    return Step((actions.SetLabels(instance.zone, instance.name, changes),), after=OPERATION, proceed=True)


def check_suspended(now: Situation) -> Step | None:
    """A VM that is suspended can neither be stopped nor started: whatever is next, first it resumes."""
    instance = now.seen.instance
    if instance is None or instance.status is not InstanceStatus.SUSPENDED or not _is_kept(now, instance):
        return None
    resume = actions.ResumeInstance(
        instance.zone, instance.name, instance.machine_type, instance.provisioning_model
    )
    message = f"{instance.name} in {instance.zone} is SUSPENDED and is being resumed"
    return Step((resume,), Reason.RESUMING, message, OPERATION)


def _is_kept(now: Situation, instance: Instance) -> bool:
    """Whether it is brought back; without a spec that works, what stands on the VM itself decides."""
    return now.desired is not None or instance.labels.get(LABEL_WANTED) in (WANTED_RUNNING, WANTED_CHANGING)


def check_machine_type(now: Situation) -> Step | None:
    """Stop, change, start."""
    desired, instance = _wanted(now), now.seen.instance
    if instance is None or not _changes_type(now):
        return None  # a refused type: the old one runs on, the condition tells what Google said
    message = f"{instance.name} changes from {instance.machine_type} to {desired.machine_type}"
    found = _stopping(instance)
    if instance.status in OFF:
        found = (actions.SetMachineType(instance.zone, instance.name, desired.machine_type),)
    return Step(found, Reason.CHANGING_MACHINE_TYPE, message, OPERATION)


def _stopping(instance: Instance) -> tuple[actions.Action, ...]:
    """The VM's label keeps the keep-alive from starting it again at once."""
    if instance.status is not InstanceStatus.RUNNING:
        return ()
    if instance.labels.get(LABEL_WANTED) != WANTED_CHANGING:
        return (actions.SetLabels(instance.zone, instance.name, {LABEL_WANTED: WANTED_CHANGING}),)
    return (actions.StopInstance(instance.zone, instance.name),)


def _changes_type(now: Situation) -> bool:
    """Whether the VM has another machine type than the wanted one and Google has not refused that."""
    desired, instance = _wanted(now), now.seen.instance
    return instance is not None and desired.machine_type not in (
        instance.machine_type,
        now.refused_machine_type,
    )


def check_file_system(now: Situation) -> Step | None:
    """Container-Optimized OS grows its file system at boot: after the disk has grown the VM stops and starts.

    So do all of Google's images, which their test suite sees to (GoogleCloudPlatform/guest-test-infra,
    `TestDiskResize`). Not where the VM is off anyway: then it finds the larger disk when it starts.
    """
    instance = now.seen.instance
    if instance is None or not _boots_for_disk(now):
        return None
    sizes = f"from {_file_system_gib(instance)} to {instance.disk_gib} GiB"
    message = f"{instance.name} stops and starts for its file system to grow {sizes}"
    return Step(_stopping(instance), Reason.GROWING_DISK, message, OPERATION)


def _boots_for_disk(now: Situation) -> bool:
    """Whether the VM's file system has less than is wanted, and the disk no longer."""
    desired, instance = _wanted(now), now.seen.instance
    return instance is not None and _file_system_gib(instance) < desired.disk_gib <= instance.disk_gib


def _file_system_gib(instance: Instance) -> int:
    """What the VM's file system has, or, where it is off, will have: its label remembers the last boot's."""
    told = instance.labels.get(LABEL_DISK, "")
    if instance.status in OFF or not told.isdecimal():
        return instance.disk_gib
    return min(int(told), instance.disk_gib)


def check_larger_disk(now: Situation) -> Step | None:
    """No disk shrinks, and none is given up for a smaller one: all else is as wanted, and this is told."""
    desired, instance = _wanted(now), now.seen.instance
    if instance is None or instance.disk_gib <= desired.disk_gib:
        return None
    raise InvalidSpec(
        f"spec.machine.diskGiB: {desired.disk_gib} is less than the {instance.disk_gib} GiB that the disk of "
        f"{instance.name} has, and no disk shrinks; set {instance.disk_gib}, or delete the deployment and "
        f"apply it again"
    )


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
        if not _is_kept(now, instance):
            return None
        if now.rest > 0:
            message = f"{where}: it was preempted before it served and is started after a pause"
            return Step((), Reason.STARTING, message, now.rest)
        return Step((start,), Reason.STARTING, f"{where} and is being started", OPERATION)
    if instance.status in COMING_UP:
        return Step((), Reason.STARTING, where, OPERATION, attempt=start.key)
    going = instance.status in GOING_DOWN
    return Step((), Reason.STOPPING if going else Reason.INSTANCE_NOT_RUNNING, where, CHANGE)


def check_made(now: Situation) -> Step | None:
    """Make the VM, once code and address are there and nothing of ours was seen anywhere."""
    if now.seen.instance is not None:
        return None
    desired, address = _wanted(now), now.seen.address
    held = now.seen.objects or frozenset()
    if any(blob.name not in held for blob in desired.artifact.blobs):
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
    desired = _wanted(now)
    zone = next((zone for zone in desired.zones if zone not in now.sold_out), None)
    if zone is None:
        raise CapacityExhausted(
            f"{', '.join(desired.zones)} sold out of {desired.provisioning_model} {desired.machine_type}",
            retry="each zone is tried again five minutes after it refused",
        )
    return Intent(name=now.owner.cloud_name, zone=zone, request_id=now.request_id)


def needed_region(instance: Instance | None, intent: Intent | None, zones: tuple[str, ...]) -> str:
    """Where the address has to be: beside the VM, or where it is going to be."""
    if instance is not None:
        return region_of(instance.zone)
    if intent is not None and intent.operation is None:
        return region_of(intent.zone)
    return region_of(zones[0])


def _labelled(labels: Mapping[str, str], shared: Shared) -> bool:
    return all(labels.get(key) == value for key, value in shared.labels.items())


def _wanted(now: Situation) -> Desired:
    assert now.desired is not None  # `plan` runs these checks only with one
    return now.desired


CHECKS: tuple[Check, ...] = (
    (Room.ARTIFACT, check_bucket),
    (Room.ARTIFACT, check_objects),
    (Room.ARTIFACT, check_old_revisions),
    (Room.KEEP_ALIVE, check_topic),
    (Room.KEEP_ALIVE, check_job),
    (Room.KEEP_ALIVE, check_function_state),
    (Room.KEEP_ALIVE, check_function),
    (Room.INSTANCE, check_surplus),
    (Room.INSTANCE, check_insert),
    (Room.INSTANCE, check_replaced),
    (Room.INSTANCE, check_metadata),
    (Room.INSTANCE, check_disk),
    (Room.INSTANCE, check_labels),
    (Room.INSTANCE, check_suspended),
    (Room.INSTANCE, check_machine_type),
    (Room.INSTANCE, check_file_system),
    (Room.INSTANCE, check_started),
    (Room.INSTANCE, check_visible),
    (Room.INSTANCE, check_strangers),
    (Room.INSTANCE, check_firewall),
    (Room.INSTANCE, check_address),
    (Room.INSTANCE, check_stale_addresses),
    (Room.INSTANCE, check_larger_disk),
    (Room.INSTANCE, check_made),
)
FIRST_CHECKS: tuple[Check, ...] = (
    (Room.ARTIFACT, check_bucket),
    (Room.KEEP_ALIVE, _wait_for_bucket(Reason.ARMING)),
    (Room.INSTANCE, _wait_for_bucket(Reason.PROVISIONING)),
)
KEEPING_CHECKS: tuple[Check, ...] = (
    (Room.INSTANCE, check_surplus),
    (Room.INSTANCE, check_insert),
    (Room.INSTANCE, check_wanted),
    (Room.INSTANCE, check_suspended),
    (Room.INSTANCE, check_started),
    (Room.INSTANCE, check_visible),
)
