"""The stand-in: its decisions with a clock of our own, then in a real gunicorn worker."""

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from budget_server import standin
from budget_server.standin import MOST_ADOPTED, MOST_HELD, Request, StandIn, parse

LIVE = b"GET /healthz/live HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /predict_dict HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"


class Scene:
    """A stand-in on a listener, its worker's state, and a clock that only a look moves."""

    def __init__(self, listener: socket.socket) -> None:
        self.listener = listener
        self.now = 100.0
        self.beat = 100.0
        self.loading = False
        self.alone = True
        self.adopted: list[socket.socket] = []
        self.clients: list[socket.socket] = []
        self.stand_in = StandIn(
            [listener],
            lambda: self.beat,
            lambda: self.loading,
            lambda: self.alone,
            self.adopted.append,
            lambda: self.now,
        )

    def connect(self, sent: bytes) -> socket.socket:
        family = self.listener.family
        client = socket.socket(family, socket.SOCK_STREAM)
        client.settimeout(5)
        client.connect(self.listener.getsockname())
        client.sendall(sent)
        self.clients.append(client)
        return client

    def pass_time(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            self.now += 0.02
            self.stand_in.look()

    def pending(self) -> bool:
        try:
            self.listener.accept()[0].close()
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        for each in [*self.clients, *self.adopted]:
            each.close()
        self.stand_in._stopped.set()
        for held in self.stand_in._held:
            held.connection.close()


@pytest.fixture(params=["tcp", "unix"])
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Scene]:
    if request.param == "tcp":
        listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    else:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(tmp_path / "s"))
        listener.listen(2048)
    listener.setblocking(False)
    made = Scene(listener)
    yield made
    made.close()
    listener.close()


def said(client: socket.socket) -> tuple[int, dict[str, str], dict[str, str]]:
    data = b""
    while piece := client.recv(65536):
        data += piece
    head, _, body = data.decode().partition("\r\n\r\n")
    first, *lines = head.split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    return int(first.split()[1]), headers, json.loads(body) if body else {}


def silent(client: socket.socket) -> bool:
    client.setblocking(False)
    try:
        client.recv(1)
    except BlockingIOError:
        return True
    finally:
        client.settimeout(5)
    return False


def test_while_the_loop_beats_nothing_is_touched(scene: Scene) -> None:
    client = scene.connect(LIVE)
    for _ in range(100):
        scene.beat = scene.now
        scene.pass_time(0.04)
    assert silent(client)
    assert scene.pending()


def test_a_stalled_loop_is_stood_in_for_after_others_had_their_chance(scene: Scene) -> None:
    client = scene.connect(LIVE)
    scene.pass_time(0.38)
    assert silent(client)
    scene.pass_time(0.08)
    status, headers, body = said(client)
    assert (status, body) == (200, {"status": "alive"})
    assert headers["connection"] == "close"


def test_what_other_workers_take_in_time_is_theirs(scene: Scene) -> None:
    scene.pass_time(1)
    for _ in range(20):
        client = scene.connect(LIVE)
        scene.pass_time(0.06)
        assert silent(client)
        assert scene.pending()  # taken here, as another worker would
        scene.pass_time(0.02)


def test_while_loading_only_if_no_other_worker_serves(scene: Scene) -> None:
    scene.loading, scene.alone = True, False
    client = scene.connect(LIVE)
    scene.pass_time(3)
    assert silent(client)
    scene.alone = True
    scene.pass_time(0.06)
    assert said(client)[0] == 200


@pytest.mark.parametrize(
    ("request_line", "status", "body"),
    [
        ("GET /healthz/live", 200, {"status": "alive"}),
        ("GET /healthz/live/?x=1", 200, {"status": "alive"}),
        ("HEAD /healthz/live", 200, {}),
        ("GET /healthz/ready/", 503, {"status": "loading", "code": "NotReady", "detail": standin.LOADING}),
        ("HEAD /healthz/ready", 503, {}),
        ("GET /healthz/livex", 503, {"code": "NotReady", "detail": standin.LOADING}),
        ("POST /healthz/live", 503, {"code": "NotReady", "detail": standin.LOADING}),
        ("POST /predict", 503, {"code": "NotReady", "detail": standin.LOADING}),
    ],
)
def test_answers_while_loading(scene: Scene, request_line: str, status: int, body: dict[str, str]) -> None:
    scene.loading = True
    client = scene.connect(f"{request_line} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    scene.pass_time(0.06)
    answered, headers, content = said(client)
    assert (answered, content) == (status, body)
    assert headers.get("retry-after") == ("5" if status == 503 else None)
    assert headers["content-length"] != "0"


def test_readiness_while_busy(scene: Scene) -> None:
    client = scene.connect(b"GET /healthz/ready HTTP/1.1\r\nHost: x\r\n\r\n")
    scene.pass_time(0.5)
    status, headers, body = said(client)
    assert status == 503
    assert body == {"status": "busy", "code": "NotReady", "detail": standin.BUSY}
    assert headers["retry-after"] == "1"


def test_a_prediction_is_left_unread_to_the_loop(scene: Scene) -> None:
    client = scene.connect(POST)
    scene.pass_time(0.5)
    assert silent(client)
    assert [each.recv(1000) for each in scene.adopted] == [POST]


def test_more_than_may_wait_are_told_to_come_later(scene: Scene) -> None:
    clients = [scene.connect(POST) for _ in range(MOST_ADOPTED + 10)]
    scene.pass_time(2)
    assert len(scene.adopted) == MOST_ADOPTED
    for client in clients[MOST_ADOPTED:]:
        status, headers, body = said(client)
        assert (status, body["code"], headers["retry-after"]) == (503, "NotReady", "1")
    live = scene.connect(LIVE)
    scene.pass_time(0.2)
    assert said(live)[0] == 200


def test_slow_clients_hold_up_nobody(scene: Scene) -> None:
    scene.loading = True
    for index in range(2 * MOST_HELD):
        scene.connect(LIVE[: index % 20])
    client = scene.connect(LIVE)
    scene.pass_time(0.3)
    assert said(client)[0] == 200
    scene.pass_time(standin.HEAD_SECONDS + standin.LINGER_SECONDS + 0.1)
    assert not scene.stand_in._held


def test_a_head_in_two_pieces(scene: Scene) -> None:
    scene.pass_time(0.5)
    client = scene.connect(LIVE[:7])
    scene.pass_time(0.5)
    assert silent(client)
    client.sendall(LIVE[7:])
    scene.pass_time(0.04)
    assert said(client)[2] == {"status": "alive"}
    assert not scene.adopted


def test_an_endless_head_is_answered_as_it_is(scene: Scene) -> None:
    scene.loading = True
    client = scene.connect(b"GET /healthz/live HTTP/1.1\r\nX: " + b"y" * standin.HEAD_BYTES)
    scene.pass_time(0.06)
    assert said(client)[0] == 200


def test_what_is_in_hand_goes_to_the_loop_when_it_moves_again(scene: Scene) -> None:
    scene.pass_time(0.5)
    scene.connect(b"GET /heal")
    scene.pass_time(0.2)
    assert not scene.adopted
    scene.beat = scene.now
    scene.pass_time(0.04)
    assert [each.recv(1000) for each in scene.adopted] == [b"GET /heal"]


def test_a_large_body_is_read_so_that_the_answer_arrives(scene: Scene) -> None:
    scene.loading = True
    client = scene.connect(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 8000000\r\n\r\n")
    with ThreadPoolExecutor() as pool:
        sending = pool.submit(client.sendall, b"x" * 8_000_000)
        deadline = time.monotonic() + 5
        while not sending.done() and time.monotonic() < deadline:
            scene.pass_time(0.02)
            scene.now -= 0.02  # however slow this machine is
        sending.result(1)
    assert said(client)[0] == 503


def test_a_long_stall_is_logged_once_when_it_is_over(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("budget_server").propagate = True
    scene.pass_time(5)
    assert not caplog.records
    scene.beat = scene.now
    scene.pass_time(0.2)
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "stood still for 5.0 s" in record.getMessage()
    scene.pass_time(0.5)
    scene.beat = scene.now
    scene.pass_time(0.1)
    assert len(caplog.records) == 1  # half a second is not worth a line


def test_closed_listeners_are_passed_over(scene: Scene) -> None:
    scene.listener.close()
    scene.loading = True
    scene.pass_time(0.1)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", None),
        (b"GET /healthz/live", None),
        (b"GET /healthz/live HTTP/1.1", Request("GET", "/healthz/live", False)),
        (b"GET /healthz/live/ HTTP/1.1\n\n", Request("GET", "/healthz/live", True)),
        (b"\r\nHEAD / HTTP/1.0\r\n\r\n", Request("HEAD", "/", True)),
        (b"GET http://a:80/healthz/live#x HTTP/1.1\r\n\r\n", Request("GET", "/healthz/live", True)),
        (b"\x16\x03\x01", None),
    ],
)
def test_parse(data: bytes, expected: Request | None) -> None:
    assert parse(data) == expected


WIRING = """
    import asyncio, time
    from uvicorn import Server
    from uvicorn_worker import UvicornWorker
    from budget_server.standin import standing_in

    loaded = False

    class Wired(UvicornWorker):
        CONFIG_KWARGS = {"loop": "uvloop", "http": "httptools", "lifespan": "on"}

        async def _serve(self):
            self.config.app = self.wsgi
            server = Server(self.config)
            with standing_in(server, self.sockets, lambda: not loaded, lambda: True):
                await server.serve(sockets=self.sockets)

    async def app(scope, receive, send):
        global loaded
        if scope["type"] == "lifespan":
            await receive()
            await asyncio.to_thread(time.sleep, 2)
            loaded = True
            await send({"type": "lifespan.startup.complete"})
            await receive()
            return await send({"type": "lifespan.shutdown.complete"})
        body = b""
        while (message := await receive()).get("more_body"):
            body += message["body"]
        body += message["body"]
        if scope["path"] == "/predict":
            time.sleep(3)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"loop:%d" % len(body)})
"""


@pytest.fixture(params=["tcp", "unix"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], httpx.Client]]:
    """A function that makes a client with a connection of its own."""
    (tmp_path / "wiring.py").write_text(textwrap.dedent(WIRING))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    path = tmp_path / "sock"
    bind = f"127.0.0.1:{port}" if request.param == "tcp" else f"unix:{path}"
    command = [sys.executable, "-m", "gunicorn", "-k", "wiring.Wired", "-b", bind, "--timeout=0"]
    log = (tmp_path / "log").open("w")
    process = subprocess.Popen(
        [*command, "--no-control-socket", "wiring:app"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        stdout=log,
        stderr=log,
    )

    def client() -> httpx.Client:
        transport = httpx.HTTPTransport(uds=str(path)) if request.param == "unix" else None
        return httpx.Client(transport=transport, base_url=f"http://127.0.0.1:{port}", timeout=30)

    client.process = process  # type: ignore[attr-defined]
    yield client
    process.send_signal(signal.SIGTERM)
    assert process.wait(15) == 0
    log.close()
    assert "Traceback" not in (tmp_path / "log").read_text()


def asked(client: httpx.Client, path: str) -> tuple[Any, float]:
    began = time.monotonic()
    with client:
        answer = client.get(path)
    return (answer.status_code, answer.text), time.monotonic() - began


def test_in_a_real_worker(server: Callable[[], httpx.Client], tmp_path: Path) -> None:
    _while_loading(server, tmp_path / "log")
    _while_blocked(server)
    assert asked(server(), "/healthz/live")[0] == (200, "loop:0")
    assert "stood still for" in (tmp_path / "log").read_text()


def _while_loading(server: Callable[[], httpx.Client], log: Path) -> None:
    deadline = time.monotonic() + 20
    while "Waiting for application startup" not in log.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert asked(server(), "/healthz/ready")[0][0] == 503
    with server() as client:
        assert client.post("/predict", content=b"x" * 1_000_000).status_code == 503
    answers = [asked(server(), "/healthz/live")]
    assert answers[0][0] == (200, '{"status":"alive"}')
    while answers[-1][0] != (200, "loop:0"):
        assert time.monotonic() < deadline
        answers.append(asked(server(), "/healthz/live"))
    assert {answer[0] for answer, _seconds in answers} == {200}
    assert max(seconds for _answer, seconds in answers) < 1


def _while_blocked(server: Callable[[], httpx.Client]) -> None:
    with ThreadPoolExecutor() as pool:
        first = pool.submit(server().post, "/predict", content=b"x" * 1000)
        time.sleep(0.2)
        others = [pool.submit(server().post, "/other", content=b"x" * 200_000) for _ in range(5)]
        began, answers = time.monotonic(), []
        while not first.done():
            answers.append(asked(server(), "/healthz/live"))
        assert time.monotonic() - began > 2
        assert first.result().text == "loop:1000"
        assert [other.result().text for other in others] == ["loop:200000"] * 5
    assert max(seconds for _answer, seconds in answers) < 1
    assert answers[0][0] == (200, '{"status":"alive"}')


def test_what_waits_for_a_blocked_loop_is_served_before_the_worker_ends(server: Any, tmp_path: Path) -> None:
    _while_loading(server, tmp_path / "log")
    with ThreadPoolExecutor() as pool:
        first = pool.submit(server().post, "/predict")
        time.sleep(0.2)
        others = [pool.submit(server().post, "/other", content=b"x" * 200_000) for _ in range(5)]
        time.sleep(0.7)
        server.process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        assert first.result().text == "loop:0"
        assert [other.result().text for other in others] == ["loop:200000"] * 5
        assert server.process.wait(15) == 0
        assert time.monotonic() - began < 6


def test_the_thread_stops(scene: Scene) -> None:
    scene.stand_in.start()
    scene.stand_in.stop()
    assert not any(thread.name == "stand-in" for thread in threading.enumerate())
