"""How a VM is taken away: notice, soft-off, the last answers. With real gunicorn and real Caddy."""

import json
import os
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
from hpack import Decoder, Encoder
from hyperframe.frame import DataFrame, Frame, GoAwayFrame, HeadersFrame, SettingsFrame

from budget_server.vm import notice
from budget_server.vm.frontdoor import SERVE_ON_SECONDS
from budget_server.vm.frontdoor_configuration import ENDING
from budget_server.vm.main import END_SECONDS

R1 = "a" * 12
HEADERS = {"Authorization": "Bearer static-token-of-the-user"}
CONTAINER_SECONDS = 27  # then the host ends it by force
PREDICTOR = """
import pathlib, time
class Predictor:
    def load(self): pass
    def predict(self, request):
        pathlib.Path(request.payload["marks"], str(request.payload["mark"])).touch()
        time.sleep(request.payload["seconds"])
        return "done"
"""
MANIFEST = {
    "readiness": {"payload": None, "startupSeconds": 30},
    "server": {"workers": 1, "threads": 16},
}


class NotAcceptedError(Exception):
    """The server's goodbye crossed the request, which is to be sent to another one."""


class Plain:
    """One connection of HTTP/1.1; opened anew when the server has asked for that."""

    def __init__(self, connect: Callable[..., httpx.Client], marks: str) -> None:
        self._client = connect()
        self._marks = marks

    def ask(self) -> int:
        return ask(self._client, self._marks, 0, 0.01).status_code


class Multiplexed:
    """The same of HTTP/2, frame by frame: Python's clients end a connection as soon as a server says goodbye,
    although the protocol lets what was accepted come to its end.
    """

    def __init__(self, port: int, authority: str, marks: str) -> None:
        self._port = port
        self._trusted = ssl.create_default_context(cadata=authority)
        self._trusted.set_alpn_protocols(["h2"])
        self._body = json.dumps({"payload": {"marks": marks, "mark": 0, "seconds": 0.01}}).encode()
        self._left = True

    def ask(self) -> int:
        if self._left:
            self._open()
        names = {":method": "POST", ":path": "/predict_dict", ":scheme": "https", ":authority": "x"}
        names |= {"authorization": HEADERS["Authorization"], "content-type": "application/json"}
        head = HeadersFrame(self._stream, self._packed.encode(names.items()), flags=["END_HEADERS"])
        body = DataFrame(self._stream, self._body, flags=["END_STREAM"])
        self._socket.sendall(head.serialize() + body.serialize())
        status = self._answer()
        self._stream += 2
        return status

    def _open(self) -> None:
        plain = socket.create_connection(("127.0.0.1", self._port), timeout=20)
        self._socket = self._trusted.wrap_socket(plain, server_hostname="127.0.0.1")
        self._socket.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SettingsFrame(0).serialize())
        self._frames = self._socket.makefile("rb")
        self._packed, self._unpacked = Encoder(), Decoder()
        self._stream, self._left = 1, False

    def _answer(self) -> int:
        status = 0
        while head := self._frames.read(9):
            frame, length = Frame.parse_frame_header(memoryview(head))
            frame.parse_body(memoryview(self._frames.read(length)))
            if isinstance(frame, SettingsFrame) and "ACK" not in frame.flags:
                self._socket.sendall(SettingsFrame(0, flags=["ACK"]).serialize())
            elif isinstance(frame, GoAwayFrame):
                self._left = True
                if frame.last_stream_id < self._stream:
                    raise NotAcceptedError
            elif isinstance(frame, HeadersFrame):
                status = int(dict(self._unpacked.decode(frame.data, raw=True))[b":status"])
            if frame.stream_id == self._stream and "END_STREAM" in frame.flags:
                return status
        raise AssertionError("the connection was cut")


def ask_until_refused(caller: Plain | Multiplexed) -> list[int]:
    """One request after another, until no connection is accepted any more."""
    answers: list[int] = []
    while True:
        try:
            answers.append(caller.ask())
        except NotAcceptedError:
            continue
        except (httpx.ConnectError, ConnectionRefusedError):
            return answers
        except httpx.RemoteProtocolError:
            # the very last connection may be closed before its request is read: none is accepted after it
            with pytest.raises(httpx.ConnectError):
                caller.ask()
            return answers


def ask(client: httpx.Client, marks: str, mark: int, seconds: float) -> httpx.Response:
    payload = {"marks": marks, "mark": mark, "seconds": seconds}
    return client.post("/predict_dict", json={"payload": payload}, headers=HEADERS)


@pytest.fixture
def marks(vm: Any) -> Any:
    """Where the predictor notes which requests it has begun with."""
    place = vm.disk.parent / "marks"
    place.mkdir()
    return place


@pytest.fixture
def serving(world: Any, vm: Any) -> Iterator[Callable[..., httpx.Client]]:
    """A VM that serves, and more clients for it."""
    world.publish(R1, {"predictor.py": PREDICTOR}, MANIFEST)
    vm.boot()
    with ExitStack() as stack:
        stack.enter_context(vm.client())
        world.await_state(phase="serving")

        def connect(*, http2: bool = False) -> httpx.Client:
            trusted = ssl.create_default_context(cadata=world.guest["ca"])
            base_url = f"https://127.0.0.1:{vm.https}"
            made = httpx.Client(base_url=base_url, verify=trusted, http1=not http2, http2=http2, timeout=40)
            return stack.enter_context(made)

        yield connect


def test_it_serves_on_through_the_notice_and_says_so(
    world: Any, vm: Any, serving: Callable[..., httpx.Client], marks: Any, until: Callable[..., Any]
) -> None:
    client = serving()
    assert notice.GIVEN not in vm.output.read_text()
    world.preempt()
    until(lambda: notice.GIVEN in vm.output.read_text())
    until(lambda: "notice" in world.guest)
    assert abs(json.loads(world.guest["notice"])["at"] - time.time()) < 600
    assert client.get("/healthz/ready").status_code == 200
    assert ask(client, str(marks), 1, 0).json() == "done"
    assert world.state["phase"] == "serving"
    code, _ = vm.shut_down()
    assert code == 0
    assert vm.output.read_text().count(notice.GIVEN) == 1
    assert world.state["phase"] == "serving"


@pytest.mark.parametrize("http2", [False, True], ids=["HTTP/1.1", "HTTP/2"])
def test_after_the_soft_off_it_is_not_ready_and_answers_what_it_accepted(
    world: Any,
    vm: Any,
    serving: Callable[..., httpx.Client],
    marks: Any,
    until: Callable[..., Any],
    http2: bool,
) -> None:
    slow, prober = serving(http2=http2), serving(http2=http2)
    busy = Multiplexed(vm.https, world.guest["ca"], str(marks)) if http2 else Plain(serving, str(marks))
    with ThreadPoolExecutor() as pool:
        under_way = [pool.submit(ask, slow, str(marks), number, 5) for number in range(1, 5)]
        looping = pool.submit(ask_until_refused, busy)
        until(lambda: len(list(marks.iterdir())) == 5)
        assert prober.get("/healthz/ready").status_code == 200

        ending = pool.submit(vm.shut_down)
        began = time.monotonic()
        until(lambda: prober.get("/healthz/ready").status_code == 503, 5)
        not_ready_after = time.monotonic() - began
        for path in ("/v2/health/ready", "/v2/models/demo/ready"):
            assert prober.get(path).status_code == 503
        refused, alive = prober.get("/healthz/ready/"), prober.get("/healthz/live")
        late = ask(prober, str(marks), 5, 3)

        answers = [each.result(30) for each in under_way]
        code, seconds = ending.result(30)
        seen = looping.result(30)
    assert (refused.json()["detail"], refused.headers["retry-after"]) == (ENDING, "5")
    assert alive.json() == {"status": "alive"}
    assert [answer.json() for answer in (*answers, late)] == ["done"] * 5
    assert {answer.http_version for answer in answers} == {"HTTP/2" if http2 else "HTTP/1.1"}
    assert set(seen) == {200}
    print(f"not ready {not_ready_after:.3f} s after the soft-off, all ended after {seconds:.2f} s")
    assert not_ready_after < 0.5
    assert code == 0
    assert SERVE_ON_SECONDS < seconds < SERVE_ON_SECONDS + 5, "as long as somebody asks"


def test_what_never_ends_is_cut_off_before_the_host_does_it(
    vm: Any, serving: Callable[..., httpx.Client], marks: Any, until: Callable[..., Any]
) -> None:
    client = serving()
    with ThreadPoolExecutor() as pool:
        stuck = pool.submit(ask, client, str(marks), 1, 600)
        slow = pool.submit(ask, client, str(marks), 2, 22)
        until(lambda: len(list(marks.iterdir())) == 2)
        children = vm.children("")
        code, seconds = vm.shut_down()
        assert slow.result(5).json() == "done"
        with pytest.raises(httpx.TransportError):
            stuck.result(5)
    print(f"all ended after {seconds:.2f} s")
    assert code == 0
    assert seconds < END_SECONDS + 0.3 < CONTAINER_SECONDS
    until(lambda: not any(alive(pid) for pid in children), 5)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
