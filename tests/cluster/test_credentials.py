"""The operator as in a pod: its ServiceAccount's token is a file, replaced before it expires.

The file's place is fixed, so the process gets a view of its own of the file system (`unshare`).
"""

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from jose import jwt

from dev.cluster import Kubectl
from dev.progress import until
from tests.cluster.brisk import STREAM_SECONDS
from tests.cluster.conftest import ControlPlane
from tests.cluster.operators import BRISK, Operator
from tests.cluster.world import World

ISSUER = "https://kubernetes.default.svc"
ACCOUNT, NAMESPACE = "budget-operator", "budgetml-system"
# A token is accepted for so long after it has expired, and a success is remembered for ten seconds.
LEEWAY_SECONDS, REMEMBERED_SECONDS = 60, 10
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


@contextmanager
def in_a_pod(world: World, account: Account, token: str) -> Iterator[Operator]:
    """It runs, and is started again when it ends."""
    account.give(token)
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
        until(lambda: operator.says("readyz", "200 active"), 60, lambda: f"{operator.ask('readyz')}")
        yield operator
        world.kubectl("delete", "bd", "--all", "--timeout=60s")


def test_a_token_that_is_replaced_in_time_interrupts_nothing(world: World, account: Account) -> None:
    """Neither passes and lease, nor kopf, whose session keeps a token until that is refused."""
    short = account.sign(25)
    with in_a_pod(world, account, short) as operator:
        world.notice("before", 30)
        account.give(account.sign(3600))
        until(lambda: account.refused(short), 60, "the token does not expire")
        until(lambda: "Re-authentication has finished" in operator.process.log_tail(), 30, "no new login")
        world.notice("after", STREAM_SECONDS)
        assert operator.says("readyz", "200 active")
        assert operator.starts == 1


def test_a_token_that_expires_is_told_and_the_next_one_is_used(world: World, account: Account) -> None:
    """Without a token nobody may act: the process ends, and the next one says what it waits for."""
    with in_a_pod(world, account, account.sign(3600)) as operator:
        account.give(account.sign(1))
        until(
            lambda: operator.says("readyz", "503", "lease", "401 Unauthorized", "token"),
            60,
            lambda: f"{operator.ask('readyz')}",
        )
        assert operator.says("healthz", "200 standing by")
        account.give(account.sign(3600))
        world.notice("again", 30)
        assert operator.starts == 2
