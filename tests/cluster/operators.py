"""The operator's process as tests start, keep and question it."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from dev import environment, plain
from dev.paths import TEST_CLUSTER, VENV_BIN
from dev.process import Process
from dev.progress import until
from tests.cluster import brisk
from tests.cluster.world import World

USUAL = (VENV_BIN / "budget-operator", "run")
BRISK = (VENV_BIN / "python", Path(brisk.__file__))
# Nothing ticks: the keep-alive starts VMs as well, and the calls that are counted are to be the operator's.
SETTINGS = {"BUDGET_SCHEDULE": "0 0 1 1 *"}


@dataclass
class Operator:
    """One process of the operator, as its ServiceAccount."""

    world: World
    name: str = "operator"
    command: Sequence[str | Path] = USUAL
    settings: Mapping[str, str] = field(default_factory=dict)
    port: int = field(init=False)
    starts: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.port = TEST_CLUSTER.port(self.name)

    @property
    def process(self) -> Process:
        return Process(TEST_CLUSTER, self.name)

    def start(self) -> None:
        self.spawn()
        until(lambda: self.health() is not None or not self.process.pid(), 30, self.process.log_tail)
        assert self.process.pid(), self.process.log_tail()

    def spawn(self) -> None:
        """Start it and wait for nothing."""
        endpoint = {"BUDGET_API_ENDPOINT": f"http://127.0.0.1:{self.world.port}"}
        usual = environment.operator(TEST_CLUSTER) | endpoint | {"BUDGET_HEALTH_PORT": str(self.port)}
        self.starts += 1
        self.process.start(self.command, env=usual | SETTINGS | dict(self.settings))

    @contextmanager
    def kept(self) -> Iterator[None]:
        """It runs, and is started again whenever it ends, as the kubelet does it."""
        done = threading.Event()

        def keep() -> None:
            while not done.wait(0.2):
                if not self.process.pid():
                    self.spawn()

        kubelet = threading.Thread(target=keep, name="kubelet")
        self.start()
        kubelet.start()
        try:
            yield
        finally:
            done.set()
            kubelet.join()
            self.process.stop()

    def log(self) -> str:
        return self.process.log_file.read_text()

    def until(self, path: str, *words: str, seconds: float = 60) -> None:
        """Returns once the answer's status and first line hold all these words."""
        until(lambda: self.says(path, *words), seconds, lambda: f"{self.name}: {self.ask(path)}")

    def until_ready(self) -> None:
        self.until("readyz", "200 active")

    def says(self, path: str, *words: str) -> bool:
        """Whether the answer's status and first line hold all these words."""
        answer = self.ask(path) or ""
        return all(word in answer for word in words)

    def health(self) -> str | None:
        """What /healthz says first; None while nothing answers."""
        return self.ask("healthz")

    def ask(self, path: str) -> str | None:
        """Status and first line; None while nothing answers."""
        try:
            answer = plain.get(f"http://127.0.0.1:{self.port}/{path}", timeout=5)
        except httpx.HTTPError:
            return None
        return f"{answer.status_code} {answer.text.partition(chr(10))[0]}"

    def until_active(self, seconds: float = 60) -> None:
        until(lambda: self.health() == "200 active", seconds, lambda: f"{self.name}: {self.health()}")
