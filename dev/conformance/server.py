"""The local cloud as a real server on loopback: simulated VMs, short durations, every answer recorded."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from dev import plain
from dev.conformance.bodies import PROJECT
from dev.conformance.recording import Recorder
from localcloud.app import build_context, create_app
from localcloud.clock import Clock, SystemClock
from localcloud.context import Context
from localcloud.settings import Durations, Settings
from localcloud.vm.simulated import SimulatedBackend

FAST = Durations(
    provisioning=0.02, staging=0.02, operation=0.01, notice=0.3, stop_spot=0.5, stop_standard=0.5, watch=0.05
)


@dataclass
class Cloud:
    """A running local cloud; `turn` stops it and starts it again on the same home."""

    home: Path
    port: int
    durations: Durations = FAST
    clock: Clock = field(default_factory=SystemClock)
    recorder: Recorder = field(default_factory=Recorder)
    guests: bool = False
    context: Context = field(init=False)
    _server: uvicorn.Server = field(init=False)
    _thread: threading.Thread = field(init=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def vms(self) -> SimulatedBackend:
        vms = self.context.vms
        assert isinstance(vms, SimulatedBackend)
        return vms

    def start(self) -> None:
        settings = Settings(
            self.home,
            port=self.port,
            backend="simulated-guests" if self.guests else "simulated",
            subnet="127.0.77.0/24",
            durations=self.durations,
        )
        self.context = build_context(settings, self.clock)
        config = uvicorn.Config(
            self.recorder.around(create_app(self.context)),
            port=self.port,
            log_level="warning",
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        until(lambda: self._server.started, "the server to start")

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(15)
        assert not self._thread.is_alive()

    def turn(self) -> None:
        self.stop()
        self.start()

    def control(self, method: str, path: str, body: Any = None) -> Any:
        answer = plain.request(method, f"{self.url}/_localcloud/v1{path}", json=body)
        answer.raise_for_status()
        return answer.json()

    @contextlib.contextmanager
    def fault(self, **document: Any) -> Iterator[None]:
        """In force while this lasts."""
        made = self.control("POST", "/faults", document)["id"]
        try:
            yield
        finally:
            self.control("DELETE", f"/faults/{made}")

    def compute(self, method: str, path: str, body: Any = None, **query: Any) -> httpx.Response:
        """A raw call below the project."""
        full = f"projects/{PROJECT}/{path}" if path else f"projects/{PROJECT}"
        return plain.request(method, f"{self.url}/compute/v1/{full}", json=body, params=query)

    def problems(self) -> list[str]:
        """What was wrong with the answers since the last time."""
        return [problem for answer in self.recorder.take() for problem in answer.problems()]


def until(condition: Callable[[], Any], what: str, seconds: float = 10.0) -> Any:
    """The first true value of `condition`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.01)
    raise AssertionError(f"waited {seconds} s for {what}")
