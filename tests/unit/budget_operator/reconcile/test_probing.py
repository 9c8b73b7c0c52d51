"""How often an endpoint is asked: by the clock, from the first silence to the hours after it."""

from datetime import timedelta

import pytest

from budget_operator.core.memory import Memory
from budget_operator.reconcile.probing import SLOWEST_PACE, motion_pause
from dev.simulation.apiserver import CODE
from tests.unit.budget_operator.fakes import START, World

HOUR = 3600.0


def paces(world: World, seconds: float) -> list[tuple[float, float]]:
    """When, in seconds from now, passes ended and which pauses they asked for."""
    begun, seen = world.clock.now, []
    while (elapsed := (world.clock.now - begun).total_seconds()) < seconds:
        after = world.pass_("iris")
        assert after is not None
        seen.append((elapsed, after))
        world.clock.advance(after)
    return seen


@pytest.mark.parametrize("failure_seconds", [60, 600])
def test_a_silent_endpoint_is_asked_ever_more_rarely_once_its_conditions_tell(failure_seconds: int) -> None:
    world = World()
    world.up(spec={"predictor": {"inline": CODE}, "readiness": {"failureSeconds": failure_seconds}})
    world.clock.advance(60)
    world.cloud.silent = True
    seen = paces(world, 4 * HOUR)
    told = failure_seconds + 5.0  # Ready was True until then
    assert {pause for at, pause in seen if at < told + 170} == {5.0}
    assert {pause for at, pause in seen if told + 190 < at < told + 590} == {10.0}
    assert {pause for at, pause in seen if at > told + 610} == {SLOWEST_PACE}
    assert world.kube.condition("iris", "Ready")[1] == "NotAnswering"


def test_the_end_of_a_long_silence_is_seen_within_half_a_minute() -> None:
    world = World()
    world.up()
    world.cloud.silent = True
    paces(world, 4 * HOUR)
    world.cloud.silent = False
    assert world.drive(lambda: world.is_ready("iris"), "iris") <= SLOWEST_PACE


def test_the_next_silence_is_a_new_one() -> None:
    world = World()
    world.up()
    for _ in range(2):
        world.cloud.silent = True
        paces(world, HOUR)
        world.cloud.silent = False
        paces(world, 120)
    world.cloud.silent = True
    paces(world, 60)  # until the next request is due
    assert {pause for _, pause in paces(world, 120)} == {5.0}


def test_a_vm_that_comes_up_after_hours_is_asked_as_often_as_a_new_one() -> None:
    memory = Memory("uid", START)
    assert motion_pause(memory, START, moving=True, ready=False) == 5.0
    late = START + timedelta(hours=2)
    assert motion_pause(memory, late, moving=True, ready=False) == SLOWEST_PACE
    memory.failing_since = late  # it is RUNNING and was asked for the first time
    assert motion_pause(memory, late, moving=True, ready=False) == 5.0
