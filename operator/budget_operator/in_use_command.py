"""`budget-operator in-use`: whether there are BudgetDeployments, for whoever is about to remove the operator.

Without one a deletion waits for ever, and the VM that it is about is paid for meanwhile.
"""

from budget_operator.cluster.kube import Kube, connect
from budget_operator.core.errors import NotFound

SHOWN = 10
NOBODY = "No BudgetDeployments."


def names() -> tuple[str, ...]:
    """`namespace/name` of each; none where the cluster does not know the kind.

    Raises:
        BudgetError: the cluster cannot be asked.
    """
    try:
        found = Kube(connect(pool_size=1)).all_deployments()
    except NotFound:
        return ()
    return tuple(sorted(f"{each['metadata']['namespace']}/{each['metadata']['name']}" for each in found))


def told(found: tuple[str, ...]) -> str:
    """What people read of it."""
    if not found:
        return NOBODY
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return (
        f"There are BudgetDeployments: {', '.join(found[:SHOWN])}{more}. Only an operator removes their VMs: "
        f"delete them first (kubectl delete bd --all --all-namespaces). To leave them as they are and remove "
        f"the operator alone: helm uninstall --no-hooks."
    )
