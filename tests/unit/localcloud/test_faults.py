from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from localcloud import faults
from localcloud.faults import Faults, parse
from localcloud.store import Store

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def known(store: Store) -> Faults:
    return Faults(store)


def add(known: Faults, **document: Any) -> str:
    return known.add(parse(document), NOW)


def test_a_fault_fails_so_many_matching_calls(known: Faults, store: Store) -> None:
    add(known, path="/instances$", method="POST", count=2)
    assert known.take("GET", "/instances") is None
    assert known.take("POST", "/instances/vm1/start") is None
    assert known.take("POST", "/zones/z/instances") is not None
    assert Faults(store).take("POST", "/zones/z/instances") is not None, "kept over a restart"
    assert known.take("POST", "/zones/z/instances") is None
    assert known.all() == ()


def test_a_fault_without_a_count_stays_until_it_is_removed(known: Faults) -> None:
    name = add(known, path="x", count=0)
    assert all(known.take("GET", "x") for _ in range(3))
    assert known.remove(name) is True
    assert known.remove(name) is False
    assert known.take("GET", "x") is None


def test_stock_outs_are_per_zone_type_model_and_moment(known: Faults) -> None:
    add(
        known,
        kind="stock-out",
        zone="z1",
        machineType="e2-small",
        code="ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS",
    )
    add(known, kind="stock-out", zone="z2", model="SPOT", when="request")
    found = known.stock_out("z1", "e2-small", spot=True, when="operation")
    assert found is not None
    assert found.code.endswith("WITH_DETAILS")
    assert known.stock_out("z1", "e2-medium", spot=True, when="operation") is None
    assert known.stock_out("z1", "e2-small", spot=True, when="request") is None
    assert known.stock_out("z2", "e2-medium", spot=True, when="request") is not None
    assert known.stock_out("z2", "e2-medium", spot=False, when="request") is None


def test_a_fresh_api_is_so_for_a_while(known: Faults) -> None:
    add(known, kind="fresh-api", service="cloudfunctions", seconds=60)
    assert known.fresh("cloudfunctions", NOW + timedelta(seconds=59))
    assert not known.fresh("cloudfunctions", NOW + timedelta(seconds=60))
    assert not known.fresh("pubsub", NOW)


def test_machines_are_named_by_patterns(known: Faults) -> None:
    add(known, kind="slow-boot", instance="budget-*", seconds=5)
    add(known, kind="slow-boot", seconds=1)
    add(known, kind="crashing-vm", instance="budget-a", seconds=9)
    assert (known.boot_delay("budget-a"), known.boot_delay("other")) == (6, 1)
    assert (known.crash_after("budget-a"), known.crash_after("budget-b")) == (9, None)
    add(known, kind="broken-model", instance="budget-a", reason="OutOfMemory")
    broken = known.broken_model("budget-a")
    assert broken is not None
    assert (broken.reason, known.broken_model("budget-b")) == ("OutOfMemory", None)


def test_all_are_listed_and_cleared(known: Faults) -> None:
    names = {
        add(known, kind="silent-zone", zone="z1"),
        add(known, kind="refused-field", field="a.b"),
        add(known, path="x"),
    }
    assert {each.id for each in known.all()} == names
    assert [each.field for each in known.of(faults.RefusedField)] == ["a.b"]
    known.clear()
    assert known.all() == ()


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({}, "path"),
        ({"path": "("}, "regular expression"),
        ({"path": "x", "when": "later"}, "when"),
        ({"path": "x", "count": -1}, "count"),
        ({"path": "x", "code": 204}, "code"),
        ({"path": "x", "code": 1}, "code"),
        ({"path": "x", "latency": "inf"}, "latency"),
        ({"kind": "quota", "region": "r", "limit": "nan"}, "limit"),
        ({"kind": "fresh-api", "service": "compute", "seconds": 1e300}, "seconds"),
        ({"kind": ["stock-out"]}, "kind"),
        ({"path": "x", "colour": "blue"}, "colour"),
        ({"kind": "earthquake"}, "stock-out"),
        ({"kind": "stock-out"}, "zone"),
        ({"kind": "disabled-api", "service": "bigquery"}, "service"),
        ({"kind": "slow-boot", "seconds": 0}, "seconds"),
    ],
)
def test_what_means_nothing_is_refused(document: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        parse(document)
