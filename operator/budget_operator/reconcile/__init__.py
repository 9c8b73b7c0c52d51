"""One pass over one deployment: look, plan, act, tell.

`Reconciler` is what the queue's workers call, with the `Means` that all passes share. The pass reaches the
world only through the protocols in `core.gateways`; what it decides is in `core`, which is pure.
"""

from budget_operator.reconcile.execution import Means
from budget_operator.reconcile.reconciler import Reconciler

__all__ = ["Means", "Reconciler"]
