"""Which zones are known to be sold out of a machine type and provisioning model, which regions have no quota
for it, and until when.

In memory only: forgetting it costs one refused call. Shared by all deployments of the process.
"""

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from budget_operator.core.names import region_of

SOLD_OUT_FOR = timedelta(minutes=30)


@dataclass(frozen=True)
class Offer:
    """What a zone may be out of, or, with a region's name in its place, what there may be no quota for."""

    zone: str
    machine_type: str
    provisioning_model: str

    @property
    def of_region(self) -> "Offer":
        """The same in the whole region."""
        return Offer(region_of(self.zone), self.machine_type, self.provisioning_model)


@dataclass
class Capacity:
    """The memory of refusals. Safe to share between workers."""

    _until: dict[Offer, datetime] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def refuse(self, offer: Offer, now: datetime) -> None:
        """Remember that the zone said no."""
        with self._lock:
            self._until[offer] = now + SOLD_OUT_FOR

    def rule_out(self, offer: Offer, now: datetime) -> None:
        """Remember that the project's quota in the zone's region is used up: no other zone of it helps."""
        self.refuse(offer.of_region, now)

    def admit(self, offer: Offer) -> None:
        """Somebody got one: there is room, and quota."""
        with self._lock:
            self._until.pop(offer, None)
            self._until.pop(offer.of_region, None)

    def sold_out(
        self, zones: Iterable[str], machine_type: str, provisioning_model: str, now: datetime
    ) -> dict[str, datetime]:
        """Those of the zones that are sold out, with the time at which each is tried again."""
        with self._lock:
            self._until = {offer: until for offer, until in self._until.items() if until > now}
            offers = [Offer(zone, machine_type, provisioning_model) for zone in zones]
            return {offer.zone: self._until[offer] for offer in offers if offer in self._until}

    def ruled_out(
        self, zones: Iterable[str], machine_type: str, provisioning_model: str, now: datetime
    ) -> frozenset[str]:
        """Those of the zones in whose region there is no quota."""
        places = tuple(zones)
        regions = self.sold_out(map(region_of, places), machine_type, provisioning_model, now)
        return frozenset(zone for zone in places if region_of(zone) in regions)
