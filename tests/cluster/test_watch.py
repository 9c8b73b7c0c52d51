"""Bad things between the operator and the API server: nothing is missed or doubled, and health says why.

All through a proxy; the operator's periods are short, and its regular list never comes.
"""

import json
from collections.abc import Iterator
from contextlib import ExitStack
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
    """Active and ready, before and after."""
    kept.until_ready()
    yield kept
    kept.until_ready()
    kept.world.kubectl("delete", "bd", "--all", "--timeout=60s")
    assert kept.world.resources() == []


@pytest.fixture
def lasting(watched: Operator) -> Iterator[Operator]:
    """It is never started anew."""
    starts = watched.starts
    yield watched
    assert watched.starts == starts, watched.process.log_tail(40)


def test_a_stream_that_falls_silent_is_replaced(lasting: Operator, proxy: Proxy) -> None:
    lasting.world.notice("before", 30)
    assert proxy.silence() == 1
    lasting.world.notice("silence", NOTICED_SECONDS)


def test_a_watch_that_is_told_that_it_is_too_late_begins_anew(lasting: Operator, proxy: Proxy) -> None:
    """By an event in its stream; and by the API server itself, asked for changes that it no longer has."""
    gone = {"type": "ERROR", "object": status(410, "Expired", "too old resource version: 1 (2)")}
    assert proxy.end_streams(gone) == 1
    lasting.world.notice("gone", NOTICED_SECONDS)
    proxy.rewind()
    until(lambda: not proxy.rewound, STREAM_SECONDS + 5, "no watch begins")
    lasting.world.notice("rewound", NOTICED_SECONDS)


def running(conditions: dict[str, dict[str, Any]]) -> bool:
    return bool(conditions["InstanceRunning"]["status"] == "True")


REFUSED = {
    503: ("ServiceUnavailable", "the server is currently unable to handle the request"),
    422: ("Invalid", 'BudgetDeployment is invalid: status.state: Unsupported value: "Odd"'),
}


def test_no_vm_is_made_while_no_status_can_be_written(lasting: Operator, proxy: Proxy) -> None:
    """The intent to make a VM is written down first. The attempts have pauses, the log has the cause."""
    world = lasting.world
    since = world.mark()
    with ExitStack() as faults:
        refusals = [
            faults.enter_context(proxy.refusing("PATCH", f"/refused-{code}/status$", code, *said))
            for code, said in REFUSED.items()
        ]
        world.apply(*(deployment(f"refused-{code}", CODE) for code in REFUSED))
        until(lambda: all(each.count >= 3 for each in refusals), 30, lambda: f"{refusals}")
        assert all(message in lasting.log() for _, message in REFUSED.values())
        assert world.names("instance") == []
        assert lasting.says("readyz", "200 active")
    for code in REFUSED:
        world.wait(f"refused-{code}", running, 60)
    inserts = [line for line in world.changes(since) if line.startswith("POST") and "/instances " in line]
    assert len(inserts) == len(REFUSED)


def test_rights_that_are_taken_away_are_told_and_those_given_back_are_used(lasting: Operator) -> None:
    """Of the ClusterRole: the lease stays, so the operator stays active and says that it is not ready."""
    world = lasting.world
    world.kubectl("delete", "clusterrolebinding", "budget-operator")
    try:
        lasting.until("readyz", "503", "403 Forbidden", "ClusterRole")
        assert lasting.says("healthz", "200 active"), "no restart would help"
    finally:
        world.kubectl("apply", "--kustomize", stack.ACCESS)
    world.notice("later", NOTICED_SECONDS)


def test_a_watch_that_kopf_gives_up_ends_the_process(watched: Operator, proxy: Proxy) -> None:
    """kopf ends at an error that it does not know; an operator without a watch would look alive."""
    starts = watched.starts
    unknown = {"type": "ERROR", "object": status(500, "InternalError", "etcdserver: leader changed")}
    assert proxy.end_streams(unknown) == 1
    until(lambda: watched.starts == starts + 1, 20, watched.process.log_tail)
    assert "the watch has ended: the process ends so that it is started again" in watched.log()
    watched.world.notice("next", 30)


def test_a_lost_lease_ends_the_process_and_the_next_one_says_why_it_waits(watched: Operator) -> None:
    """Its rights are taken away: who cannot renew it may not act, and a restart alone does not help."""
    starts = watched.starts
    watched.world.kubectl("delete", "rolebinding", "budget-operator", "--namespace=budgetml-system")
    try:
        watched.until("healthz", "200 standing by")
        watched.until("readyz", "503", "lease", "403 Forbidden")
    finally:
        watched.world.kubectl("apply", "--kustomize", stack.ACCESS)
    watched.until_ready()
    assert watched.starts == starts + 1
    assert "the lease is lost: not renewed" in watched.log()
