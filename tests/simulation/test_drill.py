"""A preemption on purpose, in the whole chain: annotation, Google, function or operator, the way back."""

from typing import Any

import pytest

from budget_operator.core.api import DRILL
from dev.simulation import invariants
from dev.simulation.trouble import Kind, Trouble
from dev.simulation.world import World, vm, world
from localcloud.jumping import JumpingClock
from localcloud.services.compute.records import INSTANCE
from tests.simulation.acts import NAME, SPEC, denied
from tests.simulation.scenes import WHILE, fault, mend, up

STEPS = ("notice", "stopped", "started", "running", "serving")
CALL = "compute.instances.simulateMaintenanceEvent"
MOST_CALLS = 40


def ask(made: World, value: str = "1") -> None:
    made.kube.annotate(NAME, DRILL, value)
    made.heard(NAME)


def drill(made: World) -> dict[str, Any]:
    return dict(made.kube.status(NAME).get("drill") or {})


def preemptions(made: World) -> int:
    return invariants._losses(made, NAME)


def record(made: World) -> dict[str, Any]:
    (found,) = [body["body"] for key, body in made.store.list(INSTANCE) if key.endswith(vm(NAME))]
    return dict(found)


def test_the_steps_are_those_of_googles_records() -> None:
    with world(kept=1) as made:
        up(made, NAME)
        ask(made)
        made.run(WHILE)
        found = drill(made)
        assert found["state"] == "Recovered", found
        steps = [found["steps"][step] for step in STEPS]
        assert steps == sorted(steps)
        began = found["at"]
        (outage,) = made.kube.status(NAME)["timeline"]
        assert outage["cause"] == "Preempted"
        assert outage["at"] >= began
        assert found["downSeconds"] == outage["downSeconds"] < steps[-1], "it served on through its notice"
        assert preemptions(made) == made.kube.status(NAME)["preemptions"]["last24h"] == 1
        writes = made.kube.status_writes
        made.run(1200)
        assert made.kube.status_writes == writes, "and then it is idle"


def test_without_the_operator_the_way_back_is_the_same() -> None:
    with world(kept=1) as made:
        up(made, NAME)
        ask(made)
        made.run(20)
        assert drill(made)["state"] == "Running"
        made.operator = None
        made.run(1200)
        assert record(made)["status"] == "RUNNING", "the function has started it"
        made.restart()
        made.run(60)
        found = drill(made)
        assert found["state"] == "Recovered"
        assert found["steps"].keys() == set(STEPS)
        assert found["steps"]["serving"] < 600, "not when somebody looked again"


def test_a_permission_that_is_missing_is_told_and_the_model_serves() -> None:
    with world(kept=1) as made:
        up(made, NAME)
        fault(made, **denied(CALL))
        ask(made)
        made.run(60)
        assert drill(made)["state"] == "Refused"
        assert CALL in drill(made)["message"]
        assert made.kube.condition(NAME, "Ready")[0] == "True"
        mend(made)
        made.run(WHILE)
        assert preemptions(made) == 0, "another value asks again"
        ask(made, "2")
        made.run(WHILE)
        assert (drill(made)["value"], drill(made)["state"]) == ("2", "Recovered")


def test_a_restored_object_repeats_nothing() -> None:
    """The annotation comes back with a backup, the status does not."""
    with world(kept=1) as made:
        up(made, NAME)
        ask(made)
        made.run(WHILE)
        assert drill(made)["state"] == "Recovered"
        old = made.kube
        made.kube = made.new_cluster(old.uid)
        made.kube.apply(NAME, SPEC)
        made.kube.annotate(NAME, DRILL, "1")
        made.kube.secrets.update(old.secrets)
        made.restart()
        made.run(WHILE)
        assert drill(made)["state"] == "Refused"
        assert preemptions(made) == 1


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind is not Kind.RIVAL])
def test_wherever_trouble_strikes_it_preempts_once_and_tells_the_end(kind: Kind) -> None:
    struck = 0
    for number in range(MOST_CALLS):
        clock = JumpingClock()
        trouble = Trouble(clock)
        with world(trouble.carry, clock=clock) as made:
            made.kube.journal.fault = trouble.kubernetes
            made.apply(NAME, SPEC)
            made.run(WHILE)
            trouble.plan(kind, number)
            ask(made)
            made.run(1800)
            if trouble.kind is not None:
                break
            struck += 1
            assert preemptions(made) == 1, f"call {number}: {trouble.struck}"
            assert drill(made)["state"] == "Recovered", f"call {number}: {trouble.struck}"
            assert invariants.calm(made, {NAME: SPEC}, frozenset()) == [], f"{number}: {trouble.struck}"
    assert 1 < struck < MOST_CALLS
