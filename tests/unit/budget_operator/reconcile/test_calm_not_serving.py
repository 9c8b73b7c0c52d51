"""What does not serve comes to rest as well: one that is off on purpose, and one that waits for an edit."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from budget_operator.core.gateways import Door
from budget_operator.core.observed import InstanceStatus, Probe
from dev.simulation.apiserver import CODE
from tests.unit.budget_operator.fakes import World
from tests.unit.budget_operator.reconcile.test_calm import SPEC, quiet, reads

ON = {"predictor": SPEC["predictor"]}


@pytest.fixture
def world() -> World:
    """With an installation that is held because another deployment serves."""
    world = World()
    world.kube.config_maps["default", "code"] = {"predictor.py": CODE.encode()}
    world.up("lily", ON)
    return world


def state(world: World) -> str:
    """In its status."""
    return str(world.kube.status("iris").get("state"))


def version(world: World) -> str:
    """Of its object."""
    return str(world.kube.objects["default", "iris"]["metadata"]["resourceVersion"])


def suspend(world: World) -> None:
    """One that served."""
    world.up("iris", ON)
    world.kube.apply("iris", ON | {"suspend": True})
    world.drive(lambda: state(world) == "Suspended", "iris")


def stall(world: World) -> None:
    """One that was never made, because its Secret is not there."""
    world.kube.apply("iris", SPEC)
    world.drive(lambda: state(world) == "Stalled", "iris")


def stall_later(world: World) -> None:
    """One that serves what it did before an edit that cannot work."""
    world.up("iris", ON)
    world.kube.apply("iris", SPEC)
    world.drive(lambda: state(world) == "Stalled", "iris")


def pass_for(world: World, much: timedelta) -> int:
    """The number of passes in that time."""
    begun, passes = world.clock.now, 0
    while world.clock.now - begun < much:
        quiet(world)
        passes += 1
    return passes


@pytest.mark.parametrize(("bring", "full"), [(suspend, 6), (stall, 250), (stall_later, 250)])
def test_full_passes_get_rare_and_write_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch, bring: Callable[[World], None], full: int
) -> None:
    bring(world)
    pass_for(world, timedelta(minutes=5))
    made, told = reads(world, monkeypatch), version(world)
    passes = pass_for(world, timedelta(hours=3))
    assert 2 <= len(made) <= full
    assert passes > 300
    assert version(world) == told


@pytest.mark.parametrize(("bring", "asked"), [(suspend, 0), (stall, 0), (stall_later, 29)])
def test_only_what_serves_is_asked(world: World, bring: Callable[[World], None], asked: int) -> None:
    bring(world)
    pass_for(world, timedelta(minutes=5))
    doors: list[Door] = []
    ready = world.cloud.ready

    def counted(door: Door) -> Probe:
        doors.append(door)
        return ready(door)

    world.cloud.ready = counted  # type: ignore[method-assign]
    pass_for(world, timedelta(minutes=30))
    assert asked <= len(doors) <= asked * 1.3


def start(world: World) -> None:
    (key,) = [each for each in world.cloud.vms if each[1] == world.owner("iris").cloud_name]
    world.cloud.vms[key] = replace(world.cloud.vms[key], status=InstanceStatus.RUNNING)


def lose_job(world: World) -> None:
    world.cloud.the_job = None


def give_secret(world: World) -> None:
    world.kube.secrets["default", "keys"] = {"x": b"1"}


def resume(world: World) -> None:
    world.kube.apply("iris", ON)
    world.reconciler.wake("default", "iris")


def fail(world: World) -> None:
    world.cloud.ready = lambda door: Probe(False, "GET /healthz/ready: no answer")  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ("bring", "happens", "within"),
    [
        (suspend, start, 60),
        (suspend, lose_job, 60),
        (suspend, resume, 60),
        (stall, give_secret, 10),
        (stall, resume, 60),
        (stall_later, give_secret, 10),
        (stall_later, resume, 60),
        (stall_later, fail, 70),
    ],
)
def test_what_happens_is_noticed(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    bring: Callable[[World], None],
    happens: Callable[[World], None],
    within: int,
) -> None:
    bring(world)
    pass_for(world, timedelta(minutes=2))
    while world.reconciler.common.calm.version(("default", "iris")) is None:
        quiet(world)
    made = reads(world, monkeypatch)
    happens(world)
    begun: Any = world.clock.now
    while not made:
        quiet(world)
    assert world.clock.now - begun <= timedelta(seconds=within + 10), "the last pause comes after the look"
