"""The front door with real Caddy, before a stand-in for the web side. (`test_main` runs all of process 1.)"""

import contextlib
import json
import os
import shutil
import socket
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingUnixStreamServer
from typing import Any

import httpx
import pytest

from budget_server.vm import frontdoor_configuration
from budget_server.vm.frontdoor import FAILED, LOADING, FrontDoor
from budget_server.vm.frontdoor_configuration import UNREACHABLE, Layout
from budget_server.vm.settings import Settings
from localcloud.ports import free_port

MIB = 2**20
HEADER_SECONDS = 2


class WebSide(ThreadingUnixStreamServer):
    """Tells which headers it was given; /refuse answers before the body, /drop not at all."""

    daemon_threads = True

    def __init__(self, path: Path) -> None:
        self.begun = threading.Event()
        super().__init__(str(path), Handler)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: WebSide

    def address_string(self) -> str:
        return "a Unix socket has none"

    def log_message(self, *_: Any) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        self._answer(200, {"headers": self.headers.items()})

    def do_POST(self) -> None:
        if self.path == "/drop":
            self.close_connection = True
            return
        if self.path == "/refuse":
            self._answer(413, {"code": "BodyTooLarge"})
        length, taken = int(self.headers["Content-Length"]), 0
        while taken < length and (piece := self.rfile.read1(MIB)):
            taken += len(piece)
            self.server.begun.set()
        if self.path != "/refuse":
            self._answer(200, {"taken": taken})

    def _answer(self, status: int, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@dataclass
class Entrance:
    """A front door on loopback, and how to reach it."""

    door: FrontDoor
    https: int
    http: int
    context: ssl.SSLContext
    place: Path
    opened: list[WebSide] = field(default_factory=list)

    def client(self, *, source: str = "127.0.0.1") -> httpx.Client:
        transport = httpx.HTTPTransport(verify=self.context, local_address=source)
        return httpx.Client(transport=transport, base_url=f"https://127.0.0.1:{self.https}", timeout=20)

    def connect(self) -> ssl.SSLSocket:
        plain = socket.create_connection(("127.0.0.1", self.https), timeout=20)
        return self.context.wrap_socket(plain, server_hostname="127.0.0.1")

    def serve(self) -> WebSide:
        """From now on a web side answers."""
        # as each generation has a place of its own: Caddy keeps connections to the last one
        path = self.place / f"{time.monotonic_ns()}.sock"
        web = WebSide(path)
        threading.Thread(target=web.serve_forever, args=(0.02,), daemon=True).start()
        self.opened.append(web)
        self.door.switch(path)
        return web


@pytest.fixture(scope="module")
def caddy(tmp_path_factory: pytest.TempPathFactory, until: Callable[..., Any]) -> Iterator[Entrance]:
    """One Caddy for all tests of this module."""
    place = Path(tempfile.mkdtemp(prefix="door-", dir="/tmp"))  # socket paths must be short
    https, http = free_port(), free_port()
    settings = Settings(
        state_dir=tmp_path_factory.mktemp("state"), run_dir=place, https_port=https, http_port=http
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frontdoor_configuration, "HEADER_SECONDS", HEADER_SECONDS)
        door = FrontDoor(settings, os.environ)
        door.start(Layout("127.0.0.1"))
    try:
        root = door.certificate_authority()
        assert root
        entrance = Entrance(door, https, http, ssl.create_default_context(cadata=root), place)
        until(lambda: answers(entrance))
        yield entrance
    finally:
        door.stop(10)
        shutil.rmtree(place, ignore_errors=True)


@pytest.fixture
def entrance(caddy: Entrance) -> Iterator[Entrance]:
    """While the model loads."""
    caddy.door.notice(LOADING)
    caddy.door.switch(None)
    yield caddy
    for web in caddy.opened:
        web.shutdown()
        web.server_close()
    caddy.opened.clear()


def answers(entrance: Entrance) -> bool:
    with contextlib.suppress(httpx.HTTPError), entrance.client() as client:
        return bool(client.get("/").status_code)
    return False


@pytest.mark.parametrize("path", ["/healthz/live", "/healthz/live/", "/healthz/live?x=1"])
@pytest.mark.parametrize("state", ["loading", "serving", "dead"])
def test_whether_the_vm_lives_does_not_depend_on_the_web_side(
    entrance: Entrance, path: str, state: str
) -> None:
    if state == "serving":
        entrance.serve()
    elif state == "dead":
        entrance.door.switch(entrance.place / "nobody.sock")
    with entrance.client() as client:
        answer, head = client.get(path), client.head(path)
    assert (answer.status_code, answer.json()) == (200, {"status": "alive"})
    assert answer.headers["content-type"] == "application/json"
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == answer.headers["content-length"]


def test_only_reading_the_liveness_is_answered_here(entrance: Entrance) -> None:
    with entrance.client() as client:
        assert client.post("/healthz/live").status_code == 503
        assert client.get("/healthz/livex").status_code == 503
        assert client.get("/healthz/ready").status_code == 503
        entrance.serve()
        assert client.post("/healthz/live", content=b"x").json() == {"taken": 1}


@pytest.mark.parametrize("detail", [LOADING, FAILED, 'with "quotes", {braces} and \\'])
def test_while_nothing_serves_callers_are_told_why(entrance: Entrance, detail: str) -> None:
    entrance.door.notice(detail)
    with entrance.client() as client:
        answers = [client.get("/"), client.post("/predict_dict", json={}), client.get("/v2x")]
        of_v2 = [client.get("/v2"), client.post("/v2/models/demo/infer", json={})]
    for answer in answers + of_v2:
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "5"
        assert answer.headers["content-type"] == "application/json"
    for answer in answers:
        assert answer.json() == {"code": "NotReady", "detail": detail}
    for answer in of_v2:
        assert answer.json() == {"code": "NotReady", "detail": detail, "error": detail}


def test_a_web_side_that_drops_the_request_is_told_in_the_same_shape(entrance: Entrance) -> None:
    entrance.door.notice(FAILED)  # of an earlier revision, perhaps
    entrance.serve()
    with entrance.client() as client:
        answer = client.post("/drop")
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "5"
    assert answer.json() == {"code": "NotReady", "detail": UNREACHABLE}


@pytest.mark.parametrize(
    "given",
    [
        [],
        [("X-Forwarded-For", "203.0.113.9")],
        [("x-forwarded-for", "203.0.113.9, 203.0.113.10"), ("X-FORWARDED-FOR", "203.0.113.11")],
        [("X-Forwarded-For", ""), ("X-Forwarded-Host", "evil.example"), ("X-Forwarded-Proto", "ftp")],
    ],
)
def test_the_web_side_learns_the_callers_address_from_nobody_else(
    entrance: Entrance, given: list[tuple[str, str]]
) -> None:
    entrance.serve()
    with entrance.client(source="127.0.0.2") as client:
        answer = client.get("/", headers=given)
    seen = [(name.lower(), value) for name, value in answer.json()["headers"]]
    told = [(name, value) for name, value in seen if name.startswith("x-forwarded-")]
    assert sorted(told) == [
        ("x-forwarded-for", "127.0.0.2"),
        ("x-forwarded-host", f"127.0.0.1:{entrance.https}"),
        ("x-forwarded-proto", "https"),
    ]


def test_a_caller_cannot_have_its_address_removed(entrance: Entrance) -> None:
    """By naming the header as one of this connection alone, which proxies take away."""
    entrance.serve()
    headers = {"Connection": "close, X-Forwarded-For", "X-Forwarded-For": "203.0.113.9"}
    with entrance.client(source="127.0.0.2") as client:
        seen = client.get("/", headers=headers).json()["headers"]
    assert [value for name, value in seen if name.lower() == "x-forwarded-for"] == ["127.0.0.2"]


def test_a_body_is_passed_on_as_it_comes(entrance: Entrance) -> None:
    web = entrance.serve()
    with entrance.connect() as caller:
        caller.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (2 * MIB) + bytes(MIB))
        assert web.begun.wait(10), "nothing came before the body was complete"
        caller.sendall(bytes(MIB))
        assert caller.recv(12) == b"HTTP/1.1 200"


def test_a_body_has_no_limit_here_and_the_refusal_of_one_comes_through(entrance: Entrance) -> None:
    entrance.serve()
    body = bytes(40 * MIB)
    with entrance.client() as client:
        assert client.post("/", content=body).json() == {"taken": len(body)}
        answer = client.post("/refuse", content=body)
    assert (answer.status_code, answer.json()) == (413, {"code": "BodyTooLarge"})


def slow_head(entrance: Entrance) -> socket.socket:
    caller = entrance.connect()
    caller.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n")
    return caller


def slow_plain_head(entrance: Entrance) -> socket.socket:
    caller = socket.create_connection(("127.0.0.1", entrance.http), timeout=20)
    caller.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n")
    return caller


def silent(entrance: Entrance) -> socket.socket:
    return socket.create_connection(("127.0.0.1", entrance.https), timeout=20)


@pytest.mark.parametrize("connect", [slow_head, slow_plain_head, silent])
def test_who_never_ends_the_head_of_a_request_is_hung_up_on(
    entrance: Entrance, connect: Callable[[Entrance], socket.socket]
) -> None:
    with connect(entrance) as caller:
        began = time.monotonic()
        assert caller.recv(1) == b""
        seconds = time.monotonic() - began
    assert HEADER_SECONDS / 2 < seconds < HEADER_SECONDS + 5
