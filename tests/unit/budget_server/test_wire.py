"""Answers written in one piece, on real connections: the same bytes that uvicorn would have sent."""

import json
import re
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from budget_server.wire import MOST_BYTES

PREDICTOR = """
class Predictor:
    def load(self): pass
    async def predict(self, r): return {"n": r["n"], "x": "x" * r.get("size", 0)}
"""
DATE = re.compile(rb"date: \w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT")


@pytest.fixture
def server(start: Any) -> Any:
    server = start(PREDICTOR, GUNICORN_CMD_ARGS="--keep-alive=1")
    server.until("readiness", server.ready)
    return server


@pytest.fixture
def connection(server: Any) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        yield connection


def asked(n: int, size: int = 0, version: str = "1.1", extra: str = "") -> bytes:
    body = json.dumps({"payload": {"n": n, "size": size}})
    head = f"POST /predict_dict HTTP/{version}\r\nHost: x\r\nAuthorization: Bearer static-token\r\n"
    return f"{head}{extra}Content-Length: {len(body)}\r\n\r\n{body}".encode()


def answer(file: Any) -> tuple[list[bytes], dict[str, Any]]:
    """The lines of the next head, and the body."""
    lines = list(iter(lambda: file.readline().rstrip(b"\r\n"), b""))
    length = next(int(line.partition(b":")[2]) for line in lines if line.startswith(b"content-length"))
    return lines, json.loads(file.read(length))


def test_small_and_large_answers_have_the_same_head(connection: socket.socket) -> None:
    file = connection.makefile("rb")
    heads = []
    for size in (0, MOST_BYTES):  # the second is sent by uvicorn
        connection.sendall(asked(7, size))
        lines, body = answer(file)
        assert body == {"n": 7, "x": "x" * size}
        heads.append([DATE.sub(b"date", re.sub(rb"length: \d+", b"length", line)) for line in lines])
    assert heads[0] == heads[1]
    assert heads[0] == [b"HTTP/1.1 200 OK", b"date", b"content-type: application/json", b"content-length"]


def test_pipelined_requests_are_answered_in_order_to_a_client_that_reads_late(
    connection: socket.socket,
) -> None:
    count = 200  # of 60 KB each: far more than the buffers of a connection hold
    connection.sendall(b"".join(asked(n, 60_000) for n in range(count)))
    file = connection.makefile("rb")
    assert [answer(file)[1]["n"] for _ in range(count)] == list(range(count))


@pytest.mark.parametrize("how", [{"extra": "Connection: close\r\n"}, {"version": "1.0"}])
def test_who_wants_the_connection_closed_gets_that(connection: socket.socket, how: Any) -> None:
    connection.sendall(asked(1, **how))
    file = connection.makefile("rb")
    lines, body = answer(file)
    assert body["n"] == 1
    assert b"connection: close" in lines
    assert file.read() == b""


def test_an_idle_connection_is_closed_when_keep_alive_ends_and_not_while_it_asks(
    server: Any, connection: socket.socket
) -> None:
    file = connection.makefile("rb")
    for n in range(3):
        connection.sendall(asked(n))
        assert answer(file)[1]["n"] == n
    assert file.read() == b""
    assert "Traceback" not in server.log.read_text()


def test_what_waits_for_leave_to_send_its_body_gets_it_once(connection: socket.socket) -> None:
    head, _, body = asked(1, extra="Expect: 100-continue\r\n").partition(b"\r\n\r\n")
    connection.sendall(head + b"\r\n\r\n")
    file = connection.makefile("rb")
    assert file.readline() + file.readline() == b"HTTP/1.1 100 Continue\r\n\r\n"
    connection.sendall(body)
    assert answer(file)[1]["n"] == 1
    connection.sendall(asked(2))
    assert answer(file)[1]["n"] == 2
