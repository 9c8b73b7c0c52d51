"""Reads over kept connections: one that was closed is no failure, one that hangs is."""

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest

from budget_operator.cluster.access import Access
from budget_operator.cluster.reads import Reads

SAID = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


class Server:
    """Answers so many requests on each connection; then it hangs up, or says nothing."""

    def __init__(self) -> None:
        self.answers = 100
        self.silent = False
        self.said = SAID
        self.taken = 0
        self.asked: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.taken += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            for _ in range(self.answers):
                request = connection.recv(65536)
                if not request:
                    return
                self.asked.append(request)
                if not self.silent:
                    connection.sendall(self.said)

    def close(self) -> None:
        with suppress(OSError):  # it is closed already
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


@pytest.fixture
def reads(server: Server) -> Reads:
    return Reads(Access(server.url, "", verify=True, authorization=""))


def get(reads: Reads, seconds: float = 5.0) -> tuple[int, bytes]:
    return reads.get("/api?limit=1", {"Authorization": "Bearer t"}, (seconds, seconds))


def test_a_connection_is_kept(server: Server, reads: Reads) -> None:
    assert [get(reads) for _ in range(3)] == [(200, b"{}")] * 3
    assert server.taken == 1
    assert server.asked[2].startswith(b"GET /api?limit=1 HTTP/1.1")
    assert b"Authorization: Bearer t" in server.asked[2]


def test_each_thread_has_its_own(server: Server, reads: Reads) -> None:
    get(reads)
    other = threading.Thread(target=get, args=(reads,))
    other.start()
    other.join(10)
    get(reads)
    assert server.taken == 2


def test_one_that_was_closed_is_replaced(server: Server, reads: Reads) -> None:
    server.answers = 1
    assert [get(reads)[0] for _ in range(3)] == [200, 200, 200]
    assert server.taken == 3


def test_silence_is_not_asked_twice(server: Server, reads: Reads) -> None:
    get(reads, 0.2)
    server.silent = True
    with pytest.raises(TimeoutError):
        get(reads, 0.2)
    assert len(server.asked) == 2


def test_nobody_there(server: Server, reads: Reads) -> None:
    server.close()
    with pytest.raises(ConnectionRefusedError):
        get(reads)


def get_all(reads: Reads, count: int) -> list[tuple[int, bytes]]:
    targets = [f"/secrets/{number}" for number in range(count)]
    return reads.get_all(targets, {"Authorization": "Bearer t"}, (5.0, 0.2))


def test_many_are_asked_for_at_once(server: Server, reads: Reads) -> None:
    get(reads)
    server.said = SAID * 20
    assert get_all(reads, 20) == [(200, b"{}")] * 20
    server.said = SAID
    get(reads)
    assert server.taken == 1
    assert [server.asked[1].count(word) for word in (b"GET /secrets/", b"Authorization: Bearer t")] == [
        20,
        20,
    ]


def test_many_are_asked_for_again_where_the_connection_was_closed(server: Server, reads: Reads) -> None:
    server.answers = 1
    get(reads)
    server.said = SAID * 3
    assert get_all(reads, 3) == [(200, b"{}")] * 3
    assert server.taken == 2


def test_of_many_those_count_that_were_answered(server: Server, reads: Reads) -> None:
    server.answers = 1
    assert get_all(reads, 3) == [(200, b"{}")], "then it hangs up"
    server.answers, server.silent = 100, True
    assert get_all(reads, 3) == []
    server.silent = False
    assert get(reads) == (200, b"{}")
    assert server.taken == 3, "what hangs, or was closed, is not used again"
