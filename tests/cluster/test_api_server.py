"""The API server dies and comes back on the same port, with the same data."""

from collections.abc import Iterator

import httpx
import pytest

from dev import cluster
from dev.paths import TEST_CLUSTER
from dev.process import Process
from dev.progress import until
from tests.cluster.operators import BRISK, Operator
from tests.cluster.world import World

RECOVERY_SECONDS = 45


@pytest.fixture
def kept(world: World) -> Iterator[Operator]:
    operator = Operator(world, "kept", BRISK)
    with operator.kept():
        until(lambda: operator.says("readyz", "200 active"), 60, lambda: f"{operator.ask('readyz')}")
        yield operator
        world.kubectl("delete", "bd", "--all", "--timeout=60s")


def test_what_happens_after_an_outage_is_noticed_soon(kept: Operator) -> None:
    """Who cannot renew its lease ends; the next process says what it waits for, and that no restart helps."""
    kept.world.notice("before", 30)
    Process(TEST_CLUSTER, "kube-apiserver").kill()
    try:
        until(
            lambda: kept.says("readyz", "503", "lease", "does not answer (Connection refused)"),
            40,
            lambda: f"{kept.ask('readyz')}",
        )
        assert kept.says("healthz", "200 standing by")
        metrics = httpx.get(f"http://127.0.0.1:{kept.port}/metrics").text.splitlines()
        assert {"budget_operator_active 0.0", "budget_operator_ready 0.0"} <= set(metrics)
    finally:
        cluster.up(TEST_CLUSTER)
    kept.world.notice("after", RECOVERY_SECONDS)
    assert kept.starts == 2
    assert kept.says("readyz", "200 active")
