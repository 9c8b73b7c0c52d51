"""Answers while a worker's event loop cannot: while the model loads, and while `async def predict` blocks it.

One daemon thread a worker. As long as the loop is well it looks at two numbers every 50 ms and touches
nothing. When the loop stands still it accepts what nobody else accepts, answers the health routes itself, and
leaves every other connection, still unread, to the loop for when it moves again; while the model loads, or
when too many wait already, it says 503. Native code that keeps the interpreter's lock stops this thread as
well. `worker` starts it; the routes' ordinary answers are in `routes`.
"""

import asyncio
import functools
import json
import logging
import re
import select
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from uvicorn import Server

BEAT_SECONDS = 0.1
STALLED_SECONDS = 0.3
"""A heartbeat older than this is a loop that stands still."""
PATIENCE_SECONDS = 0.1
"""How long a connection is left for other workers."""
MOST_HELD = 64
"""Connections in hand at a time; with one more, the oldest is let go."""
MOST_ADOPTED = 128
"""Connections that wait for the loop to move again; what comes after them is told to come later."""
HEAD_BYTES = 16 * 1024
HEAD_SECONDS = 2.0
LINGER_SECONDS = 2.0
"""How long the rest of an answered request is read: closing earlier, the client would see a reset."""
WARN_SECONDS = 1.0
"""Shorter stalls are not worth a line in the log."""

LOADING = "The model is loading."
BUSY = "The model is busy: predict blocks the event loop; make it a plain def."

_LOOK_SECONDS = 0.05
_TICK_SECONDS = 0.02
_ACCEPTED_A_LOOK = 16
_DRAINED_A_LOOK = 2**20
_REQUEST = re.compile(rb"\s*([A-Z]+) +(?:https?://[^/ ]*)?([^ ?#\r\n]*)[^ \r\n]* +HTTP/")
_HEALTH = (b"GET /healthz/", b"HEAD /healthz/")
_PHRASES = {200: "OK", 503: "Service Unavailable"}

log = logging.getLogger("budget_server.standin")


class Listener(Protocol):
    """The part of a listening, non-blocking socket that is used here."""

    def fileno(self) -> int: ...
    def accept(self) -> tuple[socket.socket, Any]: ...


class Heartbeat:
    """A moment that the event loop renews for as long as it moves; calling it tells the last one."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last = clock()

    def __call__(self) -> float:
        return self._last

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Beat until the loop ends."""
        self._last = self._clock()
        loop.call_later(BEAT_SECONDS, self.start, loop)


@dataclass(frozen=True)
class Answer:
    """What is said in the loop's place."""

    status: int
    content: dict[str, str]
    retry_after: int | None = None

    def encoded(self, *, head_only: bool) -> bytes:
        body = json.dumps(self.content, separators=(",", ":")).encode()
        lines = [
            f"HTTP/1.1 {self.status} {_PHRASES[self.status]}",
            "content-type: application/json",
            f"content-length: {len(body)}",
            "connection: close",
        ]
        if self.retry_after is not None:
            lines.append(f"retry-after: {self.retry_after}")
        return "\r\n".join([*lines, "", ""]).encode() + (b"" if head_only else body)


@dataclass(frozen=True)
class Request:
    """As much of a request as is known so far: what it asks for, and whether its head is complete."""

    method: str
    path: str
    complete: bool


def parse(data: bytes) -> Request | None:
    """The request that begins like this; None while its first line is not complete."""
    match = _REQUEST.match(data)
    if match is None:
        return None
    path = match[2].decode("latin-1").rstrip("/") or "/"
    return Request(match[1].decode(), path, b"\r\n\r\n" in data or b"\n\n" in data or len(data) >= HEAD_BYTES)


def answer_to(request: Request | None, *, loading: bool) -> Answer | None:
    """What is said at once; None: the loop's business, once it moves again."""
    asked = request.path if request and request.method in ("GET", "HEAD") else ""
    if asked == "/healthz/live":
        return Answer(200, {"status": "alive"})
    refusal = _refusal(loading=loading)
    if asked == "/healthz/ready":
        return Answer(
            503, {"status": "loading" if loading else "busy", **refusal.content}, refusal.retry_after
        )
    return refusal if loading else None


def _refusal(*, loading: bool) -> Answer:
    detail, retry_after = (LOADING, 5) if loading else (BUSY, 1)
    return Answer(503, {"code": "NotReady", "detail": detail}, retry_after)


def may_be_health(data: bytes) -> bool:
    """Whether what begins like this can still become a request for a health route."""
    return any(data.startswith(begin) or begin.startswith(data) for begin in _HEALTH)


@dataclass
class _Held:
    """An accepted connection: at first its head is looked at and left unread; once answered, drained."""

    connection: socket.socket
    until: float
    answered: bool = False


class StandIn:
    """The thread. `beat` tells the loop's last heartbeat, `clock` the time now on the same clock.

    While `loading()`, connections are taken only if `alone()`: no other worker of this server has its model.
    `adopt` is called, in this thread, with a connection that is the loop's.
    """

    def __init__(
        self,
        sockets: Iterable[Listener],
        beat: Callable[[], float],
        loading: Callable[[], bool],
        alone: Callable[[], bool],
        adopt: Callable[[socket.socket], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        # gunicorn's wrappers forget their socket when they are closed.
        self._sockets: list[Listener] = [getattr(listener, "sock", listener) for listener in sockets]
        self._beat, self._loading, self._alone = beat, loading, alone
        self._adopt, self._clock = adopt, clock
        self._held: list[_Held] = []
        self._seen: dict[Listener, float] = {}
        self._adopted = 0
        self._stalls = _Stalls()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="stand-in", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Accept no more; what is in hand is let go."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(1)

    def _run(self) -> None:
        pause = _LOOK_SECONDS
        while not self._stopped.wait(pause):
            try:
                pause = _TICK_SECONDS if self.look() else _LOOK_SECONDS
            except Exception:
                log.exception("The stand-in failed; it goes on.")
                pause = 1.0
        for held in self._held:
            self._let_go(held)

    def look(self) -> bool:
        """Do what is due now; whether the loop stands still or something is in hand."""
        now, loading = self._clock(), self._loading()
        stalled = loading or now - self._beat() > STALLED_SECONDS
        self._stalls.note(now, self._beat(), blocked=stalled and not loading)
        if not stalled:
            self._seen.clear()
            self._adopted = 0
        elif not loading or self._alone():
            self._accept(now, 0.0 if loading else PATIENCE_SECONDS)
        if self._held:
            self._held = [held for held in self._held if self._goes_on(held, now, stalled, loading)]
        return stalled or bool(self._held)

    def _accept(self, now: float, patience: float) -> None:
        for listener in self._pending(now, patience):
            for _ in range(_ACCEPTED_A_LOOK):
                try:
                    connection, _address = listener.accept()
                except OSError:  # another worker was faster, or the listener was closed meanwhile
                    break
                connection.setblocking(False)
                self._held.append(_Held(connection, now + HEAD_SECONDS))
        while len(self._held) > MOST_HELD:
            self._let_go(self._held.pop(0))

    def _pending(self, now: float, patience: float) -> list[Listener]:
        """Where a connection waits, and has done so at every look for as long as others are given."""
        by_number = {listener.fileno(): listener for listener in self._sockets if listener.fileno() >= 0}
        if not by_number:
            return []
        poll = select.poll()
        for number in by_number:
            poll.register(number, select.POLLIN)
        waiting = [by_number[number] for number, event in poll.poll(0) if event & select.POLLIN]
        self._seen = {listener: self._seen.get(listener, now) for listener in waiting}
        return [listener for listener, since in self._seen.items() if now - since >= patience]

    def _goes_on(self, held: _Held, now: float, stalled: bool, loading: bool) -> bool:
        """Take the connection one step further; False when it is done with."""
        if held.answered:
            if now < held.until and _drained(held.connection):
                return True
            held.connection.close()
            return False
        data = _peek(held.connection)
        if data == b"":
            held.connection.close()
            return False
        if not stalled:
            self._let_go(held)
            return False
        return self._decided(held, data or b"", now, loading)

    def _decided(self, held: _Held, data: bytes, now: float, loading: bool) -> bool:
        """Answered if that is due, or left to the loop (False), or not known yet."""
        request = parse(data)
        late = now >= held.until
        if request is None and not late and (loading or not data or may_be_health(data)):
            return True
        answer = answer_to(request, loading=loading)
        if answer is not None and request is not None and not request.complete and not late:
            return True
        if answer is None and self._adopted >= MOST_ADOPTED:
            answer = _refusal(loading=False)
        if answer is None:
            self._let_go(held)
            return False
        if not data:  # nothing was asked, so nothing is answered
            held.connection.close()
            return False
        return _answered(held, answer, now, head_only=request is not None and request.method == "HEAD")

    def _let_go(self, held: _Held) -> None:
        """The connection is the loop's; while it has no server to put it in, nobody's."""
        done = held.answered or self._loading() or self._stopped.is_set()
        if done or self._adopted >= MOST_ADOPTED:
            held.connection.close()
            return
        self._adopted += 1
        try:
            self._adopt(held.connection)
        except RuntimeError:  # the loop is closed
            held.connection.close()


@contextmanager
def standing_in(
    server: Server, sockets: Iterable[Listener], loading: Callable[[], bool], alone: Callable[[], bool]
) -> Iterator[StandIn]:
    """A stand-in for the server that runs in this event loop."""
    loop = asyncio.get_running_loop()
    beat = Heartbeat()
    beat.start(loop)
    adopted: set[asyncio.Task[None]] = set()

    def begin(connection: socket.socket) -> None:
        task = loop.create_task(_adopted(server, connection))
        adopted.add(task)
        task.add_done_callback(adopted.discard)

    def adopt(connection: socket.socket) -> None:
        loop.call_soon_threadsafe(begin, connection)

    stand_in = StandIn(sockets, beat, loading, alone, adopt)
    stand_in.start()
    try:
        yield stand_in
    finally:
        stand_in.stop()


async def _adopted(server: Server, connection: socket.socket) -> None:
    """Serve the connection as if uvicorn had accepted it."""
    protocol_class: Any = server.config.http_protocol_class
    state, app_state = server.server_state, server.lifespan.state
    make = functools.partial(protocol_class, config=server.config, server_state=state, app_state=app_state)
    _transport, protocol = await asyncio.get_running_loop().connect_accepted_socket(make, connection)
    if server.should_exit:
        # uvicorn has already told its connections to end; the request is read first.
        await asyncio.sleep(BEAT_SECONDS)
        protocol.shutdown()


class _Stalls:
    """One line in the log for a long stall, when it is over."""

    def __init__(self) -> None:
        self._since: float | None = None

    def note(self, now: float, beat: float, *, blocked: bool) -> None:
        if blocked and self._since is None:
            self._since = beat
        elif not blocked and self._since is not None:
            seconds, self._since = now - self._since, None
            if seconds >= WARN_SECONDS:
                log.warning("The event loop stood still for %.1f s: %s", seconds, BUSY)


def _peek(connection: socket.socket) -> bytes | None:
    """What has come so far, left where it is; None: nothing yet; b"": hung up."""
    try:
        return connection.recv(HEAD_BYTES, socket.MSG_PEEK)
    except BlockingIOError:
        return None
    except OSError:
        return b""


def _answered(held: _Held, answer: Answer, now: float, *, head_only: bool) -> bool:
    """Whether the answer is on its way and the rest of the request is still to be read."""
    try:
        # Some hundred bytes always fit into a fresh connection's buffer.
        held.connection.sendall(answer.encoded(head_only=head_only))
        held.connection.shutdown(socket.SHUT_WR)
    except OSError:
        held.connection.close()
        return False
    held.answered, held.until = True, now + LINGER_SECONDS
    return True


def _drained(connection: socket.socket) -> bool:
    """Read what has come; False when that was all there ever will be."""
    left = _DRAINED_A_LOOK
    try:
        while left > 0:
            piece = connection.recv(65536)
            if not piece:
                return False
            left -= len(piece)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return True
