"""Looks for what bears the installation's mark and no BudgetDeployment owns. Never changes anything.

The objects are listed before and after the look at the cloud: whatever is made or removed meanwhile has an
owner in one of the two. Where the cluster, or whose the installation is, cannot be asked, nothing is an
orphan. What is one is decided by `core.orphans`.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TypeVar

from budget_operator.core.errors import BudgetError, OwnedElsewhere
from budget_operator.core.gateways import Kubernetes, Scan
from budget_operator.core.names import LABEL_INSTALLATION, Owner, Shared
from budget_operator.core.observed import Disk, Inventory, Object
from budget_operator.core.orphans.model import Report, Seen
from budget_operator.core.orphans.verdicts import report
from budget_operator.core.ownership import due, read
from budget_operator.core.prices.model import PriceList
from budget_operator.core.settings import Settings
from budget_operator.core.steps import Unseen, look
from budget_operator.reconcile.execution import Means

T = TypeVar("T")

LOOKED_AT = {"topic", "function", "job", "firewall"}  # parts of a picture that one can do without


class Survey:
    """Of one installation."""

    def __init__(
        self, settings: Settings, kube: Kubernetes, means: Means, prices: Callable[[], PriceList]
    ) -> None:
        self.settings = settings
        self.kube = kube
        self.shared = Shared(settings.installation)
        self._means = means
        self._prices = prices

    def at_rest(self) -> Report:
        """For the running operator: the picture that it has, and one list of disks.

        Raises:
            BudgetError: as `whole`.
        """
        return self._report(lambda: self._means.cloud.snapshots.resting()[0], whole=False)

    def whole(self) -> Report:
        """A new look at everything, also at what lies in the bucket.

        Raises:
            OwnedElsewhere: the installation is another cluster's, or nobody can tell whose.
            BudgetError: the cluster or the cloud does not answer.
        """
        now = self._means.clock()
        return self._report(lambda: self._means.cloud.snapshots.snapshot(newer_than=now), whole=True)

    def owners(self) -> frozenset[Owner]:
        """Of every BudgetDeployment, those that are being deleted included: until they are gone they own."""
        found = [each["metadata"] for each in self.kube.all_deployments()]
        return frozenset(Owner(self.settings.installation, each["namespace"], each["name"]) for each in found)

    def _report(self, picture: Callable[[], Inventory], *, whole: bool) -> Report:
        before = self.owners()
        inventory = picture()
        unseen = {scope: f"{scope} does not answer" for scope in inventory.unknown if "/" in scope}
        unseen |= {word: inventory.problems[word].message for word in LOOKED_AT & inventory.problems.keys()}
        disks: Scan[Disk] = _part("disks", unseen, self._disks, Scan(()))
        unseen |= {scope: f"{scope} does not answer" for scope in disks.unknown}
        since = self._since(inventory, disks)
        objects: tuple[Object, ...] | None = None
        if whole and inventory.bucket is not None and self.shared.owns(inventory.bucket.labels):
            objects = _part("objects", unseen, lambda: self._means.cloud.storage.contents(""), None)
        seen = Seen(inventory, before | self.owners(), disks.items, objects, since, unseen)
        return report(seen, self.shared, self._prices(), self._means.wall())

    def _disks(self) -> Scan[Disk]:
        return self._means.cloud.compute.disks(LABEL_INSTALLATION, self.shared.hash)

    def _since(self, inventory: Inventory, disks: Scan[Disk]) -> datetime | None:
        """When this cluster got the installation, where that is known."""
        try:
            look(inventory, "bucket")
            look(inventory, "owner")
        except Unseen as unseen:
            raise unseen.error from None
        installation, bucket = self.settings.installation, inventory.bucket
        if bucket is None or not self.shared.owns(bucket.labels):
            if (inventory.instances or inventory.addresses or disks.items) and not self.settings.takeover:
                raise OwnedElsewhere(
                    f"whose installation {installation} is cannot be told: there is no bucket "
                    f"{self.settings.bucket} with its label. Check BUDGET_BUCKET and BUDGET_INSTALLATION; or "
                    "say with BUDGET_TAKEOVER=true that it is this cluster's"
                )
            return None
        claim, cluster = read(inventory.owner), self.kube.cluster()
        takeover, never = self.settings.takeover, timedelta(0)
        due(claim, cluster, installation, now=self._means.wall(), watched=never, takeover=takeover)
        return claim.since if claim is not None and claim.cluster == cluster else None


def _part(word: str, unseen: dict[str, str], ask: Callable[[], T], nothing: T) -> T:
    try:
        return ask()
    except BudgetError as error:
        unseen[word] = error.message
        return nothing
