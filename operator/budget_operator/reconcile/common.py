"""What the passes of one process share, besides the gateways."""

from dataclasses import dataclass

from budget_operator.core.desired import Parts
from budget_operator.core.gateways import Kubernetes
from budget_operator.core.settings import Settings
from budget_operator.reconcile.buckets import Buckets
from budget_operator.reconcile.calm import Calm
from budget_operator.reconcile.execution import Means
from budget_operator.reconcile.offers import Offers
from budget_operator.reconcile.ownership import Ownership
from budget_operator.reconcile.sharing import Sharing


@dataclass(frozen=True)
class Common:
    """Made once, by `reconciler`."""

    settings: Settings
    kube: Kubernetes
    means: Means
    parts: Parts
    offers: Offers
    ownership: Ownership
    buckets: Buckets
    calm: Calm
    sharing: Sharing
