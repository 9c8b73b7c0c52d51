"""The pool of addresses, without a server."""

from dataclasses import replace

import pytest

from localcloud.context import Context
from localcloud.errors import ApiError
from localcloud.operations import Tasks
from localcloud.services.compute.addresses import ADDRESS, Addresses
from localcloud.services.compute.operations import Operations
from localcloud.services.compute.records import INSTANCE

REGION = "projects/p/regions/us-central1/addresses/"
VM = "projects/p/zones/us-central1-a/instances/vm1"


def addresses_of(context: Context, subnet: str = "10.0.0.0/24") -> Addresses:
    context = replace(context, settings=replace(context.settings, subnet=subnet))
    return Addresses(context, Operations(context), Tasks("t", context.store, context.clock))


def test_the_next_free_address_from_ten_up_and_around(context: Context) -> None:
    addresses = addresses_of(context, "10.0.0.0/28")
    assert addresses.allocate() == "10.0.0.10"
    context.store.put(ADDRESS, REGION + "a", {"address": "10.0.0.11"})
    context.store.put(INSTANCE, VM, {"ip": "10.0.0.12"})
    assert [addresses.allocate() for _ in range(3)] == ["10.0.0.13", "10.0.0.14", "10.0.0.10"]
    context.store.delete(ADDRESS, REGION + "a")
    assert addresses_of(context, "10.0.0.0/28").allocate() == "10.0.0.11", "a restart goes on from there"


def test_a_full_subnet_is_said(context: Context) -> None:
    with pytest.raises(ApiError, match=r"10\.0\.0\.0/29"):
        addresses_of(context, "10.0.0.0/29").allocate()


def test_a_static_address_belongs_to_one_instance_of_its_region(context: Context) -> None:
    addresses = addresses_of(context)
    context.store.put(ADDRESS, REGION + "a", {"address": "10.0.0.10", "status": "RESERVED"})
    with pytest.raises(ApiError, match="not reserved in region 'us-east1'"):
        addresses.attach("p", "us-east1", "10.0.0.10", VM)
    assert addresses.attach("p", "us-central1", "10.0.0.10", VM) == REGION + "a"
    with pytest.raises(ApiError, match="already being used by"):
        addresses.attach("p", "us-central1", "10.0.0.10", VM + "2")
    addresses.detach(REGION + "a")
    assert context.store.get(ADDRESS, REGION + "a") == {"address": "10.0.0.10", "status": "RESERVED"}
