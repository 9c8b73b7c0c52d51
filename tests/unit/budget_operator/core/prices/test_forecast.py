"""The shipped table, and what deployments cost with it."""

from datetime import date, timedelta
from typing import Any

import pytest

from budget_operator.core.api import Spec, parse_spec
from budget_operator.core.prices import table
from budget_operator.core.prices.forecast import forecast
from budget_operator.core.prices.model import OLD_DAYS, PriceList, Source

PRICES = table.shipped()


def spec(**machine: Any) -> Spec:
    return parse_spec({"predictor": {"inline": "class Predictor: ..."}, "machine": machine})


def test_the_table_has_every_machine_in_every_region_with_disk_and_address() -> None:
    assert PRICES.source is Source.TABLE
    assert len(PRICES.regions) >= 12
    types = set(PRICES.regions["us-central1"].machines)
    assert len(types) >= 12
    for region, found in PRICES.regions.items():
        assert set(found.machines) == types, region
        for machine_type in types:
            rates = PRICES.rates(region, machine_type, "Spot", 20)
            standard = PRICES.rates(region, machine_type, "Standard", 20)
            assert rates and standard and 0 < rates.running < standard.running, (region, machine_type)


@pytest.mark.parametrize(
    ("region", "machine_type", "running", "on_demand", "stopped"),
    [
        ("us-central1", "e2-small", 11.2, None, 2.0),
        ("us-central1", "e2-medium", 18.5, 30.1, 2.0),
        ("us-west4", "e2-medium", 7.3, None, 2.2),
    ],
)
def test_known_months(
    region: str, machine_type: str, running: float, on_demand: float | None, stopped: float
) -> None:
    """Worked out by hand for 730 hours and 20 GiB."""
    found = forecast(PRICES, spec(type=machine_type), region)
    assert found
    assert found.running.total == pytest.approx(running, abs=0.06)
    assert found.stopped == pytest.approx(stopped, abs=0.06)
    if on_demand is not None:
        assert found.on_demand == pytest.approx(on_demand, abs=1.9), "the address costs twice as much, too"


def test_cheaper_regions_come_cheapest_first() -> None:
    found = forecast(PRICES, spec(type="e2-medium"), "us-central1")
    assert found
    totals = [each.total for each in found.cheaper]
    assert totals == sorted(totals)
    assert all(total < found.running.total for total in totals)
    assert found.cheaper[0].region == "us-west4"
    cheapest = forecast(PRICES, spec(type="e2-medium"), "us-west4")
    assert cheapest and cheapest.cheaper == ()


@pytest.mark.parametrize(
    ("region", "machine_type"), [("us-central1", "g2-standard-4"), ("mars-north1", "e2-medium")]
)
def test_what_is_not_known_has_no_forecast(region: str, machine_type: str) -> None:
    assert forecast(PRICES, spec(type=machine_type), region) is None


def test_old_prices_are_told() -> None:
    known = PriceList(date(2026, 7, 30), Source.TABLE, {})
    assert not known.is_old(known.as_of + timedelta(days=OLD_DAYS))
    assert known.is_old(known.as_of + timedelta(days=OLD_DAYS + 1))


def test_a_table_without_spot_price_costs_the_same_on_spot() -> None:
    text = "# as of 2026-01-02\nkind,name,region,on_demand,spot,unit\nmachine,e2-micro,r-a1,0.01,,hour\n"
    parsed = table.parse(text)
    assert parsed.as_of == date(2026, 1, 2)
    assert parsed.regions["r-a1"].machines["e2-micro"].spot == 0.01
    assert parsed.rates("r-a1", "e2-micro", "Spot", 20) is None, "no disk, no address"
