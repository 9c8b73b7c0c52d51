"""The metadata server's client."""

from typing import Any

import pytest

from budget_server.vm.metadata import Attribute, MetadataServer, MetadataUnavailable


@pytest.fixture
def metadata(world: Any) -> MetadataServer:
    return MetadataServer(f"127.0.0.1:{world.port}", pause=lambda _: None)


def test_outages_are_sat_out(world: Any, metadata: MetadataServer) -> None:
    world.outages = 3
    assert metadata.external_ip() == "127.0.0.1"
    assert metadata.access_token() == "vm-token"


def test_a_lasting_outage_is_an_error(world: Any, metadata: MetadataServer) -> None:
    world.outages = 99
    with pytest.raises(MetadataUnavailable, match="503"):
        metadata.attribute("budget-key")


def test_nobody_listening_is_an_error() -> None:
    with pytest.raises(MetadataUnavailable):
        MetadataServer("127.0.0.1:1", pause=lambda _: None).external_ip()


def test_an_absent_attribute_is_no_error(metadata: MetadataServer) -> None:
    assert metadata.attribute("budget-config") == Attribute(None, "")


def test_a_change_is_waited_for(world: Any, metadata: MetadataServer) -> None:
    world.set_attribute("budget-config", "one")
    first = metadata.attribute("budget-config")
    assert metadata.changed_attribute("budget-config", first.etag, wait_seconds=0) == first
    world.set_attribute("budget-config", "two")
    assert metadata.changed_attribute("budget-config", first.etag).value == "two"


def test_guest_attributes_are_written_once_per_call(world: Any, metadata: MetadataServer) -> None:
    metadata.publish("ca", "pem ✓")
    assert world.guest == {"ca": "pem ✓"}
    world.outages = 1
    with pytest.raises(MetadataUnavailable):
        metadata.publish("ca", "x")
