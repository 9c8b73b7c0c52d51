"""The stand-in's decisions, with a clock of our own. (`test_listening` has it in real workers.)"""

import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from budget_server import standin
from budget_server.standin import MOST_ADOPTED, MOST_HELD, Loop, Request, StandIn, parse

LIVE = b"GET /healthz/live HTTP/1.1\r\nHost: x\r\n\r\n"
READY = b"GET /healthz/ready HTTP/1.1\r\nHost: x\r\n\r\n"
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
        self.yielded = 0
        loop = Loop(
            beat=lambda: self.beat,
            loading=lambda: self.loading,
            alone=lambda: self.alone,
            yield_accepting=self.yield_accepting,
            adopt=self.adopted.append,
            ready={"status": "ready", "revision": "r1"},
        )
        self.stand_in = StandIn([listener], loop, lambda: self.now)

    def yield_accepting(self) -> None:
        self.yielded += 1

    def connect(self, sent: bytes) -> socket.socket:
        family = self.listener.family
        client = socket.socket(family, socket.SOCK_STREAM)
        client.settimeout(5)
        client.connect(self.listener.getsockname())
        client.sendall(sent)
        self.clients.append(client)
        return client

    def pass_time(self, seconds: float, *, beating: bool = False) -> None:
        end = self.now + seconds
        while self.now < end:
            self.now += 0.02
            if beating:
                self.beat, self.stand_in.taken = self.now, len(self.adopted)
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
    scene.pass_time(4, beating=True)
    assert silent(client)
    assert scene.pending()
    assert not scene.yielded


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
    client = scene.connect(READY)
    scene.pass_time(0.5)
    status, headers, body = said(client)
    assert status == 503
    assert body == {"status": "busy", "code": "NotReady", "detail": standin.BUSY}
    assert headers["retry-after"] == "1"


def test_after_one_stall_the_loop_accepts_no_more(scene: Scene) -> None:
    scene.pass_time(0.5)
    scene.pass_time(5, beating=True)
    scene.pass_time(0.5)
    scene.pass_time(5, beating=True)
    assert scene.yielded == 1
    live, ready, part = scene.connect(LIVE), scene.connect(READY), scene.connect(b"GET /heal")
    prediction, idle = scene.connect(POST), scene.connect(b"")
    scene.pass_time(0.02, beating=True)
    assert said(live)[::2] == (200, {"status": "alive"})
    assert said(ready)[::2] == (200, {"status": "ready", "revision": "r1"})
    assert silent(prediction)
    assert [each.recv(1000) for each in scene.adopted] == [b"GET /heal", POST]
    scene.pass_time(standin.HEAD_SECONDS + 0.04, beating=True)
    assert len(scene.adopted) == 3
    assert silent(part)
    assert silent(idle)


def test_while_the_loop_has_not_taken_what_it_got_others_have_their_chance(scene: Scene) -> None:
    scene.stand_in.accepts = True
    scene.connect(POST)
    scene.stand_in.look()
    assert len(scene.adopted) == 1
    live = scene.connect(LIVE)
    scene.pass_time(0.08)
    assert silent(live)
    scene.pass_time(0.08)
    assert said(live)[0] == 200
    live = scene.connect(LIVE)
    scene.pass_time(0.02, beating=True)
    assert said(live)[0] == 200


def test_a_burst_waits_for_a_loop_that_moves_and_nobody_is_refused(scene: Scene) -> None:
    scene.stand_in.accepts = True
    clients = [scene.connect(POST) for _ in range(3 * MOST_ADOPTED)]
    for _ in range(200):
        scene.beat = scene.now
        scene.stand_in.look()
    assert len(scene.adopted) < MOST_ADOPTED
    scene.pass_time(1, beating=True)
    assert len(scene.adopted) == len(clients)


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


@pytest.mark.parametrize("accepts", [True, False])
def test_the_end_accepts_who_has_come_and_closes_the_listener(scene: Scene, accepts: bool) -> None:
    scene.stand_in.accepts = accepts
    scene.connect(POST)
    scene.stand_in.finish()
    scene.pass_time(0.04, beating=True)
    assert [each.recv(1000) for each in scene.adopted] == [POST]
    assert scene.listener.fileno() < 0


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


def test_the_thread_stops(scene: Scene) -> None:
    scene.stand_in.start()
    scene.stand_in.stop()
    assert not any(thread.name == "stand-in" for thread in threading.enumerate())
