"""The stand-in and the event loop in real gunicorn workers."""

import json
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
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from localcloud.ports import free_port

WIRING = """
    import asyncio, time
    from uvicorn_worker import UvicornWorker
    from budget_server.listening import StoodInServer

    class Wired(UvicornWorker):
        CONFIG_KWARGS = {"loop": "uvloop", "http": "httptools", "lifespan": "on"}

        async def _serve(self):
            self.config.app = self.wsgi
            await StoodInServer(
                self.config, self.sockets, alone=lambda: True, blockable=lambda: False, ready={}
            ).serve_listeners()

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            await receive()
            await asyncio.to_thread(time.sleep, 2)
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
    port = free_port()
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
    said = (tmp_path / "log").read_text()
    assert "Traceback" not in said
    assert "Error while closing" not in said


def asked(client: httpx.Client, path: str) -> tuple[Any, float]:
    began = time.monotonic()
    with client:
        answer = client.get(path)
    return (answer.status_code, answer.text), time.monotonic() - began


def test_in_a_real_worker(server: Callable[[], httpx.Client], tmp_path: Path) -> None:
    _while_loading(server, tmp_path / "log")
    _while_blocked(server)
    assert asked(server(), "/healthz/live")[0] == (200, '{"status":"alive"}')
    assert asked(server(), "/other")[0] == (200, "loop:0")
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
    began, answers = time.monotonic(), []
    with ThreadPoolExecutor() as pool:
        first = pool.submit(server().post, "/predict", content=b"x" * 1000)
        time.sleep(0.2)
        others = [pool.submit(server().post, "/other", content=b"x" * 200_000) for _ in range(5)]
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


AUTH = {"Authorization": "Bearer static-token"}
BLOCKS = """
    import time
    class Predictor:
        def load(self): pass
        async def predict(self, request):
            time.sleep(request["seconds"])
            return "done"
"""
LATER = """
    import time
    class Predictor:
        def load(self): pass
        def predict(self, request):
            return self.later(request)
        async def later(self, request):
            time.sleep(request["seconds"])
            return "done"
"""
PROBES = [f"{method} /healthz/live HTTP/1.1\r\nHost: x\r\n\r\n".encode() for method in ("GET", "HEAD")]


class Probes:
    """Somebody who asks for liveness ten times a second, each time on a connection of its own."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.seconds: list[float] = []
        self.answers: set[bytes] = set()

    def ask(self, sent: bytes) -> None:
        began = time.monotonic()
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as connection:
            connection.sendall(sent)
            answer = b""
            while b"\r\n\r\n" not in answer and (piece := connection.recv(1000)):
                answer += piece
        self.seconds.append(time.monotonic() - began)
        self.answers.add(answer.split(b"\r\n")[0])

    @contextmanager
    def going_on(self) -> Iterator[None]:
        done = threading.Event()

        def ask_on() -> None:
            while not done.wait(0.1):
                self.ask(PROBES[len(self.seconds) % 2])

        thread = threading.Thread(target=ask_on)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


def call(server: Any, seconds: float) -> int:
    """One prediction on a connection of its own; the status."""
    content = json.dumps({"payload": {"seconds": seconds}}).encode()
    head = f"POST /predict_dict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(content)}\r\n"
    login = f"Authorization: {AUTH['Authorization']}\r\nConnection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall((head + login).encode() + content)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    status = int(answer.split()[1])
    assert status != 200 or answer.endswith(b'"done"')
    return status


def loaded(server: Any, workers: int) -> None:
    counted = f"budget_server_workers {workers}.0"
    server.until(
        "models", lambda: server.ready() and counted in server.client.get("/metrics", headers=AUTH).text
    )


def in_order(server: Any) -> None:
    """The server ends in order."""
    server.process.send_signal(signal.SIGTERM)
    assert server.ended(15) == 0
    said = server.log.read_text()
    assert "Traceback" not in said
    assert "Error while closing" not in said


@pytest.mark.parametrize("workers", [1, 2])
def test_liveness_while_async_predictions_block_again_and_again(start: Any, workers: int) -> None:
    server = start(BLOCKS, BUDGET_WORKERS=str(workers))
    loaded(server, workers)
    probes = Probes(server.port)
    with probes.going_on(), ThreadPoolExecutor(60) as pool:
        assert set(pool.map(lambda _: call(server, 0.1), range(60))) == {200}
        assert set(pool.map(lambda _: call(server, 2.0), range(2))) == {200}
    assert probes.answers == {b"HTTP/1.1 200 OK"}
    assert len(probes.seconds) > 10
    assert max(probes.seconds) < 1
    in_order(server)


def by_the_loop(server: Any) -> bool:
    """Whether uvicorn answers for liveness: it says the date."""
    answer = httpx.get(f"{server.url}/healthz/live")
    assert (answer.status_code, answer.json()) == (200, {"status": "alive"})
    return "date" in answer.headers


def test_what_blocks_the_loop_unexpectedly_makes_it_accept_no_more(start: Any) -> None:
    server = start(LATER)
    loaded(server, 1)
    ready = httpx.get(f"{server.url}/healthz/ready").json()
    assert by_the_loop(server)
    assert call(server, 0) == 200
    assert by_the_loop(server)
    assert call(server, 1.5) == 200
    server.until("end of its accepting", lambda: not by_the_loop(server))
    assert httpx.get(f"{server.url}/healthz/ready").json() == ready
    probes = Probes(server.port)
    with probes.going_on(), ThreadPoolExecutor(10) as pool:
        assert set(pool.map(lambda _: call(server, 0.4), range(10))) == {200}
    assert max(probes.seconds) < 1
    in_order(server)


def test_predictions_are_finished_after_sigterm_while_the_stand_in_accepts(start: Any) -> None:
    server = start(BLOCKS)
    loaded(server, 1)
    assert not by_the_loop(server)
    with ThreadPoolExecutor(10) as pool:
        calls = [pool.submit(call, server, 0.5) for _ in range(6)]
        time.sleep(0.8)
        server.process.send_signal(signal.SIGTERM)
        assert [each.result() for each in calls] == [200] * 6
    assert server.ended(15) == 0
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", server.port))
