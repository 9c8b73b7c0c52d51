"""What can be said of the API server gateway without an API server; tests/cluster has the rest."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from budget_operator.cluster.kube import KubeLease, connect
from budget_operator.core.errors import Unavailable


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


def test_a_lease_call_that_hangs_is_not_repeated_behind_our_back(silent: socket.socket) -> None:
    lease = KubeLease(connect(pool_size=1), "budgetml-system")
    with pytest.raises(Unavailable):
        lease.read_lease()
    assert connections(silent) == 1, "with repeats the timeouts that the lease counts on would not hold"
