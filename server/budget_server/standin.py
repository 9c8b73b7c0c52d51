"""Answers while a worker's event loop cannot: while the model loads, and while `async def predict` blocks it.

One daemon thread a worker. As long as the loop accepts by itself and is well, it looks at two numbers every
50 ms and touches nothing. A loop that has blocked once, or is expected to, accepts no more: what it took in
the gap between two long turns would wait for the second to end. From then on the thread accepts everything,
answers the health routes itself, and hands every other connection, still unread, to the loop; while the model
loads, or when too many wait already, it says 503. Native code that keeps the interpreter's lock stops this
thread as well. `listening` starts it; the routes' ordinary answers are in `routes`.
"""

import errno
import json
import logging
import re
import select
import socket
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

STALLED_SECONDS = 0.3
"""A heartbeat older than this is a loop that stands still."""
PATIENCE_SECONDS = 0.1
"""How long a connection is left for other workers while this one's loop does not move."""
MOST_HELD = 64
"""Connections in hand at a time; with one more, the oldest is let go."""
MOST_ADOPTED = 128
"""Handed-over connections that a loop has not taken yet; what comes after them is told to come later."""
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
_NAP_SECONDS = 0.002
_ACCEPTED_A_LOOK = 16
_DRAINED_A_LOOK = 2**20
_REQUEST = re.compile(rb"\s*([A-Z]+) +(?:https?://[^/ ]*)?([^ ?#\r\n]*)[^ \r\n]* +HTTP/")
_HEALTH = (b"GET /healthz/", b"HEAD /healthz/")
_PHRASES = {200: "OK", 503: "Service Unavailable"}

State = Literal["loading", "busy", "ready"]
Content = dict[str, str | None]

log = logging.getLogger("budget_server.standin")


class Listener(Protocol):
    """The part of a listening, non-blocking socket that is used here."""

    def fileno(self) -> int: ...
    def accept(self) -> tuple[socket.socket, Any]: ...
    def close(self) -> None: ...


@dataclass(frozen=True)
class Answer:
    """What is said in the loop's place."""

    status: int
    content: Content
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


def answer_to(request: Request | None, state: State, ready: Content) -> Answer | None:
    """What is said at once; None: the loop's business."""
    asked = request.path if request and request.method in ("GET", "HEAD") else ""
    if asked == "/healthz/live":
        return Answer(200, {"status": "alive"})
    if asked == "/healthz/ready" and state == "ready":
        return Answer(200, ready)
    refusal = _refusal(state)
    if asked == "/healthz/ready":
        return Answer(503, {"status": state, **refusal.content}, refusal.retry_after)
    return refusal if state == "loading" else None


def _refusal(state: State) -> Answer:
    detail, retry_after = (LOADING, 5) if state == "loading" else (BUSY, 1)
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


@dataclass(frozen=True)
class Loop:
    """The event loop, as the thread that stands in for it knows it."""

    beat: Callable[[], float]
    """Its last heartbeat."""
    loading: Callable[[], bool]
    alone: Callable[[], bool]
    """Whether no worker of this server has its model; while loading, connections are taken only then."""
    yield_accepting: Callable[[], None]
    """Called when it is to accept no more."""
    adopt: Callable[[socket.socket], None]
    """Called with each connection that is the loop's; the loop adds to `StandIn.taken` when it has it."""
    ready: Content
    """What readiness answers while all is well."""
    patience: float = PATIENCE_SECONDS


class StandIn:
    """The thread; its clock is that of the loop's heartbeat."""

    def __init__(
        self, listeners: Iterable[Listener], loop: Loop, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._listeners = list(listeners)
        self._loop, self._clock = loop, clock
        self.accepts = False
        """Whether this thread accepts in the loop's place, for good."""
        self.taken = 0
        self._handed = 0
        self._held: list[_Held] = []
        self._seen: dict[Listener, float] = {}
        self._stalls = _Stalls()
        self._finishing = False
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="stand-in", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def finish(self) -> None:
        """Accept once more and close the listeners; what is in hand goes on."""
        # Closed from outside while this thread polls them, they would listen on and then reset who has come.
        self._finishing = True

    def stop(self) -> None:
        """Let go what is in hand."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(1)

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                self._wait()
                self.look()
            except Exception:
                log.exception("The stand-in failed; it goes on.")
                self._stopped.wait(1.0)
        for held in self._held:
            self._let_go(held)

    def _wait(self) -> None:
        """Until something may be due."""
        state = self._state(self._clock())
        if state != "ready" or not self.accepts:
            self._stopped.wait(_TICK_SECONDS if state != "ready" or self._held else _LOOK_SECONDS)
            return
        _readable([*self._listening(), *(held.connection for held in self._held)], _LOOK_SECONDS)
        if self._patience(state) != 0:
            self._stopped.wait(_NAP_SECONDS)

    def look(self) -> None:
        """Do what is due now."""
        now = self._clock()
        state = self._state(now)
        self._stalls.note(now, self._loop.beat(), blocked=state == "busy")
        if state == "busy" and not self.accepts:
            self.accepts = True
            self._loop.yield_accepting()
        self._accept(now, self._patience(state))
        if self._finishing:
            for listener in self._listeners:
                listener.close()
        if self._held:
            self._held = [held for held in self._held if self._goes_on(held, now, state)]

    def _state(self, now: float) -> State:
        if self._loop.loading():
            return "loading"
        return "busy" if now - self._loop.beat() > STALLED_SECONDS else "ready"

    def _patience(self, state: State) -> float | None:
        """How long a connection is left to others; None: until that changes."""
        if state == "loading":
            return 0.0 if self._loop.alone() else None
        if self._finishing:
            return 0.0
        if not self.accepts or (state == "ready" and self._waiting >= MOST_ADOPTED // 2):
            return None
        return self._loop.patience if state == "busy" or self._waiting else 0.0

    @property
    def _waiting(self) -> int:
        """How many connections the loop has not taken yet: if any, it does not move just now."""
        return self._handed - self.taken

    def _accept(self, now: float, patience: float | None) -> None:
        for listener in self._pending(now, patience):
            for _ in range(_ACCEPTED_A_LOOK):
                try:
                    connection, _address = listener.accept()
                except OSError as error:  # another worker was faster, or the listener was closed meanwhile
                    if error.errno in (errno.EMFILE, errno.ENFILE):
                        self._stopped.wait(_TICK_SECONDS)
                    break
                connection.setblocking(False)
                self._held.append(_Held(connection, now + HEAD_SECONDS))
        while len(self._held) > MOST_HELD:
            self._let_go(self._held.pop(0))

    def _pending(self, now: float, patience: float | None) -> list[Listener]:
        """Where a connection waits, and has done so at every look for as long as others are given."""
        if patience is None:
            self._seen.clear()
            return []
        self._seen = {each: self._seen.get(each, now) for each in _readable(self._listening(), 0)}
        return [listener for listener, since in self._seen.items() if now - since >= patience]

    def _listening(self) -> list[Listener]:
        return [listener for listener in self._listeners if listener.fileno() >= 0]

    def _goes_on(self, held: _Held, now: float, state: State) -> bool:
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
        return self._decided(held, data or b"", now, state)

    def _decided(self, held: _Held, data: bytes, now: float, state: State) -> bool:
        """Answered if that is due, or left to the loop (False), or not known yet."""
        request = parse(data)
        # A loop that moves can wait for the rest of a head by itself.
        late = now >= held.until or (state == "ready" and bool(data))
        if request is None and not late and (state == "loading" or not data or may_be_health(data)):
            return True
        answer = answer_to(request, state, self._loop.ready)
        if answer is not None and request is not None and not request.complete and not late:
            return True
        if answer is None and self._waiting >= MOST_ADOPTED:
            answer = _refusal("busy")
        if answer is None:
            self._let_go(held)
            return False
        if not data:  # nothing was asked, so nothing is answered
            held.connection.close()
            return False
        return _answered(held, answer, now, head_only=request is not None and request.method == "HEAD")

    def _let_go(self, held: _Held) -> None:
        """The connection is the loop's; while it has no server to put it in, nobody's."""
        done = held.answered or self._loop.loading() or self._stopped.is_set()
        if done or self._waiting >= MOST_ADOPTED:
            held.connection.close()
            return
        self._handed += 1
        try:
            self._loop.adopt(held.connection)
        except RuntimeError:  # the loop is closed
            held.connection.close()


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


def _readable(sockets: Iterable[Any], seconds: float) -> list[Any]:
    """Those with something to read or accept, as soon as there are any, at the latest after so long."""
    by_number = {each.fileno(): each for each in sockets}
    poll = select.poll()
    for number in by_number:
        poll.register(number, select.POLLIN)
    return [by_number[number] for number, event in poll.poll(seconds * 1000) if event & select.POLLIN]


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
