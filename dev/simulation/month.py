"""An ordinary month: deployments that are used, and a Spot market that takes their VMs away now and then.

Most preemptions come in waves that take a part of one zone; some come alone.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from dev.simulation.world import NAMESPACE, World, vm
from localcloud.errors import ApiError
from localcloud.services.compute.records import INSTANCE

DAY = 86_400.0
ENOUGH = 1800.0
"""Seconds after which everything stands again, whatever a wave has taken."""


@dataclass(frozen=True)
class Loss:
    """VMs that are taken at one time, in seconds from the beginning."""

    at: float
    names: tuple[str, ...]


def losses(names: list[str], days: float, waves: int, alone: int, seed: int) -> list[Loss]:
    """Waves take a quarter of all; times are random, and far enough apart for all to stand again."""
    chance = random.Random(seed)
    slots = list(range(int(days * DAY / ENOUGH) - 1))
    times = sorted(chance.sample(slots, waves + alone))
    sizes = [max(1, len(names) // 4)] * waves + [1] * alone
    chance.shuffle(sizes)
    return [
        Loss(slot * ENOUGH + chance.uniform(0, 60), tuple(chance.sample(names, size)))
        for slot, size in zip(times, sizes, strict=True)
    ]


def play(world: World, names: list[str], days: float, market: list[Loss]) -> int:
    """Returns how many VMs were taken; all stand at the end, or `problems` tells."""
    for name in names:
        world.apply(name)
    world.run(ENOUGH)
    begun, taken = world.clock.monotonic(), 0
    for loss in market:
        world.run(max(0.0, begun + loss.at - world.clock.monotonic()))
        for name in loss.names:
            taken += _take(world, name)
    world.run(max(0.0, begun + days * DAY + ENOUGH - world.clock.monotonic()))
    return taken


def _take(world: World, name: str) -> bool:
    try:
        world.preempt(name)
    except ApiError:  # it was gone already
        return False
    return True


def problems(world: World, names: list[str]) -> list[str]:
    """What is not as it should be while all is calm."""
    return [*_not_ready(world, names), *_resources(world, names)]


def _not_ready(world: World, names: list[str]) -> Iterator[str]:
    for name in names:
        state = world.kube.condition(name, "Ready")
        if state[0] != "True":
            yield f"{name} is not Ready: {state}"


def _resources(world: World, names: list[str]) -> Iterator[str]:
    wanted = sorted(vm(name) for name in names)
    for kind in (INSTANCE, "compute.disk", "compute.address"):
        found = sorted(key.rpartition("/")[2] for key, _ in world.store.list(kind))
        if found != wanted:
            yield f"{kind}: {found} instead of {wanted}"
    for kind in ("scheduler.job", "functions.function", "compute.firewall"):
        count = len(world.store.list(kind))
        if count != bool(names):
            yield f"{count} of {kind}"


def story(world: World, names: list[str]) -> dict[str, Any]:
    """What the statuses tell, less what differs between two runs of the same history.

    That is random names, and when a VM was seen to be down: a picture that another deployment's pass took
    some seconds ago is used as well, if that pass was made, so a loss may be noticed a pass later.
    """
    told: dict[str, Any] = {}
    for name in names:
        status = dict(world.kube.status(name))
        status["timeline"] = [
            {key: each[key] for key in ("at", "zone", "cause", "found")}
            for each in status.get("timeline", ())
        ]
        status.pop("availability", None)
        status["conditions"] = [
            {key: value for key, value in each.items() if key != "lastTransitionTime"}
            for each in status.get("conditions", ())
        ]
        # It may be when the operator started a VM that it had seen to be down a pass later.
        status["cost"] = {key: value for key, value in status.get("cost", {}).items() if key != "asOf"}
        for random_each_time in ("instance", "revision", "login", "fingerprints"):
            status.pop(random_each_time, None)
        told[f"{NAMESPACE}/{name}"] = status
    return told
