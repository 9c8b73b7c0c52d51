"""The figures in the status."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from budget_operator.core.api import Cost, CostParts, Spec, parse_spec
from budget_operator.core.cost import told
from budget_operator.core.cost.stretches import Book, Part, Stretch
from budget_operator.core.cost.told import There
from budget_operator.core.observed import Address, Instance, InstanceStatus
from budget_operator.core.prices import table
from budget_operator.core.prices.model import PriceList

NOW = datetime(2026, 8, 3, 15, 20, tzinfo=UTC)
MONTH = datetime(2026, 8, 1, tzinfo=UTC)
PRICES = table.shipped()
REGION = "us-central1"
ADDRESS = Address("budget-iris-1", REGION, "10.0.0.1", "IN_USE", {})
VM = Instance(
    name="budget-iris-1",
    zone=f"{REGION}-a",
    id="1",
    status=InstanceStatus.RUNNING,
    machine_type="e2-medium",
    provisioning_model="SPOT",
    external_ip="10.0.0.1",
    labels={},
    label_fingerprint="",
    metadata={},
    metadata_fingerprint="",
    disk_gib=20,
)


def spec(**machine: Any) -> Spec:
    return parse_spec({"predictor": {"inline": "class Predictor: ..."}, "machine": machine})


NOTHING = There()


def cost(there: There = NOTHING, now: datetime = NOW, **machine: Any) -> Cost:
    return told.cost(PRICES, spec(**machine), REGION, there, now)


def test_before_anything_is_there_the_month_is_forecast() -> None:
    found = cost()
    assert found.parts == CostParts(machine=14.68, disk=2.0, address=1.82)
    assert (found.forecast, found.hourly) == (18.5, 0.0)
    assert found.saved_versus_on_demand == pytest.approx(11.61)
    assert (found.prices_as_of, found.note) == ("2026-07-30", None)
    assert found.not_included and found.not_included.startswith("egress")


@pytest.mark.parametrize(
    ("there", "hourly"),
    [
        (There((VM,), (ADDRESS,)), 0.020106 + 0.0025 + 2 / 730),
        (There((replace(VM, status=InstanceStatus.TERMINATED),), (ADDRESS,)), 0.01 + 2 / 730),
        (There((replace(VM, status=InstanceStatus.STAGING),), (ADDRESS,)), 0.01 + 2 / 730),
        (There((), (ADDRESS,)), 0.01),
        (There((VM,), (ADDRESS, ADDRESS)), 0.020106 + 0.0025 + 0.01 + 2 / 730),
    ],
)
def test_an_hour_costs_what_is_there(there: There, hourly: float) -> None:
    assert cost(there).hourly == pytest.approx(hourly, abs=0.00005)
    assert cost(there).forecast == 18.5


def test_a_standard_vm_saves_nothing() -> None:
    found = cost(provisioning="Standard")
    assert found.saved_versus_on_demand == 0.0
    assert found.forecast == pytest.approx(30.11, abs=0.01)


def test_what_has_no_price_has_no_figures_and_says_so() -> None:
    found = cost(type="n1-standard-96")
    assert (found.forecast, found.parts, found.saved_versus_on_demand) == (None, None, None)
    assert found.note == f"there is no price of n1-standard-96 (Spot) in us-central1 in {PRICES.source}"
    assert cost(There((replace(VM, machine_type="n1-standard-96"),), ())).hourly is None
    assert cost(There((), (replace(ADDRESS, region="mars-north1"),))).hourly is None


def test_old_prices_are_told() -> None:
    assert cost(now=NOW + timedelta(days=60)).note
    assert "older than 60 days" in (cost(now=NOW + timedelta(days=60)).note or "")
    fresh = PriceList(date(2026, 10, 1), PRICES.source, PRICES.regions)
    assert told.cost(fresh, spec(), REGION, NOTHING, NOW + timedelta(days=60)).note is None


def stretch(since: datetime, until: datetime, rate: float | None = 0.1, *, on: bool = False) -> Stretch:
    return Stretch(Part.DISK, "1", since, since, until, on, "20 GiB", rate)


def test_the_month_is_told_as_of_midnight_or_the_last_change() -> None:
    on: Book = (stretch(MONTH, MONTH, on=True),)
    found = told.metered(Cost(), on, NOW)
    assert (found.month_to_date, found.as_of) == (4.8, "2026-08-03T00:00:00Z")
    assert told.metered(Cost(), on, NOW + timedelta(hours=3)) == found, "the same all day"
    ended = (stretch(MONTH, NOW - timedelta(hours=5, minutes=20)),)
    found = told.metered(Cost(), ended, NOW)
    assert (found.month_to_date, found.as_of) == (5.8, "2026-08-03T10:00:00Z")
    begun = (stretch(NOW, NOW, on=True),)
    assert told.metered(Cost(), begun, NOW).as_of == "2026-08-03T15:20:00Z"


def test_a_new_month_begins_with_nothing() -> None:
    ended = (stretch(MONTH, MONTH + timedelta(days=3)),)
    assert told.metered(Cost(), ended, datetime(2026, 9, 1, 5, tzinfo=UTC)).month_to_date == 0.0
    nothing = told.metered(Cost(), (), NOW)
    assert (nothing.month_to_date, nothing.as_of) == (0.0, None)


def test_a_month_with_an_unknown_price_has_no_sum() -> None:
    found = told.metered(Cost(), (stretch(MONTH, NOW, None),), NOW)
    assert found.month_to_date is None
    assert found.note == "this month has no sum: there was no price of 20 GiB"


def test_what_could_not_be_metered_stays_as_it_was() -> None:
    before = Cost(month_to_date=3.0, as_of="2026-08-02T00:00:00Z", hourly=1.0)
    found = told.unmetered(Cost(hourly=2.0), before)
    assert (found.month_to_date, found.as_of, found.hourly) == (3.0, "2026-08-02T00:00:00Z", 2.0)
