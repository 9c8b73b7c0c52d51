"""Whole passes against a cloud and an API server in memory: never two, never lost, always converging."""

from tests.unit.budget_operator.fakes import World


def test_apply_becomes_ready(world: World) -> None:
    seconds = world.up()
    status = world.kube.status("iris")
    print(seconds, status, world.journal.calls)
    assert status["state"] == "Serving"
