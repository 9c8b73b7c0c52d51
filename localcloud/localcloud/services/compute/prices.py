"""What Compute Engine charges an hour, for the page that people look at. Pure.

List prices of us-central1 in US dollars: pricing.yml of google-cloud-pricing-cost-calculator, Apache-2.0.
A type that is not there has no price rather than a wrong one. Traffic is not included.
"""

from __future__ import annotations

from localcloud.services.compute.catalog import MACHINES

AS_OF = "2026-07-30"
HOURS_A_MONTH = 730
ADDRESS_UNUSED = 0.01
_ADDRESS_IN_USE = (0.005, 0.0025)
_DISK_GIB_A_MONTH = {"pd-standard": 0.04, "pd-balanced": 0.10}
_TYPES = {
    "e2-micro": (0.00837643, 0.0050265),
    "e2-small": (0.01675286, 0.010053),
    "e2-medium": (0.03350571, 0.020106),
    "g2-standard-4": (0.70683226, 0.397336),
}
#: Of one processor, with its memory.
_FAMILIES = {
    "e2-standard": (0.03350571, 0.020106),
    "e2-highmem": (0.04519983, 0.027122),
    "n1-standard": (0.04749975, 0.0167525),
    "n2-standard": (0.048559, 0.02303),
    "t2d-standard": (0.042246, 0.01576),
}


def machine(name: str, *, spot: bool) -> float | None:
    """An hour of a running machine; None where the price is not known."""
    if name in _TYPES:
        return _TYPES[name][spot]
    family = _FAMILIES.get(name.rpartition("-")[0])
    return None if family is None else family[spot] * MACHINES[name].cpus


def disk(kind: str, gib: int) -> float | None:
    """An hour of a disk, used or not; None where the price is not known."""
    monthly = _DISK_GIB_A_MONTH.get(kind)
    return None if monthly is None else gib * monthly / HOURS_A_MONTH


def address_in_use(*, spot: bool) -> float:
    """An hour of an external address that a running machine has."""
    return _ADDRESS_IN_USE[spot]
