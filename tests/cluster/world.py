"""The API server and the local cloud, with what a user does to the one and sees in the other."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from dev.cluster import Kubectl
from dev.paths import TEST_CLUSTER, VENV_BIN
from dev.process import Process
from dev.progress import until

TESTER = "cluster-tests"  # tells our own calls from the operator's in the journal
WAIT_SECONDS = 30


def deployment(name: str, spec: dict[str, Any]) -> dict[str, Any]:
    """A BudgetDeployment in the namespace `default`."""
    return {
        "apiVersion": "budgetml.dev/v1alpha1",
        "kind": "BudgetDeployment",
        "metadata": {"name": name, "namespace": "default"},
        "spec": spec,
    }


@dataclass
class World:
    """The API server and the local cloud, with what a user does to the one and sees in the other."""

    kubectl: Kubectl
    operator_kubeconfig: Path
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

    def notice(self, name: str, seconds: float) -> float:
        """Seconds until a deployment that has just come into being has a status; none longer than given.

        It lacks its code: it stalls, and nothing is made in the cloud.
        """
        began = time.monotonic()
        self.apply(deployment(name, {"predictor": {"configMap": {"name": "absent"}}}))
        self.wait(name, lambda found: bool(found["Stalled"]["status"] == "True"), seconds)
        return time.monotonic() - began

    def delete(self, *names: str, namespace: str = "default", seconds: float = WAIT_SECONDS) -> None:
        """Returns when nothing holds the objects any more."""
        what = (f"bd/{name}" for name in names)
        self.kubectl("delete", *what, "--namespace", namespace, f"--timeout={seconds:.0f}s")
