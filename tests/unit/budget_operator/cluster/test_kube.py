"""What can be said of the API server gateway without an API server; tests/cluster has the rest."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from kubernetes.client.exceptions import ApiException
from kubernetes.config import incluster_config

from budget_operator.cluster import kube
from budget_operator.cluster.access import Access
from budget_operator.cluster.kube import Kube, KubeLease, access, connect, translate
from budget_operator.core.errors import (
    BudgetError,
    NotFound,
    PermissionDenied,
    PreconditionFailed,
    RateLimited,
    Unavailable,
)


@pytest.fixture
def silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A server that accepts and never answers; KUBECONFIG leads to it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.getsockname()[1]}"}}],
            "users": [{"name": "u", "user": {"token": "t"}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        }
        path = tmp_path / "kubeconfig"
        path.write_text(json.dumps(config))
        monkeypatch.setenv("KUBECONFIG", str(path))
        yield server


def connections(server: socket.socket) -> int:
    server.setblocking(False)
    count = 0
    while True:
        try:
            server.accept()[0].close()
        except BlockingIOError:
            return count
        count += 1


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (
            401,
            '{"kind": "Status", "message": "Unauthorized"}',
            PermissionDenied,
            "401 R: Unauthorized; check that",
        ),
        (
            403,
            '{"message": "bd is forbidden"}',
            PermissionDenied,
            "403 R: bd is forbidden; check the operator's",
        ),
        (404, '{"message": "not found"}', NotFound, "404 R"),
        (409, "", PreconditionFailed, "409 R"),
        (410, '{"message": "too old"}', Unavailable, "410 R: too old"),
        (
            422,
            '{"message": "status.state: Unsupported value"}',
            BudgetError,
            "422 R: status.state: Unsupported",
        ),
        (429, "[]", RateLimited, "429 R"),
        (503, "<html>no healthy upstream</html>", Unavailable, "503 R"),
        (500, None, Unavailable, "500 R"),
    ],
)
def test_a_refusal_says_what_the_api_server_said(
    status: int, body: str | None, kind: type[BudgetError], words: str
) -> None:
    error = ApiException(status=status, reason="R")
    error.body = body
    found = translate(error, "patch status")
    assert type(found) is kind
    assert found.message.startswith(f"patch status: the Kubernetes API answered {words}")
    assert "html" not in found.message


def test_no_answer_says_why(monkeypatch: pytest.MonkeyPatch, silent: socket.socket) -> None:
    silent.close()
    with pytest.raises(
        Unavailable, match=r"get lease: the Kubernetes API does not answer \(Connection refused\)"
    ):
        KubeLease(connect(pool_size=1), "budgetml-system").read_lease()
    with pytest.raises(Unavailable, match=r"get secret a/b: .* does not answer \(Connection refused\)"):
        Kube(connect(pool_size=1)).secret("a", "b")


@pytest.fixture
def pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the kubelet gives to a pod, in a folder of its own."""
    (tmp_path / "token").write_text("one")
    (tmp_path / "ca.crt").write_text("-----BEGIN CERTIFICATE-----")
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "1")
    for module in (incluster_config, kube):
        monkeypatch.setattr(module, "SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(tmp_path / "ca.crt"))
    return tmp_path


def test_a_pod_s_token_is_read_anew_for_each_call(pod: Path) -> None:
    client = connect(pool_size=1)
    (pod / "token").write_text("two\n")
    assert client.configuration.get_api_key_with_prefix("BearerToken") == "Bearer two"
    assert access() == Access("https://127.0.0.1:1", str(pod / "ca.crt"), True, "Bearer two")
    assert "two" not in repr(access())


def test_a_token_that_cannot_be_read_is_no_bug(pod: Path) -> None:
    connected = connect(pool_size=1)
    (pod / "token").unlink()
    with pytest.raises(Unavailable, match="get lease: the credentials cannot be read: "):
        KubeLease(connected, "budgetml-system").read_lease()


def test_a_lease_call_that_hangs_is_not_repeated_behind_our_back(silent: socket.socket) -> None:
    lease = KubeLease(connect(pool_size=1), "budgetml-system")
    with pytest.raises(Unavailable):
        lease.read_lease()
    assert connections(silent) == 1, "with repeats the timeouts that the lease counts on would not hold"


def test_of_many_secrets_those_count_that_are_there_or_are_not(
    silent: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Kube(connect(pool_size=1))
    answers = [(200, b'{"data": {"x": "MQ=="}}'), (404, b""), (403, b""), (500, b"")]
    asked: list[str] = []

    def get_all(targets: list[str], *_: object) -> list[tuple[int, bytes]]:
        asked.extend(targets)
        return answers

    monkeypatch.setattr(found._reads, "get_all", get_all)
    names = [("a", name) for name in ("there", "gone", "forbidden", "failed", "unanswered")]
    assert found.many_secrets(names) == {("a", "there"): {"x": b"1"}, ("a", "gone"): None}
    assert asked == [f"/api/v1/namespaces/a/secrets/{name}" for _, name in names]
