"""What a deployment tells that is off on purpose: by `spec.suspend`, or because its budget is spent. Pure.

What is done is in `plan` and `checks`; when a budget is spent is in `budget`.
"""

from budget_operator.core.actions import Room
from budget_operator.core.conditions import Reason, Verdict
from budget_operator.core.desired import SUSPENDED, WANTED_RUNNING, Pause
from budget_operator.core.observed import OFF
from budget_operator.core.steps import Observation, Outcome

OVER_BUDGET = "OverBudget"
STATES = frozenset({SUSPENDED.state, OVER_BUDGET})


def spent(verdict: Verdict) -> Pause:
    """Of a budget. The keep-alive knows the limit, and starts the VM in the next month."""
    return Pause(Reason.BUDGET_EXCEEDED, OVER_BUDGET, verdict.message, WANTED_RUNNING)


def is_off(seen: Observation | None, outcome: Outcome) -> bool:
    """Whether nothing runs, and nothing is on its way to."""
    if seen is None or Room.INSTANCE in {*outcome.open, *outcome.problems}:
        return False
    return seen.instance is None or seen.instance.status in OFF


def verdict(pause: Pause, seen: Observation) -> Verdict:
    """That the VM is off, and what is left of it, because that is paid on."""
    disk, address = seen.instance, seen.address
    left = [
        *([] if disk is None else [f"{disk.disk_gib} GiB of disk"]),
        *([] if address is None else [f"the address {address.address}, which costs most while it is unused"]),
    ]
    paid = f"; paid on: {' and '.join(left)}" if left else ""
    return Verdict("False", pause.reason, f"{pause.why}, and the VM is off{paid}")
