"""Prices of what a deployment is made of, by region; a price that is not known is None, never nought.

Discounts for sustained or committed use, taxes and negotiated prices are not in it, and neither is traffic.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from enum import StrEnum

HOURS_A_MONTH = 730  # Google's own month for prices
OLD_DAYS = 60  # Spot prices change about every month: e2-medium in us-central1 by half within seven months


class Source(StrEnum):
    """Where prices come from."""

    TABLE = "the table that is shipped with this version"
    CATALOG = "Google's Cloud Billing Catalog"


@dataclass(frozen=True)
class MachinePrice:
    """Of one machine type, in dollars an hour; None: that SKU is not known."""

    on_demand: float | None
    spot: float | None

    def of(self, provisioning: str) -> float | None:
        """`Spot` or `Standard`."""
        return self.spot if provisioning == "Spot" else self.on_demand


@dataclass(frozen=True)
class AddressPrice:
    """Of one external address, in dollars an hour: used by a running VM, or reserved while none runs."""

    on_demand: float | None
    spot: float | None
    unused: float | None


@dataclass(frozen=True)
class RegionPrices:
    """Of one region; the disk is balanced persistent disk, it and what lies in a bucket (Standard storage) in
    dollars a GiB and month.
    """

    machines: Mapping[str, MachinePrice]
    disk: float | None
    address: AddressPrice
    storage: float | None = None


@dataclass(frozen=True)
class Rates:
    """One deployment's, in dollars an hour."""

    machine: float
    disk: float
    address: float
    address_unused: float

    @property
    def running(self) -> float:
        """While its VM runs."""
        return self.machine + self.disk + self.address

    @property
    def stopped(self) -> float:
        """While its VM is off: disk and address go on, and a reserved address costs more than a used one."""
        return self.disk + self.address_unused


@dataclass(frozen=True)
class PriceList:
    """All prices that are known, and as of when."""

    as_of: date
    source: Source
    regions: Mapping[str, RegionPrices]

    def rates(self, region: str, machine_type: str, provisioning: str, disk_gib: int) -> Rates | None:
        """What a deployment costs an hour; None if one of its prices is not known."""
        found = self.regions.get(region)
        if found is None or machine_type not in found.machines:
            return None
        machine = found.machines[machine_type].of(provisioning)
        address = found.address.spot if provisioning == "Spot" else found.address.on_demand
        unused, disk = found.address.unused, found.disk
        if machine is None or address is None or unused is None or disk is None:
            return None
        return Rates(machine, disk * disk_gib / HOURS_A_MONTH, address, unused)

    def note(self, today: date) -> Iterator[str]:
        """What has to be said with every sum of them."""
        yield f"List prices of {self.as_of:%Y-%m-%d}, from {self.source}; traffic is not included."
        if self.is_old(today):
            yield "WARNING: they are older than 60 days, and Spot prices change about every month."

    def is_old(self, today: date) -> bool:
        """Whether Spot prices may well have changed since."""
        return (today - self.as_of).days > OLD_DAYS
