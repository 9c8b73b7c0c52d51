"""VMs that move to another zone, with the function and the local cloud as they are.

That a move survives the death of the operator at each of its calls is in `test_crashes`.
"""

from typing import Any

import pytest

from dev.simulation import invariants
from dev.simulation.apiserver import CODE
from dev.simulation.world import PROJECT, ZONES, World, vm, world
from localcloud.services.compute.records import INSTANCE
from tests.simulation.scenes import WHILE, fault, is_ready, mend, up

A, B = ZONES
HALF_HOUR = 1800.0
STEP = 2.0
NAMES = ("alpha", "beta")


def instance(made: World, zone: str, name: str = NAMES[0]) -> Any:
    found = made.store.get(INSTANCE, f"projects/{PROJECT}/zones/{zone}/instances/{vm(name)}")
    return None if found is None else found["body"]


def is_cut_off(made: World, zone: str) -> bool:
    return not instance(made, zone)["networkInterfaces"][0].get("accessConfigs")


def lose(made: World, *full: str, **more: Any) -> None:
    for zone in full:
        fault(made, "stock-out", zone=zone, **more)
    for name in NAMES:
        if (("default", name)) in made.kube.objects:
            made.preempt(name)


def at_rest(made: World, *names: str) -> None:
    spec = {"predictor": {"inline": CODE}}
    assert invariants.calm(made, dict.fromkeys(names, spec), frozenset()) == []


def half_way(made: World) -> None:
    """The VM is announced and cut off, and no other one is there: that moment the operator dies."""
    for _ in range(200):
        made.run(STEP)
        if is_cut_off(made, A):
            break
    assert instance(made, A)["labels"]["budget-move"] == B
    made.operator = None


def calls(made: World, verb: str) -> int:
    return len(made.cloud.context.journal.entries(permission=f"compute.instances.{verb}", limit=100_000))


@pytest.mark.parametrize("when", ["operation", "request"])
@pytest.mark.parametrize("details", ["", "_WITH_DETAILS"])
def test_all_whose_zone_is_sold_out_move_behind_their_addresses(when: str, details: str) -> None:
    with world() as made:
        up(made, *NAMES)
        before = [made.kube.status(name)["endpoint"] for name in NAMES]
        lose(made, A, when=when, code=f"ZONE_RESOURCE_POOL_EXHAUSTED{details}")
        made.run(WHILE)
        at_rest(made, *NAMES)
        assert [made.kube.status(name)["zone"] for name in NAMES] == [B, B]
        assert [made.kube.status(name)["endpoint"] for name in NAMES] == before
        mend(made)
        made.run(2 * HALF_HOUR)
        assert [made.kube.status(name)["zone"] for name in NAMES] == [B, B], "nobody goes back"


def test_new_ones_know_what_others_met() -> None:
    with world() as made:
        up(made, NAMES[0])
        lose(made, A)
        made.run(WHILE)
        mend(made)
        up(made, NAMES[1])
        assert made.kube.status(NAMES[1])["zone"] == B
        made.run(HALF_HOUR)
        made.delete(NAMES[1])
        made.run(WHILE)
        up(made, NAMES[1])
        assert made.kube.status(NAMES[1])["zone"] == A, "half an hour later it is tried again"


def test_the_function_starts_none_that_moves() -> None:
    with world() as made:
        up(made, NAMES[0])
        lose(made, A)
        half_way(made)
        mend(made)
        starts = calls(made, "start")
        made.run(HALF_HOUR)
        assert instance(made, A)["status"] == "TERMINATED"
        assert calls(made, "start") == starts
        made.restart()
        made.run(WHILE)
        at_rest(made, NAMES[0])


@pytest.mark.parametrize("there", [A, B])
def test_the_zone_that_has_room_in_the_end_gets_it(there: str) -> None:
    """Of two that are sold out."""
    with world() as made:
        up(made, NAMES[0])
        lose(made, A, B)
        made.run(WHILE)
        assert made.kube.condition(NAMES[0], "InstanceRunning")[1] == "CapacityExhausted"
        assert not is_cut_off(made, A)
        inserts = calls(made, "create")
        mend(made)
        fault(made, "stock-out", zone=A if there == B else B)
        made.run(HALF_HOUR + WHILE)
        at_rest(made, NAMES[0])
        assert made.kube.status(NAMES[0])["zone"] == there
        assert calls(made, "create") - inserts == (1 if there == B else 0)


def test_where_all_are_sold_out_the_others_are_asked_twice_an_hour() -> None:
    with world() as made:
        up(made, NAMES[0])
        inserts = calls(made, "create")
        lose(made, A, B)
        made.run(2 * 3600)
        assert 3 <= calls(made, "create") - inserts <= 4
        mend(made)
        made.run(WHILE)
        assert is_ready(made, NAMES[0])


def test_a_month_of_stock_outs_ends_with_one_vm_and_its_address() -> None:
    """To and fro between two zones, whichever is sold out."""
    with world() as made:
        up(made, NAMES[0])
        ip = made.kube.status(NAMES[0])["ip"]
        for zone in (A, B, A, B):
            lose(made, zone)
            made.run(HALF_HOUR)
            assert made.kube.status(NAMES[0])["zone"] == (B if zone == A else A)
            mend(made)
            made.run(HALF_HOUR)
        at_rest(made, NAMES[0])
        assert made.kube.status(NAMES[0])["ip"] == ip
