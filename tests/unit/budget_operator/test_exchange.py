"""One request and its answer: what is an answer, where it ends, and what is left of the connection."""

import socket
import time
from collections.abc import Iterator

import pytest

from budget_operator.exchange import BadAnswer, Reading, exchange, exchange_all, request

SENT = request("GET", "/x", {"Host": "a"})
OK = b"HTTP/1.1 200 OK\r\n"


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.settimeout(5)
    with ours, theirs:
        yield ours, theirs


def answered(pair: tuple[socket.socket, socket.socket], answer: bytes, *, closed: bool = False) -> None:
    pair[1].sendall(answer)
    if closed:
        pair[1].shutdown(socket.SHUT_WR)


def test_a_request_is_written_out() -> None:
    assert SENT == b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"
    posted = request("POST", "/y", {"Host": "a"}, b"{}")
    assert posted == b"POST /y HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}"


@pytest.mark.parametrize("value", ["b\r\nX: y", "b\nX: y"])
def test_a_header_is_never_two(value: str) -> None:
    with pytest.raises(ValueError, match="line break"):
        request("GET", "/x", {"Authorization": value})


@pytest.mark.parametrize(
    ("answer", "closed", "body", "reusable"),
    [
        (OK + b"Content-Length: 5\r\n\r\nhello", False, b"hello", True),
        (OK + b"content-length: 0\r\n\r\n", False, b"", True),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", False, b"hello", True),
        (OK + b"Connection: close\r\nContent-Length: 5\r\n\r\nhello", False, b"hello", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", False, b"hello", False),
        (OK + b"\r\nhello", True, b"hello", False),
        (
            b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\nhi",
            False,
            b"hi",
            True,
        ),
        (OK + b"Content-Length: 2\r\n\r\nhi" + OK + b"Content-Length: 2\r\n\r\nho", False, b"hi", False),
    ],
)
def test_an_answer_ends_where_it_says(
    pair: tuple[socket.socket, socket.socket], answer: bytes, closed: bool, body: bytes, reusable: bool
) -> None:
    answered(pair, answer, closed=closed)
    found = exchange(pair[0], SENT)
    assert (found.status, found.body, found.reusable) == (200, body, reusable)
    assert pair[1].recv(1000) == SENT


def test_an_answer_may_come_in_pieces() -> None:
    found = Reading()
    for byte in OK + b"Content-Length: 3\r\n\r\nabc":
        assert not found.complete
        found.feed(bytes([byte]))
    assert (found.complete, found.status, bytes(found.body), found.reusable) == (True, 200, b"abc", True)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 O",
        OK + b"Content-Length: 9\r\n\r\nhello",
        OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhe",
    ],
)
def test_half_an_answer_is_none(pair: tuple[socket.socket, socket.socket], answer: bytes) -> None:
    answered(pair, answer, closed=True)
    with pytest.raises(BadAnswer, match="closed before"):
        exchange(pair[0], SENT)


@pytest.mark.parametrize("answer", [b"SSH-2.0-OpenSSH\r\n", OK + b"a b\r\n\r\n", b"HTTP/1.1 x\r\n\r\n"])
def test_what_is_not_http_is_no_answer(pair: tuple[socket.socket, socket.socket], answer: bytes) -> None:
    answered(pair, answer)
    with pytest.raises(BadAnswer, match=r"HTTP/1\.1"):
        exchange(pair[0], SENT)


def test_headers_that_do_not_end_are_no_answer(pair: tuple[socket.socket, socket.socket]) -> None:
    answered(pair, OK + b"X: " + b"x" * 70_000)
    with pytest.raises(BadAnswer, match="do not end"):
        exchange(pair[0], SENT)


def test_a_long_body_is_cut_off_and_the_connection_is_spent(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    answered(pair, OK + b"Content-Length: 1000000\r\n\r\n" + b"x" * 5000)
    found = exchange(pair[0], SENT, most=4000)
    assert (found.body, found.reusable) == (b"x" * 4000, False)


def test_a_slow_answer_is_cut_off_and_none_at_all_is_told(pair: tuple[socket.socket, socket.socket]) -> None:
    answered(pair, OK)
    with pytest.raises(TimeoutError):
        exchange(pair[0], SENT, until=time.monotonic() - 1)
    with pytest.raises(TimeoutError):
        pair[0].settimeout(0.01)
        exchange(pair[0], SENT)


def test_a_body_that_trickles_is_taken_as_far_as_it_came(pair: tuple[socket.socket, socket.socket]) -> None:
    clock = iter([0.0, 100.0])
    answered(pair, OK + b"Content-Length: 100\r\n\r\nhe")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("budget_operator.exchange.time.monotonic", lambda: next(clock))
        found = exchange(pair[0], SENT, until=50.0)
    assert (found.status, found.body, found.reusable) == (200, b"he", False)


def test_many_answers_come_in_order(pair: tuple[socket.socket, socket.socket]) -> None:
    missing = b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnone"
    answered(pair, OK + b"Content-Length: 1\r\n\r\na" + missing + OK + b"Content-Length: 1\r\n\r\nc")
    answers, reusable = exchange_all(pair[0], [SENT] * 3)
    assert [(each.status, each.body) for each in answers] == [(200, b"a"), (404, b"none"), (200, b"c")]
    assert reusable
    assert pair[1].recv(1000) == SENT * 3


@pytest.mark.parametrize(
    "rest", [b"", OK, OK + b"Content-Length: 5\r\n\r\nhel", b"nonsense", OK + b"\r\nuntil the end"]
)
def test_of_answers_that_break_off_the_whole_ones_count(
    pair: tuple[socket.socket, socket.socket], rest: bytes
) -> None:
    answered(pair, OK + b"Content-Length: 1\r\n\r\na" + rest, closed=True)
    answers, reusable = exchange_all(pair[0], [SENT] * 3)
    assert ([each.body for each in answers], reusable) == ([b"a"], False)


def test_the_last_answer_may_be_the_last(pair: tuple[socket.socket, socket.socket]) -> None:
    answered(pair, OK + b"Connection: close\r\nContent-Length: 1\r\n\r\na")
    answers, reusable = exchange_all(pair[0], [SENT] * 3)
    assert ([each.body for each in answers], reusable) == ([b"a"], False)
