"""Another machine type or a larger disk for a VM that is there; its address and its disk stay.

Both need the VM to be off for a moment. What stops it says so in a label first.
"""

from budget_operator.core import actions
from budget_operator.core.conditions import Reason
from budget_operator.core.desired import WANTED_CHANGING
from budget_operator.core.errors import InvalidSpec
from budget_operator.core.names import LABEL_DISK, LABEL_WANTED
from budget_operator.core.observed import OFF, Instance, InstanceStatus
from budget_operator.core.steps import OPERATION, Situation, Step


def check_machine_type(now: Situation) -> Step | None:
    """Stop, change, start."""
    desired, instance = now.wanted, now.seen.instance
    if instance is None or not changes_type(now):
        return None  # a refused type: the old one runs on, the condition tells what Google said
    message = f"{instance.name} changes from {instance.machine_type} to {desired.machine_type}"
    found = _stopping(instance)
    if instance.status in OFF:
        found = (actions.SetMachineType(instance.zone, instance.name, desired.machine_type),)
    return Step(found, Reason.CHANGING_MACHINE_TYPE, message, OPERATION)


def check_disk(now: Situation) -> Step | None:
    """A disk grows whether its VM runs or not. Refused, it keeps nothing from starting."""
    desired, instance = now.wanted, now.seen.instance
    if instance is None or not 0 < instance.disk_gib < desired.disk_gib:
        return None
    grow = actions.ResizeDisk(instance.zone, instance.name, instance.disk, desired.disk_gib)
    if instance.status in OFF:
        return Step((grow,), after=OPERATION, proceed=True)
    if instance.status is not InstanceStatus.RUNNING or changes_type(now):
        return None  # soon it is off
    message = f"the disk of {instance.name} grows from {instance.disk_gib} to {desired.disk_gib} GiB"
    return Step((grow,), Reason.GROWING_DISK, message, OPERATION)


def check_file_system(now: Situation) -> Step | None:
    """Container-Optimized OS grows its file system at boot: after the disk has grown the VM stops and starts.

    So do all of Google's images, which their test suite sees to (GoogleCloudPlatform/guest-test-infra,
    `TestDiskResize`). Not where the VM is off anyway: then it finds the larger disk when it starts.
    """
    instance = now.seen.instance
    if instance is None or not boots_for_disk(now):
        return None
    sizes = f"from {file_system_gib(instance)} to {instance.disk_gib} GiB"
    message = f"{instance.name} stops and starts for its file system to grow {sizes}"
    return Step(_stopping(instance), Reason.GROWING_DISK, message, OPERATION)


def check_larger_disk(now: Situation) -> Step | None:
    """No disk shrinks, and none is given up for a smaller one: all else is as wanted, and this is told."""
    desired, instance = now.wanted, now.seen.instance
    if instance is None or instance.disk_gib <= desired.disk_gib:
        return None
    raise InvalidSpec(
        f"spec.machine.diskGiB: {desired.disk_gib} is less than the {instance.disk_gib} GiB that the disk of "
        f"{instance.name} has, and no disk shrinks; set {instance.disk_gib}, or delete the deployment and "
        f"apply it again"
    )


def _stopping(instance: Instance) -> tuple[actions.Action, ...]:
    """The VM's label keeps the keep-alive from starting it again at once."""
    if instance.status is not InstanceStatus.RUNNING:
        return ()
    if instance.labels.get(LABEL_WANTED) != WANTED_CHANGING:
        return (actions.SetLabels(instance.zone, instance.name, {LABEL_WANTED: WANTED_CHANGING}),)
    return (actions.StopInstance(instance.zone, instance.name),)


def changes_type(now: Situation) -> bool:
    """Whether the VM has another machine type than the wanted one and Google has not refused that."""
    desired, instance = now.wanted, now.seen.instance
    return instance is not None and desired.machine_type not in (
        instance.machine_type,
        now.refused_machine_type,
    )


def boots_for_disk(now: Situation) -> bool:
    """Whether the VM's file system has less than is wanted, and the disk no longer."""
    desired, instance = now.wanted, now.seen.instance
    return instance is not None and file_system_gib(instance) < desired.disk_gib <= instance.disk_gib


def file_system_gib(instance: Instance) -> int:
    """What the VM's file system has, or, where it is off, will have: its label remembers the last boot's."""
    told = instance.labels.get(LABEL_DISK, "")
    if instance.status in OFF or not told.isdecimal():
        return instance.disk_gib
    return min(int(told), instance.disk_gib)
