"""The prices that are shipped: some machine types in some regions, for where the Cloud Billing API is off.

`table.csv` says of when they are and where they come from.
"""

import csv
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import cache
from importlib import resources

from budget_operator.core.prices.model import AddressPrice, MachinePrice, PriceList, RegionPrices, Source

DISK, IN_USE, UNUSED = ("disk", "pd-balanced"), ("ip", "external-in-use"), ("ip", "static-unused")
STORAGE = ("bucket", "standard")


@dataclass(frozen=True)
class Row:
    """One line: dollars an hour, a disk's a GiB and month. Without a Spot price: the same as on demand."""

    on_demand: float
    spot: float


@cache
def shipped() -> PriceList:
    """The whole table."""
    text = resources.files(__package__).joinpath("table.csv").read_text(encoding="utf-8")
    return parse(text)


def parse(text: str) -> PriceList:
    """The table from its text; its first line says as of which day."""
    as_of = re.search(r"as of (\d{4}-\d\d-\d\d)", text.partition("\n")[0])
    assert as_of, "the first line of the table says no date"
    rows: dict[str, dict[tuple[str, str], Row]] = defaultdict(dict)
    for line in csv.DictReader(line for line in text.splitlines() if not line.startswith("#")):
        on_demand = float(line["on_demand"])
        row = Row(on_demand, float(line["spot"] or on_demand))
        rows[line["region"]][line["kind"], line["name"]] = row
    regions = {region: _region(found) for region, found in rows.items()}
    return PriceList(date.fromisoformat(as_of[1]), Source.TABLE, regions)


def _region(rows: Mapping[tuple[str, str], Row]) -> RegionPrices:
    machines = {
        name: MachinePrice(row.on_demand, row.spot) for (kind, name), row in rows.items() if kind == "machine"
    }
    on_demand = {key: row.on_demand for key, row in rows.items()}
    spot = {key: row.spot for key, row in rows.items()}
    address = AddressPrice(on_demand.get(IN_USE), spot.get(IN_USE), on_demand.get(UNUSED))
    return RegionPrices(machines, on_demand.get(DISK), address, on_demand.get(STORAGE))
