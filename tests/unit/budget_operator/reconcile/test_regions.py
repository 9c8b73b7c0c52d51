"""A deployment that may be in several regions: whole passes."""

from typing import Any

import pytest

from budget_operator.core import errors
from dev.simulation.apiserver import CODE
from tests.unit.budget_operator.fakes import World

EAST, CENTRAL, WEST = "us-east1", "us-central1", "us-west4"
CHEAPEST = WEST


def spec(*regions: str, **more: Any) -> dict[str, Any]:
    return {"predictor": {"inline": CODE}, "placement": {"regions": list(regions)}, **more}


def up(world: World, *regions: str) -> str:
    """Its zone."""
    world.kube.apply("iris", spec(*regions))
    world.drive(lambda: world.is_ready("iris"), "iris", seconds=2400)
    zone: str = world.kube.status("iris")["zone"]
    return zone


def test_it_is_made_in_the_cheapest_and_stays_there(world: World) -> None:
    assert up(world, EAST, CENTRAL, WEST) == f"{WEST}-a"
    assert [ip.region for ip in world.cloud.ips.values()] == [WEST]
    world.kube.apply("iris", spec(EAST, CENTRAL))
    world.drive(lambda: world.is_ready("iris"), "iris")
    world.start_operator()
    world.cloud.preempt(world.owner("iris").cloud_name)
    world.drive(lambda: not world.is_ready("iris"), "iris")
    world.drive(lambda: world.is_ready("iris"), "iris")
    assert world.kube.status("iris")["zone"] == f"{WEST}-a"
    assert world.journal.count("insert_instance") == 1


def test_within_its_region_it_moves_and_no_farther(world: World) -> None:
    up(world, CENTRAL, WEST)
    world.cloud.sold_out = {f"{WEST}-a", f"{WEST}-b"}
    world.cloud.preempt(world.owner("iris").cloud_name)
    full = "CapacityExhausted"
    world.drive(lambda: world.journal.count("insert_instance") == 2, "iris")
    world.drive(lambda: world.kube.condition("iris", "InstanceRunning")[1] == full, "iris")
    for _ in range(50):
        world.clock.advance(world.pass_("iris") or 0)
    assert world.journal.count(f"insert_instance {CENTRAL}") == 0
    world.cloud.sold_out = {f"{WEST}-a"}
    world.drive(lambda: world.is_ready("iris"), "iris", seconds=2400)
    assert world.kube.status("iris")["zone"] == f"{WEST}-b"


def test_a_region_without_room_is_left_before_there_is_a_vm(world: World) -> None:
    world.cloud.sold_out = {f"{WEST}-a", f"{WEST}-b"}
    assert up(world, EAST, WEST) == f"{EAST}-a"
    world.drive(lambda: len(world.cloud.ips) == 1, "iris")
    assert [ip.region for ip in world.cloud.ips.values()] == [EAST]


def test_a_region_without_quota_is_ruled_out(world: World) -> None:
    region = f"insert_instance {WEST}"
    world.cloud.refuse[region] = errors.QuotaExceeded("Quota 'CPUS' exceeded")
    world.kube.apply("iris", spec(EAST, WEST))
    world.drive(lambda: world.is_ready("iris"), "iris")
    assert world.kube.status("iris")["zone"] == f"{EAST}-a"
    assert world.journal.count(region) == 1


def test_a_vm_that_somebody_deleted_is_made_again_behind_its_address(world: World) -> None:
    up(world, CENTRAL, WEST)
    ip = world.kube.status("iris")["ip"]
    world.cloud.vms.clear()
    world.cloud.sold_out = {f"{WEST}-a"}
    world.drive(lambda: not world.is_ready("iris"), "iris")
    world.drive(lambda: world.is_ready("iris"), "iris")
    assert (world.kube.status("iris")["zone"], world.kube.status("iris")["ip"]) == (f"{WEST}-b", ip)


def test_the_zones_are_looked_up_once_for_all(world: World) -> None:
    up(world, CENTRAL, WEST)
    read = world.cloud.offers_read
    world.kube.apply("rose", spec(CENTRAL, WEST))
    world.drive(lambda: world.is_ready("rose"), "rose")
    assert world.cloud.offers_read == read


def test_a_vm_that_is_there_needs_no_look(world: World) -> None:
    up(world, CENTRAL, WEST)
    world.start_operator()
    world.cloud.offers_down = errors.PermissionDenied("no compute.machineTypes.list")
    world.cloud.preempt(world.owner("iris").cloud_name)
    world.drive(lambda: not world.is_ready("iris"), "iris")
    world.drive(lambda: world.is_ready("iris"), "iris")


def test_without_a_look_none_is_made(world: World) -> None:
    world.cloud.offers_down = errors.PermissionDenied("no compute.machineTypes.list")
    world.kube.apply("iris", spec(CENTRAL, WEST))
    world.drive(lambda: world.kube.condition("iris", "Stalled")[1] == "PermissionDenied", "iris")
    assert world.journal.count("reserve_address") == world.journal.count("insert_instance") == 0


@pytest.mark.parametrize("absent", ["e2-medium", f"{CHEAPEST}-a/e2-medium"])
def test_a_machine_type_that_is_not_offered(world: World, absent: str) -> None:
    world.cloud.absent = {absent}
    if absent != "e2-medium":
        assert up(world, CENTRAL, WEST) == f"{WEST}-b"
        return
    world.kube.apply("iris", spec(CENTRAL, WEST))
    world.drive(lambda: world.kube.condition("iris", "Stalled")[1] == "InvalidSpec", "iris")
    assert "us-west4, us-central1 do not offer e2-medium" in world.kube.condition("iris", "Stalled")[2]
