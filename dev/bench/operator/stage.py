"""The processes of the benchmark, and what is read off them: calls, writes, seconds and memory."""

import os
import re
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from dev import api, cluster, dockerfile, environment, stack
from dev.cluster import Kubectl
from dev.errors import DevError
from dev.paths import BENCH, ROOT, VENV_BIN, locked
from dev.process import Process
from dev.progress import until

DEPLOYMENTS = "/apis/budgetml.dev/v1alpha1/namespaces/default/budgetdeployments"
CODE = "class Predictor:\n    def load(self): pass\n    def predict(self, request): return {text!r}\n"
WRITES = re.compile(r'^apiserver_request_total\{.*,resource="([a-z/]*)".*verb="([A-Z]+)".*\} ([0-9.e+]+)$')
READING = ("GET", "LIST", "WATCH")
#: What the operator may write besides its Lease; the API server writes to itself as well.
WRITTEN = ("budgetdeployments", "secrets", "events")
TABLE = {"Accept": "application/json;as=Table;g=meta.k8s.io;v=v1"}
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Reading:
    """At one moment: `writes` are those to the API server, Lease renewals left out."""

    at: float
    calls: int
    writes: int
    cpu_seconds: float


@dataclass
class Stage:
    """A control plane and a local cloud that run; the operator runs when it is told to."""

    kubectl: Kubectl
    folder: Path
    port: int
    cloud: httpx.Client = field(init=False)
    api: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        self.api = api.administrator(BENCH.kubeconfig)
        self.cloud = httpx.Client(base_url=f"{self.url}/_localcloud/v1", timeout=60, trust_env=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def operator(self) -> Process:
        return Process(BENCH, "operator")

    def start_operator(self, *recorded: str | Path) -> None:
        """`recorded`: the file that its calls are written to."""
        image = dockerfile.environment(ROOT, "operator")
        env = environment.operator(BENCH) | {
            "BUDGET_API_ENDPOINT": self.url,
            # Nothing ticks: the keep-alive's calls are not the operator's.
            "BUDGET_SCHEDULE": "0 0 1 1 *",
            **{name: value for name, value in image.items() if name.startswith("MALLOC_")},
        }
        program: list[str | Path] = [VENV_BIN / "budget-operator"]
        if recorded:
            program = [VENV_BIN / "python", "-m", "dev.bench.operator.recorded", *recorded]
        self.operator.start([*program, "run"], env=env)
        health = f"http://127.0.0.1:{BENCH.known_port('operator')}/readyz"
        until(lambda: _answers(health) or not self.operator.pid(), 60, self.operator.log_tail)

    def apply(self, first: int, last: int) -> None:
        """New deployments with these numbers."""
        self._each(lambda number: self.api.post(DEPLOYMENTS, json=deployment(number)), first, last)

    def delete(self, first: int, last: int) -> None:
        self._each(lambda number: self.api.delete(f"{DEPLOYMENTS}/{name(number)}"), first, last)

    def edit_status(self, first: int, last: int, text: str) -> None:
        """Somebody writes over the status of each."""
        self._each(
            lambda number: self._patch(f"{name(number)}/status", {"status": {"state": text}}), first, last
        )

    def edit(self, number: int, text: str) -> int:
        """A new spec; its generation."""
        answer = self._patch(name(number), {"spec": deployment(number, text)["spec"]})
        return int(answer.json()["metadata"]["generation"])

    def observed(self, number: int) -> int:
        """The generation that the operator's status is about."""
        found = self.api.get(f"{DEPLOYMENTS}/{name(number)}").json()
        return int(found.get("status", {}).get("observedGeneration", 0))

    def _patch(self, path: str, body: Any) -> httpx.Response:
        headers = {"Content-Type": "application/merge-patch+json"}
        return self.api.patch(f"{DEPLOYMENTS}/{path}", json=body, headers=headers)

    def _each(self, ask: Any, first: int, last: int) -> None:
        with ThreadPoolExecutor(4) as pool:
            for answer in pool.map(ask, range(first, last)):
                answer.raise_for_status()

    def column(self, title: str) -> list[str]:
        """What `kubectl get bd` shows of every deployment."""
        query = {"includeObject": "None"}
        found = self.api.get(DEPLOYMENTS, headers=TABLE, params=query).json()
        place = [each["name"].lower() for each in found["columnDefinitions"]].index(title.lower())
        return [row["cells"][place] for row in found["rows"]]

    def until_ready(self, count: int, seconds: float) -> None:
        def ready() -> bool:
            return self.column("Ready").count("True") == count or not self.operator.pid()

        until(ready, seconds, self._unready, interval=1.0)
        if not self.operator.pid():
            raise DevError(f"the operator has ended: {self.operator.log_tail()}")

    def _unready(self) -> str:
        ready = self.column("Ready")
        return f"{ready.count('True')} of {len(ready)} are Ready: {sorted(set(self.column('State')))}"

    def until_gone(self, seconds: float) -> None:
        until(lambda: not self.column("Ready"), seconds, self._unready, interval=1.0)

    def read(self) -> Reading:
        pid = self.operator.pid()
        if pid is None:
            raise DevError(f"the operator has ended: {self.operator.log_tail()}")
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return Reading(
            at=time.monotonic(),
            calls=int(self.cloud.get("/journal/count").json()["count"]),
            writes=sum(self.writes().values()),
            cpu_seconds=(int(words[11]) + int(words[12])) / _TICKS,
        )

    def writes(self) -> dict[str, int]:
        """By resource, whoever made them."""
        found: dict[str, int] = {}
        for line in self.api.get("/metrics").text.splitlines():
            read = WRITES.match(line)
            if read and read[2] not in READING and read[1] in WRITTEN:
                found[read[1]] = found.get(read[1], 0) + round(float(read[3]))
        return found

    def rss_mib(self) -> float:
        status = Path(f"/proc/{self.operator.pid()}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert found is not None
        return int(found[1]) / 1024


def name(number: int) -> str:
    return f"model-{number:04d}"


def deployment(number: int, text: str = "hi") -> dict[str, Any]:
    """One whose model says this."""
    return {
        "apiVersion": "budgetml.dev/v1alpha1",
        "kind": "BudgetDeployment",
        "metadata": {"name": name(number), "namespace": "default"},
        "spec": {"predictor": {"inline": CODE.format(text=text)}},
    }


@contextmanager
def cloud(folder: Path, port: int, backend: str, latency: float) -> Iterator[None]:
    """A local cloud in which everything, each call included, takes about as long as at Google."""
    process = Process(BENCH, f"localcloud-{backend}")
    argv: list[str | Path] = [VENV_BIN / "localcloud", "serve", f"--home={folder}", "--duration=google"]
    subnet = "127.78.0.0/16"
    process.start([*argv, f"--listen=127.0.0.1:{port}", f"--backend={backend}", f"--subnet={subnet}"])
    control = f"http://127.0.0.1:{port}/_localcloud/v1"
    try:
        until(lambda: _answers(f"{control}/health"), 30, process.log_tail)
        if latency:
            late = {"kind": "call", "path": "/", "code": 0, "count": 0, "latency": latency}
            httpx.post(f"{control}/faults", json=late, trust_env=False).raise_for_status()
        yield
    finally:
        process.stop()


@contextmanager
def opened(latency: float) -> Iterator[Stage]:
    """Everything but the operator runs; nothing of it is left afterwards."""
    with locked("bench-operator"), tempfile.TemporaryDirectory(prefix="bench-operator-") as folder:
        cluster.CONTROL_PLANE.build()
        cluster.down(BENCH)
        cluster.forget(BENCH)
        try:
            cluster.up(BENCH)
            kubectl = Kubectl(BENCH.kubeconfig)
            stack.apply_crd(kubectl)
            stack.apply_rbac(kubectl, BENCH)
            BENCH.port("operator")
            port = BENCH.port("localcloud")
            with cloud(Path(folder) / "cloud", port, "simulated-guests", latency):
                yield Stage(kubectl, Path(folder), port)
        finally:
            Process(BENCH, "operator").stop()
            cluster.down(BENCH)
            cluster.forget(BENCH)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5, trust_env=False).is_success
    except httpx.HTTPError:
        return False
