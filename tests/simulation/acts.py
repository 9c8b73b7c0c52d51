"""What users, Google and administrators do to a deployment in simulations."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import requests

from budget_operator.core.api import DRILL
from dev.simulation.apiserver import CODE
from dev.simulation.world import PROJECT, ZONES, World, vm
from localcloud.faults import parse

NAME = "a"
ZONE, REGION = ZONES[0], "us-central1"
SPEC: dict[str, Any] = {"predictor": {"inline": CODE}, "readiness": {"payload": {"x": 1}}}
LARGER = {"type": "e2-standard-2", "diskGiB": 30}
CHANGED = {**SPEC, "predictor": {"inline": f"{CODE}# 2\n"}, "machine": LARGER}

Fault = dict[str, Any]


def denied(permission: str) -> Fault:
    return {"kind": "permission-denied", "permission": permission}


def look_again(made: World) -> None:
    """It is Ready, and the next pass looks."""
    made.passes.add_all(made.clock.monotonic())


def _upgrade(made: World) -> None:
    """Another operator, with another schedule and runtime for what all deployments share."""
    made.settings = replace(made.settings, schedule="*/2 * * * *", function_runtime="python313")
    made.operator = made.new_operator()
    look_again(made)


def _pause(made: World) -> None:
    job = next(key for key, _ in made.store.list("scheduler.job"))
    requests.post(f"{made.settings.api_endpoint}/v1/{job}:pause", timeout=10).raise_for_status()
    look_again(made)


def _on_vm(made: World, verb: str) -> None:
    place = f"projects/{PROJECT}/zones/{ZONE}/instances/{vm(NAME)}"
    requests.post(f"{made.settings.api_endpoint}/compute/v1/{place}/{verb}", timeout=10).raise_for_status()


def _suspend(made: World) -> None:
    _on_vm(made, "suspend")
    made.run(30)
    look_again(made)


def _lose_in(*full: str) -> Callable[[World], None]:
    """It is preempted while these zones are sold out."""

    def happen(made: World) -> None:
        for zone in full:
            fault = parse({"kind": "stock-out", "zone": zone})
            made.cloud.context.faults.add(fault, made.clock.now())
        made.preempt(NAME)

    return happen


def drill(made: World) -> None:
    """Its owner wants to see how it comes back."""
    made.kube.annotate(NAME, DRILL, "1")
    made.heard(NAME)


def stop(made: World) -> None:
    _on_vm(made, "stop")
    look_again(made)


EVENTS: dict[str, Callable[[World], None]] = {
    "create": lambda made: made.apply(NAME, SPEC),
    "misspell": lambda made: made.apply(NAME, {**SPEC, "machine": {"type": "e2-nothing"}}),
    "anywhere": lambda made: made.apply(NAME, {**SPEC, "placement": {"regions": ["us-central1"]}}),
    "ready": look_again,
    "lose": lambda made: made.preempt(NAME),
    "drill": drill,
    "change": lambda made: made.apply(NAME, CHANGED),
    "upgrade": _upgrade,
    "pause": _pause,
    "suspend": _suspend,
    "stay": _lose_in(*ZONES),
    "move": _lose_in(ZONE),
    "delete": lambda made: made.delete(NAME),
}
FRESH = ("create", "misspell", "anywhere")
