"""Bad things between the operator and the API server: nothing is missed or doubled, and health says why.

All through a proxy; the operator's periods are short, and its regular list never comes.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from dev import cluster, stack
from dev.progress import until
from tests.cluster.brisk import STREAM_SECONDS
from tests.cluster.operators import BRISK, Operator
from tests.cluster.proxy import Proxy, status
from tests.cluster.world import World, deployment

CODE = {"predictor": {"inline": "class Predictor:\n    def load(self): ...\n    def predict(self, r): ...\n"}}
# the silence that ends a stream, a new request, and one pass
NOTICED_SECONDS = STREAM_SECONDS + 5 + 15


@pytest.fixture(scope="module")
def proxy(rbac: Any) -> Iterator[Proxy]:
    view = rbac.kubectl.json("config", "view", "--raw")
    made = Proxy(view["clusters"][0]["cluster"]["server"], rbac.authority)
    yield made
    made.close()


@pytest.fixture(scope="module")
def kept(world: World, proxy: Proxy, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    kubeconfig = tmp_path_factory.mktemp("proxied") / "kubeconfig"
    direct = json.loads(world.operator_kubeconfig.read_text())
    cluster.write_kubeconfig(kubeconfig, {"server": proxy.url}, direct["users"][0]["user"]["token"])
    operator = Operator(world, "watched", BRISK, {"KUBECONFIG": str(kubeconfig)})
    with operator.kept():
        yield operator


@pytest.fixture
def watched(kept: Operator) -> Iterator[Operator]:
    """Active and ready, before and after, and never started anew in between."""
    until(lambda: kept.says("readyz", "200 active"), 60, lambda: f"{kept.ask('readyz')}")
    starts = kept.starts
    yield kept
    kept.world.kubectl("delete", "bd", "--all", "--timeout=60s")
    assert kept.world.resources() == []
    until(lambda: kept.says("readyz", "200 active"), 30, lambda: f"{kept.ask('readyz')}")
    assert kept.starts == starts, kept.process.log_tail(40)


def test_a_stream_that_falls_silent_is_replaced(watched: Operator, proxy: Proxy) -> None:
    watched.world.notice("before", 30)
    assert proxy.silence() == 1
    watched.world.notice("silence", NOTICED_SECONDS)


def test_a_watch_that_is_told_that_it_is_too_late_begins_anew(watched: Operator, proxy: Proxy) -> None:
    """By an event in its stream; and by the API server itself, asked for changes that it no longer has."""
    gone = {"type": "ERROR", "object": status(410, "Expired", "too old resource version: 1 (2)")}
    assert proxy.end_streams(gone) == 1
    watched.world.notice("gone", NOTICED_SECONDS)
    proxy.rewind()
    until(lambda: not proxy.rewound, STREAM_SECONDS + 5, "no watch begins")
    watched.world.notice("rewound", NOTICED_SECONDS)


@pytest.mark.parametrize(
    ("code", "reason", "message"),
    [
        (503, "ServiceUnavailable", "the server is currently unable to handle the request"),
        (422, "Invalid", 'BudgetDeployment "refused" is invalid: status.state: Unsupported value: "Odd"'),
    ],
)
def test_no_vm_is_made_while_no_status_can_be_written(
    watched: Operator, proxy: Proxy, code: int, reason: str, message: str
) -> None:
    """The intent to make a VM is written down first. The attempts have pauses, the log has the cause."""
    world = watched.world
    since = world.mark()
    with proxy.refusing("PATCH", "/status$", code, reason, message) as refusal:
        world.apply(deployment("refused", CODE))
        until(lambda: refusal.count >= 3, 30, lambda: f"{refusal.count} attempts")
        assert message in watched.process.log_file.read_text()
        assert world.names("instance") == []
        assert watched.says("healthz", "200 active")
    world.wait("refused", lambda found: bool(found["InstanceRunning"]["status"] == "True"), 60)
    inserts = [line for line in world.changes(since) if line.startswith("POST") and "/instances " in line]
    assert len(inserts) == 1


def test_rights_that_are_taken_away_are_told_and_those_given_back_are_used(watched: Operator) -> None:
    """Of the ClusterRole: the lease stays, so the operator stays active and says that it is not ready."""
    world = watched.world
    world.kubectl("delete", "clusterrolebinding", "budget-operator")
    try:
        until(
            lambda: watched.says("readyz", "503", "403 Forbidden", "ClusterRole"),
            60,
            lambda: f"{watched.ask('readyz')}",
        )
        assert watched.says("healthz", "200 active"), "no restart would help"
    finally:
        world.kubectl("apply", "--kustomize", stack.BASE)
    world.notice("later", NOTICED_SECONDS)


def test_a_lost_lease_ends_the_process_and_the_next_one_says_why_it_waits(kept: Operator) -> None:
    """Its rights are taken away: who cannot renew it may not act, and a restart alone does not help."""
    until(lambda: kept.says("readyz", "200 active"), 60, lambda: f"{kept.ask('readyz')}")
    starts = kept.starts
    kept.world.kubectl("delete", "rolebinding", "budget-operator", "--namespace=budgetml-system")
    try:
        until(lambda: kept.starts == starts + 1, 20, kept.process.log_tail)
        until(
            lambda: kept.says("readyz", "503", "lease", "403 Forbidden"), 30, lambda: f"{kept.ask('readyz')}"
        )
        assert kept.says("healthz", "200 standing by")
    finally:
        kept.world.kubectl("apply", "--kustomize", stack.BASE)
    until(lambda: kept.says("readyz", "200 active"), 30, lambda: f"{kept.ask('readyz')}")
    assert kept.starts == starts + 1
    assert "the lease is lost: not renewed" in kept.process.log_file.read_text()
