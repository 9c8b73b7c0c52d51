"""A VM whose zone has no room moves behind its address: whole passes, with what may come in between."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import pytest

from budget_operator.core import errors
from budget_operator.core.names import LABEL_MOVE
from budget_operator.core.observed import Instance, InstanceStatus
from dev.simulation.apiserver import CODE, Crash
from tests.unit.budget_operator.fakes import World

A, B, C = (f"us-central1-{letter}" for letter in "abc")
SPEC: dict[str, Any] = {"predictor": {"inline": CODE}, "placement": {"zones": [A, B, C]}}
MOVE = ("set_labels", "delete_access_config", "insert_instance", "delete_instance")
TOUCHES = ("set_labels", "delete_access_config", "add_access_config", "insert_inst", "delete_inst", "start_i")


def up(world: World) -> str:
    """It serves in the first zone; its VM's name."""
    world.kube.apply("iris", SPEC)
    world.drive(lambda: world.is_ready("iris"), "iris")
    return world.owner("iris").cloud_name


def lose(world: World, *full: str) -> int:
    """It is preempted while these zones are sold out; how many calls were made before."""
    world.cloud.sold_out = set(full)
    calls = len(world.journal.calls)
    world.cloud.preempt(world.owner("iris").cloud_name)
    world.drive(lambda: not world.is_ready("iris"), "iris")
    return calls


def made(world: World, since: int) -> list[str]:
    """What was done to VMs, in order."""
    found = [call.split()[:2] for call in world.journal.calls[since:] if call.startswith(TOUCHES)]
    return [f"{verb} {zone[-1]}" for verb, zone in found]


def old(world: World) -> Instance:
    return world.cloud.vms[A, world.owner("iris").cloud_name]


def settles(world: World, zone: str) -> None:
    """It serves, and there is no other VM."""
    only = [(zone, world.owner("iris").cloud_name)]
    reaches(world, lambda: world.is_ready("iris") and list(world.cloud.vms) == only)
    assert world.kube.status("iris")["zone"] == zone


def reaches(world: World, holds: Callable[[], bool]) -> None:
    world.drive(holds, "iris", seconds=2400)


def test_it_moves_to_the_next_zone_behind_its_address(world: World) -> None:
    up(world)
    ip = world.kube.status("iris")["ip"]
    calls = lose(world, A)
    reaches(world, lambda: world.kube.condition("iris", "KeepAliveArmed")[:2] == ("False", "Moving"))
    assert world.kube.condition("iris", "InstanceRunning")[:2] == ("False", "Moving")
    settles(world, B)
    assert made(world, calls) == [
        "start_instance a",
        "set_labels a",
        "delete_access_config a",
        "insert_instance b",
        "delete_instance a",
    ]
    status = world.kube.status("iris")
    assert (status["ip"], "instance" in status) == (ip, False)
    assert world.journal.count("reserve_address") == 1


def test_it_stays_there_when_the_first_zone_has_room_again(world: World) -> None:
    up(world)
    lose(world, A)
    settles(world, B)
    world.cloud.sold_out = set()
    calls = len(world.journal.calls)
    for _ in range(2):
        world.cloud.preempt(world.owner("iris").cloud_name)
        reaches(world, lambda: not world.is_ready("iris"))
        reaches(world, lambda: world.is_ready("iris"))
    assert set(made(world, calls)) == {"start_instance b"}


def test_a_second_zone_that_is_sold_out_is_passed_over(world: World) -> None:
    up(world)
    calls = lose(world, A, B)
    settles(world, C)
    assert "add_access_config a" not in made(world, calls)


def test_where_no_zone_has_room_it_stays_and_gets_its_address_back(world: World) -> None:
    up(world)
    calls = lose(world, A, B, C)

    def full() -> bool:
        return bool(world.kube.condition("iris", "InstanceRunning")[1] == "CapacityExhausted")

    reaches(
        world, lambda: full() and world.journal.count("insert_instance") == 3 and not old(world).is_cut_off
    )
    reaches(world, lambda: not old(world).destination)
    begun, starts = world.clock.now, world.journal.count("start_instance")
    while (world.clock.now - begun).total_seconds() < 600:
        world.clock.advance(world.pass_("iris") or 0)
    assert 10 <= world.journal.count("start_instance") - starts <= 21
    assert world.journal.count("insert_instance") == 3, "sold-out zones are remembered"
    assert made(world, calls)[-1] == "start_instance a"
    world.cloud.sold_out = {A}
    settles(world, B)  # half an hour later, the preferred one


def survives(when: Literal["before", "after"], full: tuple[str, ...], number: int) -> bool:
    """Whether the operator died at this call of a move; whatever it did, the end is the same."""
    world = World()
    name = up(world)
    last = len(world.journal.calls) + number
    world.journal.fault = lambda at, _: (when, Crash()) if at == last else None
    lose(world, *full)
    reaches(world, lambda: world.is_ready("iris") or world.journal.count("insert_instance") >= 3)
    world.cloud.sold_out -= {C}
    reaches(world, lambda: world.is_ready("iris") and len(world.cloud.vms) == 1)
    assert {key[1] for key in world.cloud.vms} == {name}
    assert len(world.cloud.ips) == 1
    return world.crashes > 0


def calls_until_settled(full: tuple[str, ...]) -> int:
    """Of a move that nothing disturbs, until the VM serves elsewhere or has its address back."""
    world = World()
    up(world)
    begun = lose(world, *full)

    def settled() -> bool:
        if world.is_ready("iris"):
            return len(world.cloud.vms) == 1
        refused = world.journal.count("insert_instance") >= 3
        vm = world.cloud.vms.get((A, world.owner("iris").cloud_name))
        return refused and vm is not None and not (vm.destination or vm.is_cut_off)

    reaches(world, settled)
    return len(world.journal.calls) - begun


@pytest.mark.parametrize("full", [(A, B), (A, B, C)])
@pytest.mark.parametrize("when", ["before", "after"])
def test_an_operator_that_dies_at_any_call_of_a_move_doubles_and_loses_nothing(
    when: Literal["before", "after"], full: tuple[str, ...]
) -> None:
    calls = calls_until_settled(full)
    assert calls > len(MOVE)
    assert all(survives(when, full, number) for number in range(calls))


def test_one_that_somebody_starts_half_way_stays(world: World) -> None:
    name = up(world)
    lose(world, A)
    reaches(world, lambda: old(world).is_cut_off)
    world.cloud.sold_out = {B, C}
    world.cloud.start_instance(A, name, "by hand")
    settles(world, A)
    assert LABEL_MOVE not in old(world).labels
    assert old(world).external_ip == world.kube.status("iris")["ip"]


def test_one_that_somebody_starts_too_late_goes(world: World) -> None:
    name = up(world)
    lose(world, A)
    reaches(world, lambda: (B, name) in world.cloud.vms)
    world.cloud.sold_out = set()
    world.cloud.start_instance(A, name, "by hand")
    settles(world, B)


def test_a_zone_with_a_stranger_of_its_name_is_passed_over(world: World) -> None:
    name = up(world)
    stranger = replace(old(world), zone=B, id="77", labels={}, metadata={}, external_ip="9.9.9.9")
    world.cloud.vms[B, name] = stranger
    lose(world, A)
    reaches(world, lambda: world.kube.status("iris").get("zone") == C and world.is_ready("iris"))
    assert world.cloud.vms[B, name] == stranger


@pytest.mark.parametrize("call", ["set_labels", "delete_access_config", "insert_instance"])
def test_a_move_that_may_not_be_made_is_given_up(world: World, call: str) -> None:
    up(world)
    world.cloud.refuse[call] = errors.PermissionDenied(f"no {call}")
    lose(world, A)
    reaches(world, lambda: world.kube.condition("iris", "Stalled")[:2] == ("True", "PermissionDenied"))
    if call != "set_labels":
        reaches(world, lambda: not old(world).destination and not old(world).is_cut_off)
    starts = world.journal.count("start_instance")
    reaches(world, lambda: world.journal.count("start_instance") > starts)
    world.cloud.sold_out = set()
    settles(world, A)


def test_a_quota_rules_out_the_region(world: World) -> None:
    up(world)
    world.cloud.refuse["insert_instance"] = errors.QuotaExceeded("Quota 'CPUS' exceeded")
    lose(world, A)
    reaches(world, lambda: world.journal.count("insert_instance") == 2)
    reaches(world, lambda: not old(world).destination and not old(world).is_cut_off)
    assert world.journal.count("insert_instance") == 2, "no other zone of the region was asked"


def test_a_zone_that_falls_silent_is_neither_left_nor_entered(world: World) -> None:
    name = up(world)
    lose(world, A)
    reaches(world, lambda: (B, name) in world.cloud.vms)
    world.cloud.unknown = {f"zones/{B}"}
    calls = len(world.journal.calls)
    begun = world.clock.now
    while (world.clock.now - begun).total_seconds() < 300:
        world.clock.advance(world.pass_("iris") or 0)
    assert made(world, calls) == []
    world.cloud.unknown = set()
    settles(world, B)


@pytest.mark.parametrize("moment", [1, 2, 3, 4, 5, 6, 8, 12, 20])
def test_deletion_ends_at_any_moment_of_a_move(world: World, moment: int) -> None:
    up(world)
    calls = lose(world, A)
    reaches(world, lambda: len(made(world, calls)) >= 1)
    for _ in range(moment):
        world.clock.advance(world.pass_("iris") or 0)
    world.kube.delete("iris")
    world.drive(lambda: world.is_gone("iris"), "iris")
    world.clock.advance(600)
    assert world.cloud.empty


def test_a_spec_that_stops_working_half_way_sends_it_back(world: World) -> None:
    name = up(world)
    lose(world, A)
    reaches(world, lambda: old(world).is_cut_off)
    world.cloud.sold_out = set()
    world.kube.apply("iris", {**SPEC, "requirements": ["-r nothing"]})
    reaches(world, lambda: old(world).status is InstanceStatus.RUNNING)
    assert list(world.cloud.vms) == [(A, name)]
    assert (old(world).destination, old(world).is_cut_off) == ("", False)
