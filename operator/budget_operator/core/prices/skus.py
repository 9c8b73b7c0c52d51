"""Prices out of the SKUs of Google's Cloud Billing Catalog (`services.skus.list`).

A machine type's price is that of its vCPUs and of its memory, each a SKU of its own and each once more for
Spot. Google names no type in them, so a SKU is known by its description, and what is not exactly one of the
known ones counts for nothing: reservations, commitments, sole tenants, custom machines are sold by
words of their own. A type with one SKU missing has no price.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from budget_operator.core.prices.model import AddressPrice, MachinePrice, PriceList, RegionPrices, Source

HOUR, GIB_HOUR, GIB_MONTH = "h", "GiBy.h", "GiBy.mo"
SPOT, ON_DEMAND = "Preemptible", "OnDemand"
#: Families as Google names them in descriptions, by the first part of a type's name.
FAMILIES = {
    "e2": "E2 Instance",
    "n1": "N1 Predefined Instance",
    "n2": "N2 Instance",
    "n2d": "N2D AMD Instance",
    "t2d": "T2D AMD Instance",
    "c2d": "C2D AMD Instance",
    "c3": "C3 Instance",
    "c3d": "C3D Instance",
    "n4": "N4 Instance",
    "c4": "C4 Instance",
}
#: vCPUs that are charged, and GiB: the types that share a core are charged for a part of one.
SHARED = {"e2-micro": (0.25, 1.0), "e2-small": (0.5, 2.0), "e2-medium": (1.0, 4.0)}
#: GiB for each vCPU, by family where one differs.
GIB = {"standard": 4.0, "highmem": 8.0, "highcpu": 1.0}
GIB_OF = {("n1", "standard"): 3.75, ("n1", "highmem"): 6.5, ("n1", "highcpu"): 0.9}
_UNSURE = {
    ("c3", "highcpu"),
    ("c3d", "highcpu"),
    ("n4", "highcpu"),
    ("c4", "highcpu"),
    ("c4", "standard"),
    ("c4", "highmem"),
}
_TYPE = re.compile(r"(?P<family>[a-z]\w+)-(?P<kind>standard|highmem|highcpu)-(?P<cpus>\d+)")
_SPOT = r"(?:Spot Preemptible |Preemptible )?"  # the second is how Google wrote it until 2025
_MACHINE = re.compile(rf"{_SPOT}(?P<family>.+?) (?P<part>Core|Ram) running in .+")
_DISK = re.compile(r"Balanced PD Capacity(?: in .+)?")
_USED = re.compile(r"External IP Charge on a (?P<vm>Standard|Spot Preemptible) VM(?: in .+)?")
_UNUSED = re.compile(r"Static Ip Charge(?: in .+)?")


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True, extra="ignore")


class Money(_Part):
    """Whole units, which Google writes as text, and billionths of one."""

    units: int = 0
    nanos: int = 0

    @property
    def dollars(self) -> float:
        """Both together."""
        return self.units + self.nanos / 1e9


class Tier(_Part):
    """A price from an amount used upwards."""

    start_usage_amount: float = 0.0
    unit_price: Money = Money()


class Expression(_Part):
    """How much of what costs what."""

    usage_unit: str = ""
    tiered_rates: tuple[Tier, ...] = ()


class Pricing(_Part):
    """One price of a SKU and from when on it holds."""

    effective_time: str = ""
    pricing_expression: Expression = Expression()


class Category(_Part):
    """What a SKU is about."""

    usage_type: str = ""


class Sku(_Part):
    """One of the catalog, as far as it is looked at."""

    description: str = ""
    category: Category = Category()
    service_regions: tuple[str, ...] = ()
    pricing_info: tuple[Pricing, ...] = ()

    def price(self, unit: str) -> float | None:
        """The price that holds now: of the first tier that is not free. None: for another unit."""
        if not self.pricing_info:
            return None
        latest = max(self.pricing_info, key=lambda each: each.effective_time).pricing_expression
        paid = [tier for tier in latest.tiered_rates if tier.unit_price.dollars > 0]
        if latest.usage_unit != unit or not paid:
            return None
        return min(paid, key=lambda tier: tier.start_usage_amount).unit_price.dollars


@dataclass(frozen=True)
class Key:
    """What a price is for: (`E2 Instance Core`, Spot) and the like."""

    what: str
    spot: bool = False


def price_list(skus: Iterable[Sku], as_of: date, machine_types: Iterable[str]) -> PriceList:
    """All prices of these types; the order of the SKUs does not matter."""
    found = _collect(skus)
    types = sorted(machine_types)
    regions = {region: _region(prices, types) for region, prices in found.items()}
    return PriceList(as_of, Source.CATALOG, regions)


def machine_types() -> list[str]:
    """Every type of the known families; that Google offers each of them is not said."""
    names = [
        f"{family}-{kind}-{cpus}" for family in FAMILIES for kind in GIB for cpus in (1, 2, 4, 8, 16, 32)
    ]
    return [name for name in (*SHARED, *names) if shape(name) is not None]


def shape(machine_type: str) -> tuple[str, float, float] | None:
    """Google's name of the family, vCPUs that are charged, GiB; None for a type whose SKUs are not known."""
    family = machine_type.partition("-")[0]
    if machine_type in SHARED:
        return (FAMILIES[family], *SHARED[machine_type])
    named = _TYPE.fullmatch(machine_type)
    if named is None or family not in FAMILIES or (family, named["kind"]) in _UNSURE:
        return None
    cpus = int(named["cpus"])
    return FAMILIES[family], float(cpus), cpus * GIB_OF.get((family, named["kind"]), GIB[named["kind"]])


def _collect(skus: Iterable[Sku]) -> dict[str, dict[Key, float]]:
    """By region. One of a region alone beats one of many; of equals the dearer counts, in any order."""
    best: dict[tuple[str, Key], tuple[int, float]] = {}
    for sku in skus:
        known = _key(sku)
        if known is None:
            continue
        key, unit = known
        price = sku.price(unit)
        if price is None:
            continue
        for region in sku.service_regions:
            rank = (-len(sku.service_regions), price)
            best[region, key] = max(best.get((region, key), rank), rank)
    found: dict[str, dict[Key, float]] = {}
    for (region, key), (_, price) in best.items():
        found.setdefault(region, {})[key] = price
    return found


def _key(sku: Sku) -> tuple[Key, str] | None:
    """What it is a price for, and in which unit that is sold."""
    if sku.category.usage_type not in (SPOT, ON_DEMAND):
        return None
    spot, text = sku.category.usage_type == SPOT, sku.description
    if machine := _MACHINE.fullmatch(text):
        if machine["family"] not in FAMILIES.values():
            return None
        return Key(f"{machine['family']} {machine['part']}", spot), HOUR if machine[
            "part"
        ] == "Core" else GIB_HOUR
    if _DISK.fullmatch(text):
        return Key("disk"), GIB_MONTH
    if used := _USED.fullmatch(text):
        return Key("address", used["vm"] != "Standard"), HOUR
    return (Key("unused address"), HOUR) if _UNUSED.fullmatch(text) else None


def _region(prices: Mapping[Key, float], machine_types: Iterable[str]) -> RegionPrices:
    address = AddressPrice(
        prices.get(Key("address")), prices.get(Key("address", spot=True)), prices.get(Key("unused address"))
    )
    machines = {
        name: MachinePrice(*(_machine(prices, name, spot) for spot in (False, True)))
        for name in machine_types
    }
    known = {name: price for name, price in machines.items() if price != MachinePrice(None, None)}
    return RegionPrices(known, prices.get(Key("disk")), address)


def _machine(prices: Mapping[Key, float], machine_type: str, spot: bool) -> float | None:
    made_of = shape(machine_type)
    if made_of is None:
        return None
    family, cpus, gib = made_of
    core, ram = (prices.get(Key(f"{family} {part}", spot)) for part in ("Core", "Ram"))
    return None if core is None or ram is None else cpus * core + gib * ram
