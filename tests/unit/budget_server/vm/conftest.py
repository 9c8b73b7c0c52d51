"""A VM's surroundings on loopback: metadata server and bucket in this process; the rest of a VM is real."""

import base64
import contextlib
import hashlib
import io
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qs, unquote, urlsplit

import httpx
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from localcloud.ports import free_port
from localcloud.services.storage.blobs import crc32c, md5

T = TypeVar("T")
KEY = bytes(range(32))
TOKEN = "static-token-of-the-user"
PREDICTOR = """
import os
class Predictor:
    def load(self): self.says = {says!r}
    def predict(self, request):
        return {{"says": self.says, "x": request.payload["x"], "env": os.environ["X"]}}
"""


def wait_until(
    what: Callable[[], T | None], seconds: float = 60, otherwise: Callable[[], str] = lambda: "not in time"
) -> T:
    """The first true value of `what`; failing that, what `otherwise` tells."""
    deadline = time.monotonic() + seconds
    while not (value := what()):
        assert time.monotonic() < deadline, otherwise()
        time.sleep(0.02)
    return value


def listens(port: int) -> bool:
    """Whether a connection to this port is accepted."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True


@dataclass
class Surroundings:
    """What metadata and bucket hold; `port` serves both, as the local cloud does."""

    attributes: dict[str, str] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    guest: dict[str, str] = field(default_factory=dict)
    states: list[dict[str, Any]] = field(default_factory=list)
    authorizations: list[str] = field(default_factory=list)
    #: Answers 503 to this many requests, then answers again.
    outages: int = 0
    #: Google has given notice.
    preempted: bool = False
    port: int = 0
    #: The bucket takes and gives nothing below `state/`.
    state_closed: bool = False
    external_ip: str = "127.0.0.1"
    changed: threading.Condition = field(default_factory=threading.Condition)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def state(self) -> dict[str, Any]:
        return self.states[-1] if self.states else {}

    def set_attribute(self, name: str, value: str) -> None:
        with self.changed:
            self.attributes[name] = value
            self.changed.notify_all()

    def preempt(self) -> None:
        """Google gives notice."""
        with self.changed:
            self.preempted = True
            self.changed.notify_all()

    def value(self, path: str) -> str | None:
        """What metadata has at a path that can be waited for."""
        if path == "preempted":
            return str(self.preempted).upper()
        return self.attributes.get(path.removeprefix("attributes/"))

    def publish(
        self,
        revision: str,
        code: dict[str, str],
        manifest: dict[str, Any] | None = None,
        env: dict[str, str] | None = None,
        **config: Any,
    ) -> dict[str, Any]:
        """Upload a revision and name it in metadata, as the operator does."""
        files = {f"code/{name}": text for name, text in code.items()}
        content = {
            "version": 1,
            "deployment": "team/demo",
            "entrypoint": "predictor:Predictor",
            "requirements": [],
            "readiness": {"payload": {"x": 1}, "startupSeconds": 30},
            "server": {"workers": 1, "threads": 2},
            "tokenTTLSeconds": 600,
            **(manifest or {}),
        }
        bundle = make_zip({"manifest.json": json.dumps(content), **files})
        sealed = seal(env or {"X": "y"}, f"budget-demo/{revision}")
        prefix = f"code/budget-demo/{revision}"
        self.objects |= {f"{prefix}/bundle.zip": bundle, f"{prefix}/secrets.sealed": sealed}
        document = {
            "version": 1,
            "image": "registry.test/server:1",
            "deployment": "budget-demo",
            "revision": revision,
            "bucket": "b",
            "bundle": f"{prefix}/bundle.zip",
            "bundleSha256": hashlib.sha256(bundle).hexdigest(),
            "sealed": f"{prefix}/secrets.sealed",
            "sealedSha256": hashlib.sha256(sealed).hexdigest(),
            "apiEndpoint": self.endpoint,
            **config,
        }
        self.set_attribute("budget-config", json.dumps(document, separators=(",", ":")))
        return document

    def await_state(self, seconds: float = 60, **wanted: Any) -> dict[str, Any]:
        """The next reported state with these fields."""

        def match() -> dict[str, Any] | None:
            return next((s for s in reversed(self.states) if wanted.items() <= s.items()), None)

        return wait_until(match, seconds, lambda: f"last states: {self.states[-5:]}")


def make_zip(files: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return buffer.getvalue()


def seal(env: dict[str, str], context: str, key: bytes = KEY) -> bytes:
    plain = {"username": "me", "password": "hunter22", "token": TOKEN, "env": env}
    derived = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"budgetml/seal/v1").derive(key)
    nonce = os.urandom(12)
    return nonce + AESGCM(derived).encrypt(nonce, json.dumps(plain).encode(), context.encode())


class QuietServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A VM that loses power leaves broken connections behind."""


def make_handler(world: Surroundings) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            """Quiet."""

        def answer(self, status: int, body: bytes, **headers: str) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            if world.outages:
                world.outages -= 1
                return self.answer(503, b"")
            url = urlsplit(self.path)
            if url.path.startswith("/storage/v1/b/b/o/"):
                world.authorizations.append(self.headers.get("Authorization", ""))
                if world.state_closed and "/state%2F" in url.path:
                    return self.answer(503, b"")
                found = world.objects.get(unquote(url.path.removeprefix("/storage/v1/b/b/o/")))
                if found is None:
                    return self.answer(404, b"")
                sums = f"crc32c={crc32c(found)},md5={md5(found)}"
                return self.answer(200, found, **{"x-goog-hash": sums})
            if self.headers.get("Metadata-Flavor") != "Google":
                return self.answer(403, b"")
            return self.metadata(url.path.removeprefix("/computeMetadata/v1/instance/"), parse_qs(url.query))

        def metadata(self, path: str, query: dict[str, list[str]]) -> None:
            if path.endswith("external-ip"):
                return self.answer(200, world.external_ip.encode())
            if path == "service-accounts/default/token":
                return self.answer(200, b'{"access_token": "vm-token", "expires_in": 3599}')
            with world.changed:
                if query.get("wait_for_change") == ["true"]:
                    seconds = float(query["timeout_sec"][0])
                    world.changed.wait_for(lambda: etag(world.value(path)) != query["last_etag"][0], seconds)
                value = world.value(path)
            if value is None:
                return self.answer(404, b"")
            return self.answer(200, value.encode(), ETag=etag(value))

        def do_POST(self) -> None:
            url, body = urlsplit(self.path), self.rfile.read(int(self.headers["Content-Length"]))
            world.authorizations.append(self.headers.get("Authorization", ""))
            if world.state_closed:
                return self.answer(503, b"")
            if url.path != "/upload/storage/v1/b/b/o":
                return self.answer(404, b"")
            world.objects[parse_qs(url.query)["name"][0]] = body
            return self.answer(200, b"{}")

        def do_PUT(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            if world.outages:
                world.outages -= 1
                return self.answer(503, b"")
            name = self.path.removeprefix("/computeMetadata/v1/instance/guest-attributes/budgetml/")
            world.guest[name] = body
            if name == "state":
                world.states.append(json.loads(body))
            return self.answer(200, b"")

    return Handler


def etag(value: str | None) -> str:
    return hashlib.sha256((value or "").encode()).hexdigest()[:16]


@pytest.fixture
def world() -> Iterator[Surroundings]:
    """Metadata server and bucket, empty but for the deployment's key."""
    surroundings = Surroundings()
    server = QuietServer(("127.0.0.1", 0), make_handler(surroundings))
    surroundings.port = server.server_address[1]
    surroundings.attributes["budget-key"] = base64.b64encode(KEY).decode()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield surroundings
    server.shutdown()
    server.server_close()


class Vm:
    """Process 1 as the container starts it, on a disk and ports of its own."""

    def __init__(self, world: Surroundings, disk: Path, run: Path) -> None:
        self.world = world
        self.disk = disk
        self.run = run
        self.https, self.http = free_port(), free_port()
        self.process: subprocess.Popen[bytes] | None = None
        #: Put before the command that starts process 1.
        self.within: tuple[str, ...] = ()
        self.output = disk.parent / "output"
        self.started = 0.0
        self.environ: dict[str, str] = {}

    def boot(self) -> "Vm":
        environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith("BUDGET_")},
            "GCE_METADATA_HOST": f"127.0.0.1:{self.world.port}",
            "BUDGET_STATE_DIR": str(self.disk),
            "BUDGET_RUN_DIR": str(self.run),
            "BUDGET_HTTPS_PORT": str(self.https),
            "BUDGET_HTTP_PORT": str(self.http),
            "BUDGET_PREDICTOR_USER": "",
            "BUDGET_BOOT_ENGINE": "1.25",
            "BUDGET_BOOT_PULL": "7.5",
            **self.environ,
        }
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            [*self.within, sys.executable, "-m", "budget_server.vm"],
            env=environ,
            stdout=self.output.open("ab"),
            stderr=subprocess.STDOUT,
        )
        return self

    def shut_down(self) -> tuple[int, float]:
        """Soft-off; exit code and seconds."""
        assert self.process
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(27), time.monotonic() - began

    def cut_power(self) -> None:
        """End everything at once."""
        if self.process is None or self.process.poll() is not None:
            return
        children = self.children("")
        self.process.kill()
        self.process.wait()
        for pid in children:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
        # else the next boot's callers may meet this one's Caddy
        wait_until(lambda: not any(map(listens, (self.https, self.http))))

    def client(self) -> httpx.Client:
        """A caller who trusts nothing but the published root."""
        wait_until(lambda: self.world.guest.get("ca"))
        # Caddy has its root before it listens.
        wait_until(lambda: all(map(listens, (self.https, self.http))))
        context = ssl.create_default_context(cadata=self.world.guest["ca"])
        return httpx.Client(base_url=f"https://127.0.0.1:{self.https}", verify=context, timeout=20)

    def predict(self, client: httpx.Client, x: int = 1) -> httpx.Response:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        return client.post("/predict_dict", json={"payload": {"x": x}}, headers=headers)

    def children(self, name: str) -> list[int]:
        """Direct children of process 1 whose command line holds `name`."""
        assert self.process
        found = []
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                parent = int(path.read_text().rpartition(")")[2].split()[1])
                command = (path.parent / "cmdline").read_text()
            except OSError:
                continue
            if parent == self.process.pid and name in command:
                found.append(int(path.parent.name))
        return found


@pytest.fixture
def vm(world: Surroundings, tmp_path: Path) -> Iterator[Vm]:
    """A VM that is off; whatever still runs is ended after the test."""
    run = Path(tempfile.mkdtemp(prefix="vm-", dir="/tmp"))  # socket paths must be short
    machine = Vm(world, tmp_path / "disk", run)
    yield machine
    machine.cut_power()
    print(machine.output.read_text() if machine.output.exists() else "never booted")
    shutil.rmtree(run, ignore_errors=True)


@pytest.fixture
def predictor() -> Callable[[str], dict[str, str]]:
    """The code of a predictor that says this."""
    return lambda says: {"predictor.py": PREDICTOR.format(says=says)}


@pytest.fixture(scope="session")
def until() -> Callable[..., Any]:
    """Wait for the first true value."""
    return wait_until
