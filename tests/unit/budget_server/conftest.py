"""A deployment's environment; a client of the application around any predictor source; gunicorn itself."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from fastapi.testclient import TestClient

from budget_server.app import create_app
from budget_server.settings import Settings
from localcloud.ports import free_port

Serve = Callable[..., TestClient]
KEY = "ab" * 32
TOKEN = "static-token"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    code = tmp_path / "code"
    code.mkdir()
    return {
        "BUDGET_USERNAME": "u",
        "BUDGET_PWD": "p£ss-wörd-✓",
        "BUDGET_TOKEN": TOKEN,
        "BUDGET_SIGNING_KEY": KEY,
        "BUDGET_TOKEN_TTL": "3600",
        "BUDGET_NAME": "default/iris",
        "BUDGET_REVISION": "0123456789ab",
        "BUDGET_ENTRYPOINT": "predictor:Predictor",
        "BUDGET_CODE_DIR": str(code),
        "BUDGET_FAILURE_FILE": str(tmp_path / "failure.json"),
    }


@pytest.fixture(autouse=True)
def _fresh_modules() -> Iterator[None]:
    """Each test's `predictor` module is its own, and leaves nothing in __main__."""
    path, main = list(sys.path), dict(vars(sys.modules["__main__"]))
    yield
    sys.path[:] = path
    sys.modules.pop("predictor", None)
    vars(sys.modules["__main__"]).clear()
    vars(sys.modules["__main__"]).update(main)


@pytest.fixture
def write_predictor(environment: dict[str, str]) -> Callable[[str], Path]:
    def write(source: str) -> Path:
        file = Path(environment["BUDGET_CODE_DIR"]) / "predictor.py"
        file.write_text(textwrap.dedent(source), encoding="utf-8")
        return file

    return write


@pytest.fixture
def serve(environment: dict[str, str], write_predictor: Callable[[str], Path]) -> Iterator[Serve]:
    """serve(source, NAME=value…) -> a client of the loaded application, logged in unless told otherwise."""
    with ExitStack() as stack:

        def start(
            source: str, *, login: bool = True, now: Callable[[], float] | None = None, **env: str
        ) -> TestClient:
            write_predictor(source)
            settings = Settings.from_environment(environment | env)
            app = create_app(settings, now) if now else create_app(settings)
            client = TestClient(app, follow_redirects=False, raise_server_exceptions=False)
            if login:
                client.headers["Authorization"] = f"Bearer {TOKEN}"
            return stack.enter_context(client)

        yield start


class Server:
    """A gunicorn, its unix socket and TCP port, and what it said."""

    def __init__(self, process: subprocess.Popen[str], folder: Path, port: int) -> None:
        self.process = process
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.socket = folder / "web.sock"
        self.log = folder / "log"
        self.client = httpx.Client(
            transport=httpx.HTTPTransport(uds=str(self.socket)), base_url="http://web", timeout=20
        )

    def until(self, what: str, reached: Callable[[], bool], seconds: float = 20) -> None:
        deadline = time.monotonic() + seconds
        while not reached():
            if time.monotonic() > deadline or self.process.poll() is not None:
                pytest.fail(f"no {what}; log:\n{self.log.read_text()}")
            time.sleep(0.02)

    def ready(self) -> bool:
        try:
            return self.socket.exists() and self.client.get("/healthz/ready").status_code == 200
        except httpx.TransportError:
            return False

    def ended(self, seconds: float) -> int:
        return self.process.wait(seconds)


@pytest.fixture
def start(
    environment: dict[str, str], write_predictor: Callable[[str], Path], tmp_path: Path
) -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def begin(source: str, **env: str) -> Server:
        write_predictor(source)
        port = free_port()
        command = [sys.executable, "-m", "gunicorn", "-c", "python:budget_server.gunicorn_conf"]
        command += ["budget_server.app:app", f"--bind=unix:{tmp_path / 'web.sock'}"]
        command += [f"--bind=127.0.0.1:{port}"]
        home = tmp_path / "home"
        home.mkdir()
        with (tmp_path / "log").open("w") as log:
            process = subprocess.Popen(
                command,
                cwd=tmp_path,
                env={**os.environ, "HOME": str(home), **environment, **env},
                stdout=log,
                stderr=subprocess.STDOUT,
                text=True,
            )
        servers.append(Server(process, tmp_path, port))
        return servers[-1]

    yield begin
    for server in servers:
        server.client.close()
        if server.process.poll() is None:
            server.process.send_signal(signal.SIGTERM)
            server.process.wait(10)
