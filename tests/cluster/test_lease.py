"""Two operators; one is halted in the middle of its work, and goes on when the other has taken over."""

import os
import signal
from collections.abc import Iterator

import pytest

from dev.progress import until
from tests.cluster.operators import BRISK, Operator
from tests.cluster.world import World, deployment

CODE = {"predictor": {"inline": "class Predictor:\n    def load(self): ...\n    def predict(self, r): ...\n"}}


@pytest.fixture
def two(world: World) -> Iterator[tuple[Operator, Operator]]:
    """The first is active, the second stands by."""
    first, second = (Operator(world, name, BRISK) for name in ("first", "second"))
    try:
        first.start()
        first.until_ready()
        second.start()
        second.until("readyz", "200 standing by")
        yield first, second
        world.kubectl("delete", "bd", "--all", "--timeout=60s")
        assert world.resources() == []
    finally:
        first.process.stop()
        second.process.stop()


def test_who_was_stopped_for_too_long_ends_before_it_acts(two: tuple[Operator, Operator]) -> None:
    """As a frozen node or a paused container is: its work is half done, its lease is over."""
    first, second = two
    world = first.world
    world.control("POST", "faults", {"path": "^/upload/", "code": 0, "latency": 3.0, "count": 0})
    pid = first.process.pid()
    assert pid is not None
    world.apply(deployment("interrupted", CODE))
    until(lambda: bool(world.names("bucket")), 30, "nothing is begun")
    os.kill(pid, signal.SIGSTOP)
    world.control("DELETE", "faults")
    second.until_ready()

    def settled(found: dict[str, dict[str, object]]) -> bool:
        return all(found[name]["status"] == "True" for name in ("InstanceRunning", "KeepAliveArmed"))

    world.wait("interrupted", settled, 60)
    since = world.mark()
    os.kill(pid, signal.SIGCONT)
    until(lambda: first.process.pid() is None, 10, "the first one goes on")
    assert world.changes(since) == []
    assert "the lease is lost" in first.log()
    assert len(world.names("instance")) == 1
