"""Prices from SKUs in the shape of Google's Cloud Billing Catalog, with what in it has misled others."""

from collections.abc import Sequence
from datetime import date
from itertools import permutations
from typing import Any

import pytest

from budget_operator.core.prices.model import AddressPrice, MachinePrice, PriceList
from budget_operator.core.prices.skus import Sku, price_list, shape

TODAY = date(2026, 11, 29)
CORE, RAM = "E2 Instance Core running in Americas", "E2 Instance Ram running in Americas"


def sku(
    description: str,
    nanos: int,
    *regions: str,
    usage: str = "OnDemand",
    unit: str = "h",
    units: str = "0",
    tiers: Sequence[dict[str, Any]] | None = None,
    **more: Any,
) -> Sku:
    """As `services.skus.list` gives one; numbers of whole units are text there."""
    rates = tiers or [
        {"startUsageAmount": 0, "unitPrice": {"currencyCode": "USD", "units": units, "nanos": nanos}}
    ]
    document = {
        "name": "services/6F81-5844-456A/skus/0000-0000-0001",
        "skuId": "0000-0000-0001",
        "description": description,
        "category": {
            "serviceDisplayName": "Compute Engine",
            "resourceFamily": "Compute",
            "resourceGroup": "CPU",
            "usageType": usage,
        },
        "serviceRegions": list(regions) or ["us-central1"],
        "pricingInfo": [
            {
                "summary": "",
                "pricingExpression": {"usageUnit": unit, "displayQuantity": 1, "tieredRates": rates},
                "currencyConversionRate": 1,
                "effectiveTime": "2026-11-01T00:00:00Z",
            }
        ],
        "serviceProviderName": "Google",
    }
    return Sku.model_validate(document | more)


def spot(description: str, nanos: int, *regions: str, unit: str = "h") -> Sku:
    return sku(f"Spot Preemptible {description}", nanos, *regions, usage="Preemptible", unit=unit)


E2 = (
    sku(CORE, 21_811_590),
    sku(RAM, 2_923_530, unit="GiBy.h"),
    spot(CORE, 12_000_000),
    spot(RAM, 2_000_000, unit="GiBy.h"),
)


def prices(*skus: Sku, types: Sequence[str] = ("e2-medium",)) -> PriceList:
    return price_list(skus, TODAY, types)


def machine(*skus: Sku, machine_type: str = "e2-medium", region: str = "us-central1") -> MachinePrice | None:
    found = prices(*skus, types=[machine_type]).regions.get(region)
    return None if found is None else found.machines.get(machine_type)


def test_a_type_costs_its_cores_and_its_memory() -> None:
    found = machine(*E2)
    assert found and found.on_demand == pytest.approx(0.02181159 + 4 * 0.00292353)
    assert found.spot == pytest.approx(0.012 + 4 * 0.002)


@pytest.mark.parametrize(
    ("machine_type", "cpus", "gib"),
    [
        ("e2-micro", 0.25, 1),
        ("e2-small", 0.5, 2),
        ("e2-medium", 1, 4),
        ("e2-standard-4", 4, 16),
        ("e2-highmem-2", 2, 16),
        ("n1-standard-2", 2, 7.5),
        ("n1-highmem-2", 2, 13),
        ("t2d-standard-1", 1, 4),
    ],
)
def test_shared_cores_are_charged_in_part(machine_type: str, cpus: float, gib: float) -> None:
    made_of = shape(machine_type)
    assert made_of and made_of[1:] == (cpus, gib)


@pytest.mark.parametrize(
    "machine_type", ["g2-standard-4", "a2-highgpu-1g", "e2-custom-2-4096", "m9-standard-4", "e2"]
)
def test_a_type_of_unknown_make_has_no_price(machine_type: str) -> None:
    assert shape(machine_type) is None
    assert machine(*E2, machine_type=machine_type) is None


@pytest.mark.parametrize("missing", range(4))
def test_a_missing_sku_is_no_price_rather_than_a_wrong_one(missing: int) -> None:
    found = machine(*(each for number, each in enumerate(E2) if number != missing))
    assert found
    assert (found.on_demand is None, found.spot is None) == (missing < 2, missing >= 2)


def test_what_was_called_preemptible_is_spot() -> None:
    old = [
        sku(f"Preemptible {each}", 1_000_000, usage="Preemptible", unit=unit)
        for each, unit in ((CORE, "h"), (RAM, "GiBy.h"))
    ]
    found = machine(*old)
    assert found and found.on_demand is None
    assert found.spot == pytest.approx(0.005)


@pytest.mark.parametrize(
    "other",
    [
        "E2 Custom Instance Core running in Americas",
        "E2 Custom Extended Instance Ram running in Americas",
        "E2 Sole Tenancy Instance Core running in Americas",
        "Commitment v1: E2 Cpu in Americas for 1 Year",
        "Reserved E2 Instance Core in Americas",
        "DWS Calendar Mode E2 Instance Core running in Americas",
        "DWS Defined Duration E2 Instance Core running in Americas",
        "E2 Instance Core running in Americas with Confidential Computing".replace(
            "running in", "Confidential running in"
        ),
        "N2D AMD Custom Instance Core running in Americas",
        "Network Internet Egress from Americas to EMEA",
    ],
)
def test_what_is_sold_by_other_words_counts_for_nothing(other: str) -> None:
    assert machine(*E2, sku(other, 1)) == machine(*E2)
    assert machine(sku(other, 1), sku(RAM, 2_923_530, unit="GiBy.h")) in (None, MachinePrice(None, None))


@pytest.mark.parametrize("usage", ["Commit1Yr", "Commit3Yr", ""])
def test_a_commitment_is_no_price_for_who_has_none(usage: str) -> None:
    assert machine(sku(CORE, 1, usage=usage), *E2[1:]) == machine(*E2[1:])


def test_every_region_of_a_sku_has_its_price() -> None:
    both = [
        sku(each.description, 1_000_000, "us-central1", "us-east1", unit=unit)
        for each, unit in ((E2[0], "h"), (E2[1], "GiBy.h"))
    ]
    assert machine(*both, region="us-east1") == machine(*both, region="us-central1") != None  # noqa: E711


def test_the_regions_own_sku_beats_one_of_many_in_any_order() -> None:
    many = sku(CORE, 1_000_000, "us-central1", "us-east1")
    for order in permutations((many, E2[0], E2[1])):
        found = machine(*order)
        assert found and found.on_demand == pytest.approx(0.02181159 + 4 * 0.00292353)


def test_of_two_for_the_same_the_dearer_counts_in_any_order() -> None:
    for order in permutations((sku(CORE, 1_000_000), sku(CORE, 3_000_000), E2[1])):
        found = machine(*order)
        assert found and found.on_demand == pytest.approx(0.003 + 4 * 0.00292353)


def test_a_free_first_tier_is_not_the_price() -> None:
    tiers = [
        {"startUsageAmount": 730, "unitPrice": {"units": "0", "nanos": 30_000_000}},
        {"startUsageAmount": 0, "unitPrice": {"units": "0", "nanos": 0}},
    ]
    found = machine(sku(CORE, 0, tiers=tiers), E2[1])
    assert found and found.on_demand == pytest.approx(0.03 + 4 * 0.00292353)


def test_a_sku_that_costs_nothing_is_no_price() -> None:
    found = machine(sku(CORE, 0), *E2[1:])
    assert found and found.on_demand is None


def test_the_latest_price_holds() -> None:
    old, new = (
        each.model_dump(by_alias=True)["pricingInfo"][0]
        for each in (sku(CORE, 9_000_000), sku(CORE, 5_000_000))
    )
    old["effectiveTime"], new["effectiveTime"] = "2026-01-01T00:00:00Z", "2026-11-02T00:00:00Z"
    found = machine(sku(CORE, 1, pricingInfo=[new, old]), E2[1])
    assert found and found.on_demand == pytest.approx(0.005 + 4 * 0.00292353)


def test_another_unit_is_another_price() -> None:
    found = machine(sku(CORE, 21_811_590, unit="mo"), *E2[1:])
    assert found and found.on_demand is None


def test_whole_dollars_count() -> None:
    found = machine(sku(CORE, 500_000_000, units="2"), E2[1])
    assert found and found.on_demand == pytest.approx(2.5 + 4 * 0.00292353)


def test_disks_and_addresses() -> None:
    found = prices(
        sku("Balanced PD Capacity", 100_000_000, unit="GiBy.mo"),
        sku("Regional Balanced PD Capacity", 200_000_000, unit="GiBy.mo"),
        sku("SSD backed PD Capacity", 170_000_000, unit="GiBy.mo"),
        sku("External IP Charge on a Standard VM", 5_000_000),
        sku("External IP Charge on a Spot Preemptible VM", 2_500_000),
        sku("Static Ip Charge", 10_000_000),
        *E2,
    )
    region = found.regions["us-central1"]
    assert (region.disk, region.address) == (0.1, AddressPrice(0.005, 0.0025, 0.01))
    rates = found.rates("us-central1", "e2-medium", "Spot", 20)
    assert rates and rates.running == pytest.approx(0.02 + 2 / 730 + 0.0025)
    assert rates.stopped == pytest.approx(2 / 730 + 0.01)
