"""Which region is chosen, and when it is chosen no more."""

from dataclasses import replace
from datetime import date

import pytest

from budget_operator.core import placement
from budget_operator.core.api import Intent, Spec, Status, parse_spec
from budget_operator.core.errors import InvalidSpec
from budget_operator.core.prices.model import AddressPrice, MachinePrice, PriceList, RegionPrices, Source
from dev.simulation.apiserver import CODE
from tests.unit.budget_operator.core.conftest import OWNER, Scene

DEAR, CHEAP, UNPRICED = "us-central1", "us-west4", "us-new1"
OFFERED = ("us-central1-a", "us-central1-b", "us-new1-a", "us-west4-b", "us-west4-a")


def prices(**dollars: float) -> PriceList:
    """Of e2-medium as Spot; on demand the other way round."""
    regions = {
        name.replace("_", "-"): RegionPrices(
            {"e2-medium": MachinePrice(1 / spot, spot)}, 0.1, AddressPrice(0.005, 0.0025, 0.01)
        )
        for name, spot in dollars.items()
    }
    return PriceList(date(2026, 7, 30), Source.TABLE, regions)


PRICES = prices(us_central1=0.02, us_west4=0.01)


def spec(*regions: str, **machine: object) -> Spec:
    return parse_spec(
        {"predictor": {"inline": CODE}, "placement": {"regions": list(regions)}, "machine": machine}
    )


def test_the_cheapest_region_with_the_machine_type_is_chosen() -> None:
    wanted = spec(DEAR, CHEAP)
    assert placement.chosen(wanted, PRICES, OFFERED, set()) == ("us-west4-a", "us-west4-b")
    assert placement.chosen(wanted, PRICES, OFFERED[:2], set()) == ("us-central1-a", "us-central1-b")
    assert placement.chosen(spec(DEAR), PRICES, OFFERED, set()) == ("us-central1-a", "us-central1-b")


def test_what_counts_is_the_price_of_its_own_kind() -> None:
    wanted = spec(DEAR, CHEAP, provisioning="Standard")
    assert placement.by_price(wanted, PRICES) == (DEAR, CHEAP)


def test_regions_without_a_price_come_last_in_their_order() -> None:
    assert placement.by_price(spec(UNPRICED, DEAR, "us-old1", CHEAP), PRICES) == (
        CHEAP,
        DEAR,
        UNPRICED,
        "us-old1",
    )


def test_a_region_without_room_is_passed_over() -> None:
    wanted, west = spec(DEAR, CHEAP), {"us-west4-a", "us-west4-b"}
    assert placement.chosen(wanted, PRICES, OFFERED, {"us-west4-a"})[0] == "us-west4-a", "b has room"
    assert placement.chosen(wanted, PRICES, OFFERED, west)[0] == "us-central1-a"
    assert placement.chosen(wanted, PRICES, OFFERED, set(OFFERED))[0] == "us-west4-a", (
        "waits for the cheapest"
    )


def test_a_machine_type_that_no_region_offers() -> None:
    with pytest.raises(InvalidSpec, match=r"spec\.placement\.regions: us-central1 do not offer e2-medium"):
        placement.chosen(spec(DEAR), PRICES, ("us-west4-a",), set())


def test_a_region_is_kept_from_the_first_boot_on(scene: Scene) -> None:
    intent = Intent(name=OWNER.cloud_name, zone="us-west4-a", request_id="id")
    booted, address = Status(boot={"load": 2.0}), replace(scene.address, region=CHEAP)
    assert placement.bound(Status(), None, ()) == ""
    assert placement.bound(Status(), None, (address,)) == "", "no VM was ever there"
    assert placement.bound(Status(instance=intent), None, ()) == CHEAP
    assert placement.bound(booted, None, (address,)) == CHEAP, "somebody deleted the VM"
    assert placement.bound(booted, scene.instance, (address,)) == "us-central1"


def test_zones_are_taken_as_they_are() -> None:
    wanted = parse_spec({"predictor": {"inline": CODE}, "placement": {"zones": ["us-east1-b"]}})
    assert placement.listed(wanted, ("us-central1-a",)) == ("us-east1-b",)
    without = parse_spec({"predictor": {"inline": CODE}})
    assert placement.listed(without, ("us-central1-a",)) == ("us-central1-a",)
    assert placement.listed(spec(DEAR), ("us-central1-a",)) is None
    far = ["us-east1-b", "us-central1-a"]
    with pytest.raises(InvalidSpec, match="one region"):
        placement.listed(parse_spec({"predictor": {"inline": CODE}, "placement": {"zones": far}}), ())
