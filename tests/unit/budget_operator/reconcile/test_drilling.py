"""A drill from the annotation to the recovery, and wherever the operator dies on the way."""

from typing import Any

import pytest

from budget_operator.core.api import DRILL
from budget_operator.core.errors import PermissionDenied, Unavailable
from dev.simulation.apiserver import Crash
from tests.unit.budget_operator.fakes import World


def ask(world: World, value: str = "1") -> None:
    world.kube.annotate("iris", DRILL, value)
    world.reconciler.wake("default", "iris")


def drill(world: World) -> dict[str, Any]:
    return dict(world.kube.status("iris").get("drill") or {})


def over(world: World) -> bool:
    return drill(world).get("state") in ("Recovered", "Refused")


def preemptions(world: World) -> int:
    return world.journal.count("simulate_maintenance")


def reasons(world: World) -> list[str]:
    return [reason for _, reason, _ in world.kube.events if reason.startswith("Drill")]


def test_the_recovery_is_measured_step_by_step(world: World) -> None:
    world.up()
    world.clock.advance(60)
    ask(world)
    world.drive(lambda: over(world), "iris")
    found = drill(world)
    assert (found["value"], found["state"]) == ("1", "Recovered")
    steps = [found["steps"][step] for step in ("notice", "stopped", "started", "running", "serving")]
    assert steps == sorted(steps)
    assert found["downSeconds"] > 0
    assert preemptions(world) == 1
    assert world.kube.status("iris")["preemptions"] == {"count": 1, "last24h": 1}
    assert reasons(world) == ["DrillStarted", "DrillRecovered"]
    assert f"serving after {steps[-1]} s" in world.kube.events[-1][2] or any(
        f"serving after {steps[-1]} s" in message for _, _, message in world.kube.events
    )


def test_a_value_is_done_once_and_another_one_again(world: World) -> None:
    world.up()
    ask(world)
    world.drive(lambda: over(world), "iris")
    world.drive(lambda: world.is_ready("iris"), "iris")
    for _ in range(3):
        world.start_operator()
        world.clock.advance(30)
        world.pass_("iris")
    assert preemptions(world) == 1
    ask(world, "2")
    world.drive(lambda: drill(world)["value"] == "2" and over(world), "iris")
    assert drill(world)["state"] == "Recovered"
    assert "message" not in drill(world), "nothing of the one before is left"
    assert preemptions(world) == 2


def test_what_is_not_ready_is_not_preempted(world: World) -> None:
    world.kube.apply("iris")
    ask(world)
    world.drive(lambda: over(world), "iris")
    assert drill(world)["state"] == "Refused"
    assert "not Ready" in drill(world)["message"]
    world.drive(lambda: world.is_ready("iris"), "iris")
    world.pass_("iris")
    assert preemptions(world) == 0, "not even once it is"
    assert reasons(world) == ["DrillRefused"]


def test_with_a_change_of_the_spec_it_is_refused(world: World) -> None:
    world.up()
    world.kube.apply("iris", {**world.kube.objects["default", "iris"]["spec"], "requirements": ["numpy"]})
    ask(world)
    world.drive(lambda: over(world), "iris")
    assert drill(world)["state"] == "Refused"
    assert preemptions(world) == 0


def test_what_google_refuses_is_told(world: World) -> None:
    world.up()
    world.cloud.refuse["simulate_maintenance"] = PermissionDenied(
        "compute.instances.simulateMaintenanceEvent"
    )
    ask(world)
    world.drive(lambda: over(world), "iris")
    assert drill(world)["state"] == "Refused"
    assert "simulateMaintenanceEvent" in drill(world)["message"]
    assert world.is_ready("iris")


def test_a_call_without_an_answer_is_made_again(world: World) -> None:
    world.up()
    world.cloud.refuse["simulate_maintenance"] = Unavailable("no answer")
    ask(world)
    world.pass_("iris")
    assert drill(world)["state"] == "Requested"
    request = drill(world)["requestId"]
    del world.cloud.refuse["simulate_maintenance"]
    world.drive(lambda: over(world), "iris")
    assert drill(world)["state"] == "Recovered"
    assert world.cloud.by_request[request]
    assert len([change for change in world.cloud.power if "preempted" in change.kind]) == 1


def test_without_the_cloud_nothing_is_decided(world: World) -> None:
    world.up()
    world.clock.advance(30)
    world.cloud.down["all"] = Unavailable("nothing answers")
    ask(world)
    world.pass_("iris")
    assert drill(world) == {}
    del world.cloud.down["all"]
    world.drive(lambda: over(world), "iris")
    assert drill(world)["state"] == "Recovered"


@pytest.mark.parametrize("when", ["before", "after"])
def test_wherever_the_operator_dies_it_preempts_once_and_tells_the_end(when: Any) -> None:
    struck = 0
    for number in range(30):
        world = World()
        world.up()
        world.clock.advance(60)
        begun = len(world.journal.calls)

        def fault(at: int, call: str, strike: int = begun + number) -> Any:
            return (when, Crash()) if at == strike else None

        world.journal.fault = fault
        ask(world)
        world.drive(lambda: over(world), "iris")  # noqa: B023 (is over before the next one begins)
        world.drive(lambda: world.is_ready("iris"), "iris")  # noqa: B023
        found = [change for change in world.cloud.power if "preempted" in change.kind]
        assert len(found) == 1, world.journal.calls[begun:]
        assert drill(world)["state"] == "Recovered", world.journal.calls[begun:]
        assert {"notice", "stopped", "started", "running", "serving"} == drill(world)["steps"].keys()
        if not world.crashes:
            break
        struck += 1
    assert 3 < struck < 30
