"""How an instance loses its external address and gets another one."""

from typing import Any

import pytest

from localcloud.context import Context
from localcloud.errors import ApiError
from localcloud.operations import Tasks
from localcloud.services.compute import access
from localcloud.services.compute.addresses import ADDRESS, Addresses
from localcloud.services.compute.operations import Operations
from localcloud.services.compute.records import Record

PLACE = "projects/p/regions/us-central1/addresses/a"
KEY = "projects/p/zones/us-central1-b/instances/vm1"
STATIC = "10.0.0.20"


@pytest.fixture
def addresses(context: Context) -> Addresses:
    context.store.put(ADDRESS, PLACE, {"address": STATIC, "status": "RESERVED"})
    return Addresses(context, Operations(context), Tasks("t", context.store, context.clock))


def record(status: str = "TERMINATED", **nic: Any) -> Record:
    zone = KEY.rpartition("/instances/")[0]
    body = {"zone": zone, "status": status, "networkInterfaces": [{"name": "nic0", **nic}]}
    return Record(body, "vm1")


def access_of(found: Record) -> Any:
    return found.body["networkInterfaces"][0].get("accessConfigs")


def state(context: Context) -> Any:
    return context.store.get(ADDRESS, PLACE)["status"]  # type: ignore[index]


def test_a_static_address_goes_to_an_instance_and_back(context: Context, addresses: Addresses) -> None:
    found = record()
    access.add(addresses, KEY, found, "nic0", {"name": "NAT", "natIP": STATIC})
    assert (found.ip, found.static, state(context)) == (STATIC, PLACE, "IN_USE")
    assert access_of(found)[0]["natIP"] == STATIC
    with pytest.raises(ApiError, match="At most one access config"):
        access.add(addresses, KEY, found, "nic0", {})
    with pytest.raises(ApiError, match="already being used"):
        access.add(addresses, f"{KEY}2", record(), "nic0", {"natIP": STATIC})
    access.remove(addresses, found, "nic0", "NAT")
    assert (found.ip, found.static, state(context), access_of(found)) == ("", "", "RESERVED", None)


def test_a_wrong_name_does_nothing_as_on_googles_side(context: Context, addresses: Addresses) -> None:
    found = record()
    access.add(addresses, KEY, found, "nic0", {"natIP": STATIC})
    access.remove(addresses, found, "nic0", "another")
    assert (found.ip, state(context)) == (STATIC, "IN_USE")


def test_one_that_runs_keeps_an_address_inside(context: Context, addresses: Addresses) -> None:
    found = record("RUNNING")
    access.add(addresses, KEY, found, "nic0", {"natIP": STATIC})
    access.remove(addresses, found, "nic0", "External NAT")
    assert found.ip not in ("", STATIC)
    assert found.body["networkInterfaces"][0]["networkIP"] == found.ip


def test_an_interface_that_is_not_there(addresses: Addresses) -> None:
    with pytest.raises(ApiError, match="nic1"):
        access.add(addresses, KEY, record(), "nic1", {})
    with pytest.raises(ApiError, match="nic1"):
        access.remove(addresses, record(), "nic1", "NAT")
