"""Holds the installation for this cluster, once for all deployments: what is read comes with the shared
picture, and one pass in some minutes writes. What follows from what was read is decided by `core.ownership`.
"""

import logging
import threading
from collections.abc import Callable
from datetime import datetime, timedelta

from budget_operator.core.errors import BudgetError, OwnedElsewhere, PreconditionFailed
from budget_operator.core.gateways import Cloud, Kubernetes
from budget_operator.core.names import Shared
from budget_operator.core.observed import Inventory, Stored
from budget_operator.core.ownership import OWNER_OBJECT, Claim, due, good_for, read
from budget_operator.core.settings import Settings
from budget_operator.core.steps import Unseen, look

log = logging.getLogger(__name__)


class Ownership:
    """Of the installation. Safe to share between workers."""

    def __init__(
        self,
        settings: Settings,
        kube: Kubernetes,
        cloud: Cloud,
        clock: Callable[[], datetime],
        wall: Callable[[], datetime],
    ) -> None:
        self._settings = settings
        self._labels = Shared(settings.installation).labels
        self._kube = kube
        self._cloud = cloud
        self._clock = clock
        self._wall = wall
        self._lock = threading.Lock()
        self._cluster = ""
        # Once only: of two clusters that are both told to take over, the one that did so last keeps it.
        self._takeover = settings.takeover
        self._seen: tuple[int, datetime] | None = None  # a generation, and since when it is there
        self._written: tuple[Stored, datetime] | None = None  # by us, after pictures that are still in use
        self._failed: tuple[datetime, BudgetError] | None = None  # to write, for the picture of that time
        self._good_until: datetime | None = None
        self._lost: tuple[datetime, OwnedElsewhere] | None = None  # as the picture of that time told

    def hold(self, inventory: Inventory) -> bool:
        """Claim or renew what the picture shows; False if there is no bucket of ours to hold it by.

        Raises:
            OwnedElsewhere: another cluster is the owner. Nothing may be changed.
            BudgetError: it cannot be told, or the claim could not be written. Nothing may be changed either.
        """
        with self._lock:
            if self._lost is not None and inventory.taken_at < self._lost[0]:
                raise self._lost[1]
            try:
                look(inventory, "bucket")
                look(inventory, "owner")
            except Unseen as unseen:
                if self._good_until is None or self._clock() >= self._good_until:
                    raise unseen.error from None
                return True
            if inventory.bucket is None or not self._labels.items() <= inventory.bucket.labels.items():
                return False
            try:
                self._hold(inventory)
            except OwnedElsewhere as error:
                self._lost = inventory.taken_at, error
                raise
            return True

    def _hold(self, inventory: Inventory) -> None:
        self._cluster = self._cluster or self._kube.cluster()
        stored = self._newest(inventory)
        claim, now = read(stored), self._wall()
        self._good_until = None
        wanted = due(
            claim,
            self._cluster,
            self._settings.installation,
            now=now,
            watched=self._watched(stored, inventory.taken_at),
            takeover=self._takeover,
        )
        ours = claim if claim is not None and claim.cluster == self._cluster else None
        failure = None if wanted is None else self._write(wanted, stored, inventory.taken_at)
        if failure is None:
            ours = wanted or ours
        elif ours is None or isinstance(failure, PreconditionFailed):
            raise failure
        assert ours is not None  # `due` has nothing to write for our own claim alone
        self._takeover = False
        self._good_until = inventory.taken_at + good_for(ours, now)

    def _newest(self, inventory: Inventory) -> Stored | None:
        if self._written is not None and inventory.taken_at <= self._written[1]:
            return self._written[0]
        return inventory.owner

    def _watched(self, stored: Stored | None, now: datetime) -> timedelta:
        if stored is None:
            self._seen = None
        elif self._seen is None or self._seen[0] != stored.generation:
            self._seen = stored.generation, now
        return timedelta(0) if self._seen is None else now - self._seen[1]

    def _write(self, claim: Claim, stored: Stored | None, taken_at: datetime) -> BudgetError | None:
        """Why it failed, if it did. One attempt per picture."""
        if self._failed is None or self._failed[0] != taken_at:
            self._failed = None
            try:
                self._put(claim, 0 if stored is None else stored.generation)
            except BudgetError as error:
                log.warning("the claim on the installation was not written: %s", error.message)
                self._failed = taken_at, error
                if isinstance(error, PreconditionFailed):
                    self._cloud.snapshots.forget()
        return None if self._failed is None else self._failed[1]

    def _put(self, claim: Claim, generation: int) -> None:
        data = claim.document()
        written = self._cloud.storage.write(OWNER_OBJECT, data, "application/json", generation)
        self._written = Stored(data, written), self._clock()
        if claim.since == claim.renewed_at:
            log.info(
                "this cluster (%s) is the owner of installation %s",
                claim.cluster,
                self._settings.installation,
            )
