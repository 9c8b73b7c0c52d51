"""The Docker client: one command line at a time against one engine. Which engine, says `engine`."""

import os
import socket
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from dev.errors import DevError


@dataclass(frozen=True)
class Docker:
    """An engine's address and the client to reach it with."""

    host: str
    client: str
    private: bool = False
    config: Path | None = None
    extra: dict[str, str] = field(default_factory=dict)

    @property
    def env(self) -> dict[str, str]:
        """The environment for this client and for programs that use the SDK."""
        env = {**os.environ, **self.extra, "DOCKER_HOST": self.host}
        if self.config:
            env["DOCKER_CONFIG"] = str(self.config)
        return env

    def __call__(self, *args: str | Path) -> str:
        """Runs one command and gives its output."""
        done = self.run(*args)
        if done.returncode:
            raise DevError(f"docker {' '.join(map(str, args[:3]))} …: {done.stderr.strip()[-2000:]}")
        return done.stdout.strip()

    def run(self, *args: str | Path, timeout: float | None = None) -> subprocess.CompletedProcess[str]:
        """Runs one command; the caller judges the outcome."""
        argv = [self.client, *map(str, args)]
        return subprocess.run(
            argv, env=self.env, capture_output=True, text=True, check=False, timeout=timeout
        )

    def has(self, kind: str, name: str) -> bool:
        """Whether a container, image, network or volume exists."""
        return self.run(kind, "inspect", name).returncode == 0

    def ids(self, kind: str, label: str) -> list[str]:
        """Containers (`container`) or networks (`network`) with a label."""
        everything = ["--all"] if kind == "container" else []
        return self(kind, "ls", "--quiet", "--no-trunc", *everything, "--filter", f"label={label}").split()


def answers(host: str) -> bool:
    """Whether an engine answers at this address, without any client installed."""
    try:
        with _connect(host) as connection:
            connection.settimeout(3)
            connection.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
            return b" 200 " in connection.recv(64)
    except OSError:
        return False


def may_connect(host: str) -> bool:
    """False only where the socket is there and this user is not let in."""
    try:
        _connect(host).close()
    except PermissionError:
        return False
    except OSError:
        return True
    return True


def _connect(host: str) -> socket.socket:
    scheme, _, address = host.partition("://")
    if scheme == "unix":
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(3)
        connection.connect(address)
        return connection
    name, _, port = address.rstrip("/").rpartition(":")
    return socket.create_connection((name, int(port)), timeout=3)
