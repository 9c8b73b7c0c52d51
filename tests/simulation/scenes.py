"""What tests of troubles share: calls that are noted and may be the process's last, faults, what is left."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import requests

from dev.simulation.apiserver import CODE, Crash
from dev.simulation.world import NAMESPACE, World
from localcloud.faults import parse
from localcloud.mounted import Answer

RESOURCES = (
    "compute.instance",
    "compute.disk",
    "compute.address",
    "compute.firewall",
    "pubsub.topic",
    "pubsub.subscription",
    "scheduler.job",
    "functions.function",
    "storage.bucket",
    "storage.object",
)
#: Enough for a deployment to serve, and for one to go.
WHILE = 600.0


CLAIM = "claim"


@dataclass
class Calls:
    """A carrier that notes what changes something. `last`: the process dies after so many of them."""

    made: list[str] = field(default_factory=list)
    last: int | None = None

    def __call__(self, request: requests.PreparedRequest, carry: Callable[[], Answer]) -> Answer:
        answer = carry()
        if request.method != "GET":
            claims = isinstance(request.body, bytes) and b'"renewedAt"' in request.body
            self.made.append(CLAIM if claims else f"{request.method} {(request.url or '').partition('?')[0]}")
            if len(self.made) == self.last:
                raise Crash
        return answer

    def since(self, count: int) -> list[str]:
        """The later ones, less those that say again whose the installation is."""
        return [call for call in self.made[count:] if call != CLAIM]

    def count(self, method: str, ending: str) -> int:
        return sum(call.startswith(method) and call.endswith(ending) for call in self.made)


def fault(world: World, kind: str, **settings: Any) -> str:
    """Put a fault in force; its id."""
    faults = world.cloud.context.faults
    return faults.add(parse({"kind": kind, **settings}), world.clock.now())


def mend(world: World) -> None:
    world.cloud.context.faults.clear()


def outage(world: World) -> None:
    """No call of any service is answered."""
    fault(world, "call", path=".", code=503, count=0)


def left(world: World) -> list[str]:
    """Everything in the project, and the operator's keys."""
    found = [f"{kind} {key}" for kind in RESOURCES for key, _ in world.store.list(kind)]
    return found + [f"secret {name}" for _, name in world.kube.secrets if name.endswith("-key")]


def is_gone(world: World, name: str) -> bool:
    return (NAMESPACE, name) not in world.kube.objects


def is_ready(world: World, name: str) -> bool:
    return not is_gone(world, name) and world.kube.condition(name, "Ready")[0] == "True"


def up(world: World, *names: str, **spec: Any) -> None:
    """Apply them and wait until they serve."""
    for name in names:
        world.apply(name, {"predictor": {"inline": CODE}, **spec})
    world.run(WHILE)
    assert all(is_ready(world, name) for name in names)
