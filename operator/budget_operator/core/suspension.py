"""What a deployment with `spec.suspend` tells of itself. Pure. What is done is in `plan` and `checks`."""

from budget_operator.core.actions import Room
from budget_operator.core.conditions import Reason, Verdict
from budget_operator.core.observed import OFF
from budget_operator.core.steps import Observation, Outcome

STATE = "Suspended"


def is_off(seen: Observation | None, outcome: Outcome) -> bool:
    """Whether nothing runs, and nothing is on its way to."""
    if seen is None or Room.INSTANCE in {*outcome.open, *outcome.problems}:
        return False
    return seen.instance is None or seen.instance.status in OFF


def verdict(seen: Observation) -> Verdict:
    """That the VM is off, and what is left of it, because that is paid on."""
    disk, address = seen.instance, seen.address
    left = [
        *([] if disk is None else [f"{disk.disk_gib} GiB of disk"]),
        *([] if address is None else [f"the address {address.address}, which costs most while it is unused"]),
    ]
    paid = f"; paid on: {' and '.join(left)}" if left else ""
    return Verdict("False", Reason.SUSPENDED, f"spec.suspend is set, and the VM is off{paid}")
