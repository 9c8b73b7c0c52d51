"""The operator as in a pod: its ServiceAccount's token is a file, and it is started again when it ends.

The API server dies and comes back; tokens are replaced in time, and too late. The file's place is fixed, so
the process gets a view of its own of the file system (`unshare`).
"""

import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from jose import jwt

from dev import cluster, plain
from dev.cluster import Kubectl
from dev.paths import TEST_CLUSTER
from dev.process import Process
from dev.progress import until
from tests.cluster.brisk import STREAM_SECONDS
from tests.cluster.conftest import ControlPlane
from tests.cluster.operators import BRISK, Operator
from tests.cluster.world import World

ISSUER = "https://kubernetes.default.svc"
ACCOUNT, NAMESPACE = "budget-operator", "budgetml-system"
# A token is accepted for so long after it has expired, and then for ten seconds more if it was before.
LEEWAY_SECONDS = 60
RECOVERY_SECONDS = 45
LOGIN = "uthentication has finished"
IN_A_POD = """
set -eu
mount -t tmpfs tmpfs /run
mkdir -p /run/secrets/kubernetes.io/serviceaccount
mount --bind "$1" /run/secrets/kubernetes.io/serviceaccount
shift
exec "$@"
"""


@dataclass(frozen=True)
class Account:
    """The folder that a pod sees, and who signs what is in it."""

    folder: Path
    key: str
    kubectl: Kubectl

    def give(self, token: str) -> None:
        """Replace the token in one step, as the kubelet does."""
        fresh = self.folder / "fresh"
        fresh.write_text(token)
        fresh.replace(self.folder / "token")

    def sign(self, seconds: float) -> str:
        """A token that is refused in so many seconds."""
        now = int(time.time())
        found = self.kubectl.json("get", "serviceaccount", ACCOUNT, f"--namespace={NAMESPACE}")
        account = {"name": ACCOUNT, "uid": found["metadata"]["uid"]}
        claims = {
            "iss": ISSUER,
            "aud": [ISSUER],
            "sub": f"system:serviceaccount:{NAMESPACE}:{ACCOUNT}",
            "iat": now - 3600,
            "nbf": now - 3600,
            "exp": int(now + seconds - LEEWAY_SECONDS),
            "kubernetes.io": {"namespace": NAMESPACE, "serviceaccount": account},
        }
        return str(jwt.encode(claims, self.key, algorithm="RS256"))

    @property
    def server(self) -> str:
        return str(self.kubectl.json("config", "view", "--raw")["clusters"][0]["cluster"]["server"])

    def refused(self, token: str) -> bool:
        asked = self.kubectl(
            *("auth", "can-i", "list", "bd", "--kubeconfig=/dev/null", f"--server={self.server}"),
            *(f"--token={token}", f"--certificate-authority={self.folder / 'ca.crt'}"),
            check=False,
        )
        return "Unauthorized" in asked.stderr or "logged in" in asked.stderr


@pytest.fixture(scope="module")
def account(rbac: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Account:
    folder = tmp_path_factory.mktemp("serviceaccount")
    shutil.copy(rbac.authority, folder / "ca.crt")
    (folder / "namespace").write_text(NAMESPACE)
    return Account(folder, rbac.authority.with_name("apiserver.key").read_text(), rbac.kubectl)


@pytest.fixture(scope="module")
def kept(world: World, account: Account) -> Iterator[Operator]:
    account.give(account.sign(3600))
    server = urlsplit(account.server)
    unshare = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    operator = Operator(
        world,
        "in-a-pod",
        (*unshare, "sh", "-c", IN_A_POD, "in-a-pod", account.folder, *BRISK),
        {
            "KUBECONFIG": "",
            "KUBERNETES_SERVICE_HOST": server.hostname or "",
            "KUBERNETES_SERVICE_PORT": str(server.port),
        },
    )
    with operator.kept():
        yield operator


@pytest.fixture
def pod(kept: Operator) -> Iterator[Operator]:
    """Active and ready, before and after."""
    kept.until_ready()
    yield kept
    kept.until_ready()
    kept.world.kubectl("delete", "bd", "--all", "--timeout=60s")


def test_what_happens_after_an_outage_is_noticed_soon(pod: Operator) -> None:
    """Who cannot renew its lease ends; the next process says what it waits for, and that no restart helps."""
    pod.world.notice("before", 30)
    starts = pod.starts
    Process(TEST_CLUSTER, "kube-apiserver").kill()
    try:
        pod.until("healthz", "200 standing by")
        pod.until("readyz", "503", "lease", "does not answer (Connection refused)")
        metrics = plain.get(f"http://127.0.0.1:{pod.port}/metrics").text.splitlines()
        assert {"budget_operator_active 0.0", "budget_operator_ready 0.0"} <= set(metrics)
    finally:
        cluster.up(TEST_CLUSTER)
    pod.world.notice("after", RECOVERY_SECONDS)
    assert pod.starts == starts + 1


def test_a_token_that_is_replaced_in_time_interrupts_nothing(pod: Operator, account: Account) -> None:
    """Neither passes and lease, nor kopf, whose session keeps a token until that is refused."""
    starts, logins = pod.starts, pod.log().count(LOGIN)
    short = account.sign(10)
    account.give(short)
    pod.process.kill()  # kopf logs in with what it finds at its start
    until(lambda: pod.starts == starts + 1, 20, "it is not started again")
    pod.until_ready()
    account.give(account.sign(3600))
    until(lambda: account.refused(short), 40, "the token does not expire")
    until(lambda: pod.log().count(LOGIN) == logins + 2, 30, "kopf does not log in again")
    pod.world.notice("replaced", STREAM_SECONDS + 15)
    assert pod.says("readyz", "200 active")
    assert pod.starts == starts + 1


def test_a_token_that_has_expired_is_told_and_the_next_one_is_used(pod: Operator, account: Account) -> None:
    """Without a token nobody may act: the process ends, and the next one says what it waits for."""
    starts = pod.starts
    account.give(account.sign(-10))
    try:
        pod.until("healthz", "200 standing by")
        pod.until("readyz", "503", "lease", "401 Unauthorized", "token")
    finally:
        account.give(account.sign(3600))
    pod.world.notice("renewed", 30)
    assert pod.starts == starts + 1
