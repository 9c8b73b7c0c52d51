"""What the local cloud would charge: kept apart from whatever the operator meters, by what really was there.

Every write to the records of a VM, a disk or an address is noted with its time; the prices are the local
cloud's own. A machine is charged for from when it runs until it is off.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from dev.simulation.world import World
from localcloud.services.compute import prices
from localcloud.services.compute.records import INSTANCE
from localcloud.store import Json

DISK, ADDRESS = "compute.disk", "compute.address"
CHARGED = ("RUNNING", "STOPPING", "SUSPENDING")


@dataclass
class Bill:
    """Of everything with one name."""

    world: World
    name: str
    rates: list[tuple[datetime, float]] = field(default_factory=list)
    """Dollars an hour, each since when."""

    def __post_init__(self) -> None:
        told = self.world.store.on_write

        def note(kind: str, key: str) -> None:
            told(kind, key)
            if kind in (INSTANCE, DISK, ADDRESS) and key.endswith(f"/{self.name}"):
                self.rates.append((self.world.clock.now(), sum(self._rates())))

        self.world.store.on_write = note

    def dollars(self, begin: datetime, end: datetime) -> float:
        """From then to then."""
        ends = [since for since, _ in self.rates[1:]]
        lasted = [
            (max(since, begin), min(until, end), rate)
            for (since, rate), until in zip(self.rates, [*ends, end], strict=True)
        ]
        hour = timedelta(hours=1)
        return sum(rate * ((until - since) / hour) for since, until, rate in lasted if until > since)

    def _rates(self) -> Iterator[float]:
        running = [each for each in self._mine(INSTANCE) if each["body"]["status"] in CHARGED]
        spot = [each["body"]["scheduling"]["provisioningModel"] == "SPOT" for each in running]
        for each, is_spot in zip(running, spot, strict=True):
            machine = prices.machine(each["body"]["machineType"].rpartition("/")[2], spot=is_spot)
            assert machine is not None
            yield machine
        for each in self._mine(DISK):
            disk = prices.disk("pd-balanced", int(each["sizeGb"]))
            assert disk is not None
            yield disk
        for _ in self._mine(ADDRESS):
            yield prices.address_in_use(spot=spot[0]) if spot else prices.ADDRESS_UNUSED

    def _mine(self, kind: str) -> list[Json]:
        return [found for key, found in self.world.store.list(kind) if key.endswith(f"/{self.name}")]
