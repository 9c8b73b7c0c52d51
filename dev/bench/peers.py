"""Other model servers, each installed into a virtual environment of its own below `.local/bench`.

Their versions are set here and not in a lock: nothing of ours runs with them.
"""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from dev.bench import work
from dev.bench.servers import FEW, Command, Server
from dev.paths import LOCAL, ROOT, VENV_BIN
from dev.progress import step


@dataclass(frozen=True)
class Peer:
    """One of them: what is installed, and how it is started. None of them has a login."""

    name: str
    version: str
    predictor: str
    arguments: tuple[str, ...]
    """Of its own python; `{port}` is filled in."""
    path: str = "/predict_dict"

    @property
    def venv(self) -> Path:
        """Where it is installed."""
        return LOCAL / "bench" / f"venv-{self.name}"

    def servers(self, few: int = FEW) -> list[Server]:
        """One for each workload."""
        env = {"BENTOML_DO_NOT_TRACK": "true", "DO_NOT_TRACK": "1"}
        return [
            Server(self.name, workload, self.predictor, self._command(), (few,), self.path, env=env)
            for workload in work.WORKLOADS
        ]

    def install(self) -> str:
        """Why it could not be installed; empty if it is."""
        python = str(self.venv / "bin" / "python")
        make = ["venv", "--quiet", "--python", str(VENV_BIN / "python"), str(self.venv)]
        install = ["pip", "install", "--quiet", "--system-certs", "--python", python]
        install += [f"{self.name}=={self.version}", "numpy"]
        for argv in ([] if self.venv.exists() else [make]) + [install]:
            done = subprocess.run(
                [str(VENV_BIN / "uv"), *argv],
                cwd=ROOT,
                env={**os.environ},
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                return done.stderr.strip()[-500:] or f"uv ended with {done.returncode}"
        return ""

    def _command(self) -> Command:
        python = str(self.venv / "bin" / "python")
        return lambda port: [python, *(part.format(port=port) for part in self.arguments)]


PEERS = (
    Peer("litserve", "0.2.19", "plain", ("-m", "dev.bench.apps.litserve_app", "{port}"), "/predict"),
    Peer(
        "bentoml",
        "1.4.40",
        "async",
        ("-m", "bentoml", "serve", "dev.bench.apps.bentoml_app:Bench", "--host=127.0.0.1", "--port={port}"),
    ),
    Peer(
        "kserve",
        "0.21.0",
        "async",
        ("-m", "dev.bench.apps.kserve_app", "--http_port={port}"),
        "/v1/models/bench:predict",
    ),
)


def installed() -> tuple[list[Peer], dict[str, str]]:
    """Those that could be installed, and why the others could not."""
    refused: dict[str, str] = {}
    for peer in PEERS:
        with step(f"{peer.name} {peer.version}") as current:
            if why := peer.install():
                refused[peer.name] = why
            current.note = "NOT installed" if why else "installed"
    return [peer for peer in PEERS if peer.name not in refused], refused
