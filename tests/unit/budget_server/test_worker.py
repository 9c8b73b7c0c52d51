"""Slow and broken senders, on real connections."""

import json
import socket
import time
from typing import Any

import httpx
import pytest

from budget_server import worker
from budget_server.worker import BODY_SECONDS, HEAD_SECONDS, SLOWEST_BYTES_A_SECOND, overdue

AUTH = {"Authorization": "Bearer static-token"}
HEAD = b"POST /predict_dict HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer static-token\r\n"
ECHO = "class Predictor:\n    def load(self): pass\n    def predict(self, r): return r\n"


@pytest.mark.parametrize(
    ("now", "last", "received", "head_complete", "late"),
    [
        (HEAD_SECONDS, 0, 0, False, False),
        (HEAD_SECONDS + 0.1, HEAD_SECONDS, 0, False, True),
        (BODY_SECONDS, 0, 0, True, False),
        (BODY_SECONDS + 0.1, 0, 0, True, True),
        (100, 99, SLOWEST_BYTES_A_SECOND * 70, True, True),
        (100, 99, SLOWEST_BYTES_A_SECOND * 80, True, False),
        (3600, 3599, 64 * 2**20, True, False),
    ],
)
def test_overdue(now: float, last: float, received: int, head_complete: bool, late: bool) -> None:
    assert bool(overdue(now, 0, last, received, head_complete=head_complete)) is late


def answer(connection: socket.socket) -> tuple[str, dict[str, Any]]:
    data = b""
    while chunk := connection.recv(65536):
        data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    return head.decode().lower(), json.loads(body) if body else {}


@pytest.fixture
def impatient(start: Any, tmp_path: Any) -> Any:
    """A server that waits for a second where others wait for longer."""
    (tmp_path / "sitecustomize.py").write_text(
        "import budget_server.worker as w\nw.HEAD_SECONDS = w.BODY_SECONDS = 1.0\nw._SWEEP_SECONDS = 0.1\n"
    )
    server = start(ECHO, PYTHONPATH=str(tmp_path))
    server.until("readiness", server.ready)
    return server


@pytest.mark.parametrize(
    "sent",
    [
        b"POST /predict_dict HTT",
        HEAD + b"Content-Le",
        HEAD + b"Content-Length: 20\r\n\r\n{",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n",
    ],
)
def test_what_comes_too_slowly_is_given_up_with_408(impatient: Any, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", impatient.port), timeout=10) as connection:
        connection.sendall(sent)
        head, body = answer(connection)
    assert head.startswith("http/1.1 408")
    assert body["code"] == "RequestTimeout"
    assert "Traceback" not in impatient.log.read_text()


def test_one_byte_at_a_time_does_not_keep_a_connection(impatient: Any) -> None:
    with socket.create_connection(("127.0.0.1", impatient.port), timeout=10) as connection:
        started = time.monotonic()
        with pytest.raises(OSError):
            for byte in b"POST /predict_dict HTTP/1.1\r\n" + b"X: y\r\n" * 1000:
                connection.sendall(bytes([byte]))
                time.sleep(0.05)
        assert time.monotonic() - started < 8


def test_a_connection_that_asks_nothing_is_closed_without_a_word(impatient: Any) -> None:
    with socket.create_connection(("127.0.0.1", impatient.port), timeout=10) as connection:
        assert connection.recv(100) == b""


def test_a_slow_prediction_is_not_a_slow_sender(start: Any, tmp_path: Any) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import budget_server.worker as w\nw.HEAD_SECONDS = w.BODY_SECONDS = 0.3\nw._SWEEP_SECONDS = 0.05\n"
    )
    server = start(
        """
        import time
        class Predictor:
            def load(self): pass
            def predict(self, r):
                time.sleep(1.5)
                return 1
        """,
        PYTHONPATH=str(tmp_path),
    )
    server.until("readiness", server.ready)
    assert httpx.post(f"{server.url}/predict_dict", json={"payload": {}}, headers=AUTH).json() == 1


def test_what_is_not_http_is_answered_in_our_shape(impatient: Any) -> None:
    with socket.create_connection(("127.0.0.1", impatient.port), timeout=10) as connection:
        connection.sendall(b"\x16\x03\x01 hello\r\n\r\n")
        head, body = answer(connection)
    assert head.startswith("http/1.1 400")
    assert body == {"code": "BadRequest", "detail": "Invalid HTTP request received."}


def test_too_much_is_refused_before_it_is_received_and_the_connection_serves_on(start: Any) -> None:
    server = start(ECHO, BUDGET_MAX_BODY_MIB="1")
    server.until("readiness", server.ready)
    head = HEAD + b"Content-Length: "
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(head + b"2000000\r\n\r\n")
        said = b""
        while not said.endswith(b"}"):
            said += connection.recv(65536)
        assert said.startswith(b"HTTP/1.1 413")
        assert b'"code":"BodyTooLarge"' in said
        connection.sendall(b"x" * 2_000_000 + head + b"15\r\n\r\n" + b'{"payload": {}}')
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        with pytest.raises(OSError):
            while True:
                connection.sendall(b"100000\r\n" + b"x" * 2**20 + b"\r\n")
    assert httpx.get(f"{server.url}/healthz/live").status_code == 200


def test_limits_are_those_documented() -> None:
    assert (worker.HEAD_SECONDS, worker.BODY_SECONDS) == (10.0, 20.0)
