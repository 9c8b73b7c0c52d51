"""A kept connection saves handshakes, and may only confirm: a failure is one of a new connection."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

import pytest

from budget_operator.cloud import doors
from budget_operator.cloud.doors import Doors, NoConnection, Request
from budget_operator.core.gateways import Door

SAID = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
KEPT = Request("GET", "/healthz/ready", 5.0, kept=True)
ONCE = Request("GET", "/healthz/ready", 5.0)


class Server:
    """Says the same to every request; `open` are the connections it has."""

    def __init__(self) -> None:
        self.said = SAID
        self.taken = 0
        self.asked: list[bytes] = []
        self.open: list[socket.socket] = []
        self.silent = False
        self.work = 0.0
        """Seconds that each answer takes it, one after the other."""
        self._working = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.taken += 1
            self.open.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            while request := connection.recv(65536):
                self.asked.append(request)
                with self._working:
                    time.sleep(self.work)
                if not self.silent:
                    connection.sendall(self.said)
        except OSError:
            return

    def hang_up(self) -> None:
        """As a VM that went away."""
        for connection in self.open:
            connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with suppress(OSError):  # it is closed already
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self.open:
            connection.close()

    def door(self, name: str = "model.test") -> Door:
        return Door(f"http://{name}:{self.port}", "127.0.0.1")


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


def test_a_connection_is_used_again(server: Server) -> None:
    kept = Doors()
    assert [kept.ask(server.door(), KEPT).body for _ in range(3)] == [b"hi"] * 3
    assert server.taken == 1
    assert len(server.asked) == 3, "each is a real request"


def test_doors_do_not_share_connections(server: Server) -> None:
    kept = Doors()
    for name in ("one.test", "two.test", "one.test"):
        kept.ask(server.door(name), KEPT)
    assert server.taken == 2
    assert [b"Host: two.test" in request for request in server.asked] == [False, True, False]


def test_what_may_not_be_made_twice_has_a_connection_of_its_own(server: Server) -> None:
    kept = Doors()
    for request in (KEPT, ONCE, KEPT):
        kept.ask(server.door(), request)
    assert server.taken == 2


def test_a_kept_connection_that_was_closed_is_no_failure(server: Server) -> None:
    kept = Doors()
    kept.ask(server.door(), KEPT)
    server.hang_up()
    assert kept.ask(server.door(), KEPT).body == b"hi"
    assert server.taken == 2


def test_a_kept_connection_that_is_silent_is_no_failure(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doors, "_KEPT_SECONDS", 0.1)
    kept = Doors()
    kept.ask(server.door(), KEPT)
    server.silent = True
    threading.Timer(0.3, setattr, (server, "silent", False)).start()
    with pytest.raises(TimeoutError):
        kept.ask(server.door(), Request("GET", "/", 0.1, kept=True))
    assert server.taken == 2, "a new connection was tried, too"


def test_nobody_there_is_told_of_a_new_connection(server: Server) -> None:
    kept = Doors()
    kept.ask(server.door(), KEPT)
    server.close()
    with pytest.raises(ConnectionRefusedError):
        kept.ask(server.door(), KEPT)


def test_a_connection_is_not_kept_for_ever(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    kept = Doors()
    for minute in range(20):
        now[0] = 1000.0 + minute * 60
        kept.ask(server.door(), KEPT)
    assert server.taken == 2, "the certificate and the way in are looked at again after a quarter of an hour"
    now[0] += 241
    kept.ask(server.door(), KEPT)
    assert server.taken == 3, "the other side has closed one that was idle for long"


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + b"x" * 200_000,
    ],
)
def test_what_is_not_over_is_not_kept(server: Server, said: bytes) -> None:
    server.said = said
    kept = Doors()
    for _ in range(2):
        assert len(kept.ask(server.door(), KEPT).body) <= doors.BODY_LIMIT
    assert server.taken == 2


def test_only_so_many_are_kept(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doors, "_MOST", 2)
    kept = Doors()
    for name in ("a.test", "b.test", "c.test", "b.test", "a.test"):
        kept.ask(server.door(name), KEPT)
    assert server.taken == 4, "the longest idle one went"


def test_a_connection_that_nobody_takes() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)), pytest.MonkeyPatch.context() as patch:
            patch.setattr(doors, "CONNECT_SECONDS", 0.1)
            with pytest.raises(NoConnection):
                Doors().ask(Door(f"http://127.0.0.1:{port}", "127.0.0.1"), KEPT)


def test_many_answer_over_what_is_kept(server: Server) -> None:
    kept, names = Doors(), [f"{number}.test" for number in range(30)]
    for name in names:
        kept.ask(server.door(name), KEPT)
    asked = [server.door(name) for name in (*names, "new.test")]
    answers = kept.ask_kept(asked, KEPT)
    assert {door: answer.body for door, answer in answers.items()} == dict.fromkeys(asked[:-1], b"hi")
    assert server.taken == len(names), "nobody gets a new connection"
    assert kept.ask(server.door(names[0]), KEPT).body == b"hi"
    assert server.taken == len(names), "and each keeps the one it had"


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\n", b"nonsense\r\n\r\n"])
def test_who_does_not_answer_is_left_out_and_holds_nobody_up(
    server: Server, monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    monkeypatch.setattr(doors, "_TOGETHER_SECONDS", 0.3)
    others = Server()
    kept = Doors()
    for door in (server.door(), others.door()):
        kept.ask(door, KEPT)
    others.said = said
    begun = time.monotonic()
    assert list(kept.ask_kept([others.door(), server.door()], KEPT)) == [server.door()]
    assert time.monotonic() - begun < 5
    others.said = SAID
    assert kept.ask(others.door(), KEPT).body == b"hi"
    assert others.taken == 2, "a connection that was silent is not used again"
    others.close()


def test_as_long_as_some_answer_the_others_are_waited_for(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All behind one slow machine: new connections would only give it more to do."""
    monkeypatch.setattr(doors, "_TOGETHER_SECONDS", 1.5)
    kept, asked = Doors(), [server.door(f"{number}.test") for number in range(20)]
    for door in asked:
        kept.ask(door, KEPT)
    server.work = 0.1
    assert len(kept.ask_kept(asked, KEPT)) == len(asked)
    assert server.taken == len(asked)


def test_all_together_get_no_more_time_than_one(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doors, "_TOGETHER_SECONDS", 1.5)
    kept, asked = Doors(), [server.door(f"{number}.test") for number in range(20)]
    for door in asked:
        kept.ask(door, KEPT)
    server.work = 0.2
    answers = kept.ask_kept(asked, replace(KEPT, seconds=1.6))
    assert 0 < len(answers) < len(asked)


def test_who_went_away_is_left_out(server: Server) -> None:
    kept = Doors()
    kept.ask(server.door(), KEPT)
    server.hang_up()
    assert kept.ask_kept([server.door()], KEPT) == {}


def test_what_is_too_large_is_left_out(server: Server) -> None:
    kept = Doors()
    kept.ask(server.door(), KEPT)
    large = b"x" * (doors.BODY_LIMIT + 1)
    server.said = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(large), large)
    assert kept.ask_kept([server.door()], KEPT) == {}
