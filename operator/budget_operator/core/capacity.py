"""Which zones are known to be sold out of a machine type and provisioning model, and until when.

In memory only: forgetting it costs one refused call. Shared by all deployments of the process.
"""

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

SOLD_OUT_FOR = timedelta(minutes=30)


@dataclass(frozen=True)
class Offer:
    """What a zone may be out of."""

    zone: str
    machine_type: str
    provisioning_model: str


@dataclass
class Capacity:
    """The memory of refusals. Safe to share between workers."""

    _until: dict[Offer, datetime] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def refuse(self, offer: Offer, now: datetime) -> None:
        """Remember that the zone said no."""
        with self._lock:
            self._until[offer] = now + SOLD_OUT_FOR

    def admit(self, offer: Offer) -> None:
        """Somebody got one: there is room."""
        with self._lock:
            self._until.pop(offer, None)

    def sold_out(
        self, zones: Iterable[str], machine_type: str, provisioning_model: str, now: datetime
    ) -> dict[str, datetime]:
        """Those of the zones that are sold out, with the time at which each is tried again."""
        with self._lock:
            self._until = {offer: until for offer, until in self._until.items() if until > now}
            offers = [Offer(zone, machine_type, provisioning_model) for zone in zones]
            return {offer.zone: self._until[offer] for offer in offers if offer in self._until}
