"""When a pass need not be made: what a picture shows of one deployment, and how long rest is believed."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from budget_operator.core import quiet
from budget_operator.core.errors import Unavailable
from budget_operator.core.names import Owner
from budget_operator.core.observed import (
    Address,
    Bucket,
    Firewall,
    Function,
    Instance,
    InstanceStatus,
    Inventory,
    Job,
    PowerChange,
    Stored,
    Topic,
)

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
OWNER = Owner("default", "default", "iris")
VM = Instance(
    name=OWNER.cloud_name,
    zone="us-central1-a",
    id="1",
    status=InstanceStatus.RUNNING,
    machine_type="e2-medium",
    provisioning_model="SPOT",
    external_ip="10.0.0.1",
    labels={"a": "1"},
    label_fingerprint="l",
    metadata={"key": "secret"},
    metadata_fingerprint="m",
    disk_gib=20,
)
IP = Address(OWNER.cloud_name, "us-central1", "10.0.0.1", "IN_USE", {})
END = PowerChange("op", OWNER.cloud_name, "us-central1-a", NOW)
RULE = Firewall("w", "d", ("tag",), ("tcp:443",))
PICTURE = Inventory(
    taken_at=NOW,
    instances=(VM,),
    addresses=(IP,),
    bucket=Bucket("b", {}),
    owner=Stored(b"one", 1),
    topic=Topic("t", {}),
    function=Function("f", "ACTIVE", "s", "t", {}, {}),
    job=Job("j", "ENABLED", "* * * * *", "Etc/UTC", "t", "d"),
    firewall=RULE,
)


@pytest.mark.parametrize(
    ("objects", "age"), [(0, 28), (1000, 28), (1001, 56), (4000, 112), (20_000, 560), (10**6, 900)]
)
def test_a_list_of_the_bucket_keeps_to_some_two_calls_a_minute(objects: int, age: float) -> None:
    assert quiet.list_age(objects) == timedelta(seconds=age)


@pytest.mark.parametrize(
    "change",
    [
        {"instances": ()},
        {"instances": (VM, replace(VM, zone="us-central1-b"))},
        *[
            {"instances": (replace(VM, **change),)}
            for change in (
                {"status": InstanceStatus.STOPPING},
                {"machine_type": "e2-small"},
                {"external_ip": "10.0.0.2"},
                {"labels": {"a": "2"}},
                {"metadata_fingerprint": "other"},
                {"id": "2"},
                {"disk_gib": 30},
                {"tags": ("other",)},
            )
        ],
        {"addresses": ()},
        {"addresses": (replace(IP, status="RESERVED"),)},
        {"power": (END,)},
        {"bucket": None},
        {"bucket": Bucket("b", {"stranger": "1"})},
        {"topic": Topic("t", {}, subscribed=False)},
        {"function": Function("f", "FAILED", "s", "t", {}, {})},
        {"job": None},
        {"firewall": Firewall("w", "d", ("tag",), ("tcp:22",))},
        {"firewall": replace(RULE, disabled=True)},
    ],
)
def test_whatever_changes_about_it_is_seen(change: dict[str, Any]) -> None:
    assert quiet.part(replace(PICTURE, **change), OWNER) != quiet.part(PICTURE, OWNER)


@pytest.mark.parametrize(
    "change",
    [
        {"taken_at": NOW + timedelta(minutes=5)},
        {"owner": Stored(b"two", 2)},
        {"instances": (VM, replace(VM, name="another"))},
        {"power": (replace(END, instance="another"),)},
    ],
)
def test_what_is_no_business_of_its_is_not(change: dict[str, Any]) -> None:
    assert quiet.part(replace(PICTURE, **change), OWNER) == quiet.part(PICTURE, OWNER)


def test_what_cannot_be_seen_is_not_the_same() -> None:
    assert quiet.part(replace(PICTURE, unknown=frozenset({"zones/us-central1-b"})), OWNER) is None
    assert quiet.part(replace(PICTURE, problems={"job": Unavailable("no")}), OWNER) is None


def test_the_pauses_grow_and_are_bounded() -> None:
    pauses = [quiet.pause(passes, 1.0) for passes in range(1, 6)]
    assert pauses == [timedelta(minutes=1), *[timedelta(hours=1)] * 4]
    assert quiet.pause(1, 0.0) == timedelta(seconds=48), "those of many deployments spread"


def test_the_content_of_a_reference() -> None:
    one = quiet.content({"a": b"1", "b": b"2"})
    assert one == quiet.content({"b": b"2", "a": b"1"})
    assert len({one, quiet.content({"a": b"1"}), quiet.content({}), quiet.content(None)}) == 4
