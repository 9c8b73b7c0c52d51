"""A control plane of its own for the tests in this folder, empty at the start and gone at the end.

For the tests of the operator's process there is a `world` as well: the local cloud with simulated VMs, and
operators that run as their ServiceAccount.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from dev import cluster, environment, stack
from dev.cluster import Kubectl
from dev.paths import TEST_CLUSTER, VENV_BIN, locked
from dev.process import Process
from dev.progress import until

TESTER = "cluster-tests"  # tells our own calls from the operator's in the journal
WAIT_SECONDS = 30


@dataclass(frozen=True)
class ControlPlane:
    """How tests reach the control plane."""

    kubeconfig: Path
    operator_kubeconfig: Path
    kubectl: Kubectl


@pytest.fixture(scope="session")
def control_plane() -> Iterator[ControlPlane]:
    with locked("test-cluster"):
        with locked("go"):
            cluster.build()
        cluster.down(TEST_CLUSTER)
        cluster.forget(TEST_CLUSTER)
        try:
            cluster.up(TEST_CLUSTER)
            kubectl = Kubectl(TEST_CLUSTER.kubeconfig)
            yield ControlPlane(TEST_CLUSTER.kubeconfig, TEST_CLUSTER.operator_kubeconfig, kubectl)
        finally:
            cluster.down(TEST_CLUSTER)
            cluster.forget(TEST_CLUSTER)


@pytest.fixture(scope="session")
def crd(control_plane: ControlPlane) -> ControlPlane:
    """With the custom resource."""
    stack.apply_crd(control_plane.kubectl)
    return control_plane


@pytest.fixture(scope="session")
def rbac(crd: ControlPlane) -> ControlPlane:
    """With the operator's ServiceAccount, its rights and its kubeconfig."""
    stack.apply_rbac(crd.kubectl, TEST_CLUSTER)
    return crd


@dataclass
class World:
    """The API server and the local cloud, with what a user does to the one and sees in the other."""

    kubectl: Kubectl
    home: Path
    port: int
    api: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        self.api = httpx.Client(
            base_url=f"http://127.0.0.1:{self.port}", headers={"User-Agent": TESTER}, timeout=30
        )

    # --- the local cloud ---

    @property
    def process(self) -> Process:
        return Process(TEST_CLUSTER, "localcloud")

    def start_cloud(self) -> None:
        listen = f"127.0.0.1:{self.port}"
        self.process.start(
            [
                *(VENV_BIN / "localcloud", "serve", f"--home={self.home}"),
                *(f"--listen={listen}", "--backend=simulated"),
            ]
        )
        until(self.cloud_answers, 30, self.process.log_tail)

    def cloud_answers(self) -> bool:
        try:
            return self.api.get("/_localcloud/v1/health").is_success
        except httpx.HTTPError:
            return False

    def control(self, method: str, path: str, body: Any = None) -> Any:
        answer = self.api.request(method, f"/_localcloud/v1/{path}", json=body)
        answer.raise_for_status()
        return answer.json()

    def resources(self) -> list[tuple[str, str, str]]:
        """What `localcloud ls` shows: kind, name, location."""
        found = self.control("GET", "resources")["resources"]
        return sorted((row["kind"], row["name"], row["location"]) for row in found)

    def names(self, kind: str) -> list[str]:
        return [name for found, name, _ in self.resources() if found == kind]

    def mark(self) -> int:
        """The journal's end, to look only at what comes after it."""
        entries = self.control("GET", "journal?limit=1")["entries"]
        return int(entries[-1]["id"]) if entries else 0

    def changes(self, since: int) -> list[str]:
        """The calls since then that change something and that the tests did not make themselves."""
        entries = self.control("GET", f"journal?after={since}&limit=100000")["entries"]
        return [
            f"{entry['method']} {entry['path'].partition('?')[0]} {entry['status']}"
            for entry in entries
            if entry["method"] not in ("GET", "HEAD") and entry["agent"] != TESTER
        ]

    def looks(self, since: int) -> int:
        """How often somebody looked at all instances since then: once per picture of the project."""
        entries = self.control("GET", f"journal?after={since}&limit=100000")["entries"]
        return sum("/aggregated/instances" in entry["path"] for entry in entries)

    # --- Kubernetes ---

    def apply(self, *documents: dict[str, Any]) -> None:
        listed = {"apiVersion": "v1", "kind": "List", "items": documents}
        self.kubectl("apply", "-f", "-", input=json.dumps(listed))

    def deployment(self, name: str, namespace: str = "default") -> dict[str, Any]:
        return dict(self.kubectl.json("get", "bd", name, "--namespace", namespace))

    def conditions(self, name: str, namespace: str = "default") -> dict[str, dict[str, Any]]:
        status = self.deployment(name, namespace).get("status", {})
        return {each["type"]: each for each in status.get("conditions", ())}

    def wait(
        self,
        name: str,
        holds: Callable[[dict[str, dict[str, Any]]], bool],
        seconds: float = WAIT_SECONDS,
        namespace: str = "default",
    ) -> dict[str, dict[str, Any]]:
        """The conditions once they are as wanted, judged on the latest generation."""

        def reached() -> bool:
            document = self.deployment(name, namespace)
            status = document.get("status", {})
            found.clear()
            found.update({each["type"]: each for each in status.get("conditions", ())})
            current = status.get("observedGeneration") == document["metadata"]["generation"]
            return current and holds(found)

        found: dict[str, dict[str, Any]] = {}
        until(reached, seconds, lambda: f"{name}: {json.dumps(found, indent=1)}", interval=0.2)
        return found

    def delete(self, *names: str, namespace: str = "default", seconds: float = WAIT_SECONDS) -> None:
        """Returns when nothing holds the objects any more."""
        what = (f"bd/{name}" for name in names)
        self.kubectl("delete", *what, "--namespace", namespace, f"--timeout={seconds:.0f}s")


@dataclass
class Operator:
    """One process of the operator, as its ServiceAccount."""

    world: World
    name: str = "operator"
    port: int = field(init=False)

    def __post_init__(self) -> None:
        self.port = TEST_CLUSTER.port(self.name)

    @property
    def process(self) -> Process:
        return Process(TEST_CLUSTER, self.name)

    def start(self) -> None:
        endpoint = {"BUDGET_API_ENDPOINT": f"http://127.0.0.1:{self.world.port}"}
        env = environment.operator(TEST_CLUSTER) | endpoint | {"BUDGET_HEALTH_PORT": str(self.port)}
        self.process.start([VENV_BIN / "budget-operator", "run"], env=env)
        until(lambda: self.health() is not None or not self.process.pid(), 30, self.process.log_tail)
        assert self.process.pid(), self.process.log_tail()

    def health(self) -> str | None:
        """What /healthz says first; None while nothing answers."""
        return self.ask("healthz")

    def ask(self, path: str) -> str | None:
        """Status and first line; None while nothing answers."""
        try:
            answer = httpx.get(f"http://127.0.0.1:{self.port}/{path}", timeout=5)
        except httpx.HTTPError:
            return None
        return f"{answer.status_code} {answer.text.partition(chr(10))[0]}"

    def until_active(self, seconds: float = 60) -> None:
        until(lambda: self.health() == "200 active", seconds, lambda: f"{self.name}: {self.health()}")


@pytest.fixture(scope="session")
def world(rbac: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """With an empty local cloud whose VMs are simulated: nothing answers HTTPS, so Ready never comes."""
    port = TEST_CLUSTER.port("localcloud")
    made = World(rbac.kubectl, tmp_path_factory.mktemp("localcloud"), port)
    try:
        made.start_cloud()
        yield made
    finally:
        made.process.stop()


@pytest.fixture(scope="module")
def operator(world: World) -> Iterator[Operator]:
    """The operator, running and active."""
    made = Operator(world)
    try:
        made.start()
        made.until_active()
        yield made
    finally:
        made.process.stop()
