"""In which zones a deployment may run: those it lists, or those of a region chosen for its price. Pure.

A region is chosen once: from the VM's first boot on the address, and with it the region, stays. Which zone of
several is taken is decided by `checks.instance` and `checks.move`.
"""

from collections.abc import Iterable, Set

from budget_operator.core.api import Spec, Status
from budget_operator.core.errors import InvalidSpec
from budget_operator.core.names import region_of
from budget_operator.core.observed import Address, Instance
from budget_operator.core.prices.forecast import everywhere
from budget_operator.core.prices.model import PriceList


def listed(spec: Spec, default: tuple[str, ...]) -> tuple[str, ...] | None:
    """Zones in order of preference; None where a region is to be chosen.

    Raises:
        InvalidSpec: they lie in several regions.
    """
    zones = default if spec.placement is None else spec.placement.zones
    if zones is not None and len({region_of(zone) for zone in zones}) != 1:
        raise InvalidSpec("spec.placement.zones: all zones must lie in one region")
    return zones


def bound(status: Status, instance: Instance | None, addresses: tuple[Address, ...]) -> str:
    """The region that a deployment is in for good; empty while it may be any."""
    if instance is not None:
        return region_of(instance.zone)
    if status.instance is not None:
        return region_of(status.instance.zone)
    return addresses[0].region if addresses and status.boot else ""


def by_price(spec: Spec, prices: PriceList) -> tuple[str, ...]:
    """The regions of the spec, the cheapest first; those without a price last, in the order of the spec."""
    regions = spec.placement.regions if spec.placement is not None else None
    order = {each.region: place for place, each in enumerate(everywhere(prices, spec))}
    return tuple(sorted(regions or (), key=lambda region: order.get(region, len(order))))


def chosen(spec: Spec, prices: PriceList, offered: Iterable[str], full: Set[str]) -> tuple[str, ...]:
    """The zones of the cheapest region that has one with the machine type and room, as far as is known.

    `offered`: the zones that have the machine type; `full`: those that are sold out or without quota.

    Raises:
        InvalidSpec: no region has the machine type.
    """
    regions = by_price(spec, prices)
    zones = {
        region: tuple(sorted(each for each in offered if region_of(each) == region)) for region in regions
    }
    having = [region for region in regions if zones[region]]
    if not having:
        raise InvalidSpec(f"spec.placement.regions: {', '.join(regions)} do not offer {spec.machine.type}")
    return zones[next((each for each in having if set(zones[each]) - full), having[0])]
