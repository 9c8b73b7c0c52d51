"""When an object goes without its parts, and what is said about them."""

from typing import Any

import pytest

from budget_operator.core.api import ABANDON, Intent, Status
from budget_operator.core.conditions import Reason
from budget_operator.core.parting import Parting, ignored, parting
from tests.unit.budget_operator.core.conftest import OWNER
from tests.unit.budget_operator.fakes import SETTINGS

SERVING = Status(zone="us-central1-b", ip="10.0.0.1")


def document(abandon: str | None = None, **spec: Any) -> dict[str, Any]:
    annotations = {} if abandon is None else {"annotations": {ABANDON: abandon}}
    return {"metadata": {"uid": "1", **annotations}, "spec": spec}


def part(wanted: dict[str, Any], status: Status = SERVING) -> Parting | None:
    return parting(wanted, status, OWNER, SETTINGS, "the-key")


@pytest.mark.parametrize("wanted", [document(), document(deletionPolicy="Delete"), document("2")])
def test_everything_is_removed_unless_somebody_asks(wanted: dict[str, Any]) -> None:
    assert part(wanted) is None


def test_a_spec_that_cannot_work_may_be_retained() -> None:
    found = part(document(deletionPolicy="Retain", predictor={"oops": 1}))
    assert found is not None
    assert found.reason is Reason.RETAINED


def test_what_stays_is_named() -> None:
    found = part(document(deletionPolicy="Retain"))
    name = OWNER.cloud_name
    assert found is not None
    assert f"VM {name} in us-central1-b; address {name} (10.0.0.1) in us-central1;" in found.message
    assert f"gs://bucket/code/{name}/" in found.message
    assert "Secret budgetml-system/the-key" in found.message


def test_nothing_is_claimed_to_stay_that_was_never_made() -> None:
    found = part(document(deletionPolicy="Retain"), Status())
    assert found is not None
    assert "VM" not in found.message
    assert "address" not in found.message


@pytest.mark.parametrize(
    ("status", "where"),
    [
        (Status(), "in us-central1-a or us-central1-b"),
        (SERVING, "in us-central1-b"),
        (Status(instance=Intent(name="x", zone="us-central1-b", request_id="r")), "in us-central1-b"),
    ],
)
def test_whatever_may_be_there_is_named_when_it_is_given_up(status: Status, where: str) -> None:
    found = part(document("1", deletionPolicy="Retain"), status)
    assert found is not None
    assert found.reason is Reason.ABANDONED
    assert f"VM {OWNER.cloud_name} {where}" in found.message
    assert "firewall rule" in found.message
    assert len(found.message) < 1024, "an Event holds no more"


@pytest.mark.parametrize("given", [None, "1"])
def test_nothing_is_ignored(given: str | None) -> None:
    assert ignored(document(given)) == ""


def test_another_uid_is_ignored() -> None:
    assert "has to be 1, the uid of this object" in ignored(document("2"))
