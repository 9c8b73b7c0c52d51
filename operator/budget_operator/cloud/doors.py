"""Connections to front doors, kept open from one request to the next: a TLS handshake costs both sides more
than all else that a probe does.

A kept connection proves less than a new one, so it may only confirm: whatever goes wrong with it is tried
again with a new one, and after some minutes a new one is made in any case. What is asked, and what the answer
means, is in `probe`.
"""

import resource
import select
import socket
import ssl
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from urllib.parse import urlsplit

import certifi

from budget_operator import exchange
from budget_operator.core.gateways import Door

CONNECT_SECONDS = 3.0
BODY_LIMIT = 64 * 1024
#: For so long one that is kept may be silent before a new one is tried.
_KEPT_SECONDS = 2.0
#: The same where many are asked at once, and none answers: the rest is asked alone, and holds nobody up.
_TOGETHER_SECONDS = 0.5
#: After so long the certificate is looked at again, and whether newcomers get in.
_OLDEST = 15 * 60.0
#: Caddy closes what was idle for five minutes.
_IDLEST = 4 * 60.0
_MOST = 4096


@dataclass(frozen=True)
class Request:
    """`kept`: it may go through a connection that is open already. It is made twice if that one fails."""

    method: str
    path: str
    seconds: float
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    kept: bool = False


@dataclass(frozen=True)
class Answer:
    """`body` is at most the first `BODY_LIMIT` bytes."""

    status: int
    body: bytes


class NoConnection(TimeoutError):
    """Nobody took the connection in time."""


class UnreadableAuthority(OSError):
    """The certificate of the authority to be trusted is none."""


@dataclass
class _Connection:
    """That is kept, and since when."""

    socket: socket.socket
    made_at: float
    used_at: float


class Doors:
    """Safe to share between workers; two requests to one door use two connections."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[Door, _Connection] = OrderedDict()  # the longest idle first
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._most = min(_MOST, files // 2)

    def ask(self, door: Door, request: Request) -> Answer:
        """To the known address under the public name: whether the name leads there is what the VM looks at.

        Raises:
            NoConnection, TimeoutError: no connection, or no answer, in time.
            UnreadableAuthority: what is to be trusted is no certificate.
            ssl.SSLError: the certificate is not valid, or TLS failed.
            OSError: the request failed in another way.
        """
        kept = self._taken(door) if request.kept else None
        if kept is not None:
            try:
                return self._answer(door, request, kept, min(_KEPT_SECONDS, request.seconds))
            except OSError:
                kept.socket.close()
        now = time.monotonic()
        made = _Connection(_connected(door, self._settings(door)), now, now)
        return self._answer(door, request, made, request.seconds)

    def ask_kept(self, doors: Sequence[Door], request: Request) -> Mapping[Door, Answer]:
        """The same request to many at once, over connections that are kept. Whoever has none is left out, and
        who has not answered once nobody did for half a second: a kept connection proves nothing against them.
        """
        asked: dict[int, _Asked] = {}
        answers: dict[Door, Answer] = {}
        poll = select.poll()
        for door in doors:
            kept = self._taken(door)
            if kept is not None and (found := _asked(door, request, kept)) is not None:
                asked[kept.socket.fileno()] = found
                poll.register(kept.socket, select.POLLIN)
        end = time.monotonic() + request.seconds
        until = time.monotonic() + _TOGETHER_SECONDS
        while asked and (left := min(until, end) - time.monotonic()) > 0:
            for number, _ in poll.poll(left * 1000):
                if asked[number].go_on():
                    poll.unregister(number)
                    self._end(asked.pop(number), answers)
                    until = time.monotonic() + _TOGETHER_SECONDS
        for each in asked.values():
            each.connection.socket.close()
        return answers

    def _end(self, asked: "_Asked", answers: dict[Door, Answer]) -> None:
        reading = asked.reading
        if reading.complete and len(reading.body) <= BODY_LIMIT:
            answers[asked.door] = Answer(reading.status, bytes(reading.body))
        if reading.complete and reading.reusable:
            self._keep(asked.door, asked.connection)
        else:
            asked.connection.socket.close()

    def _taken(self, door: Door) -> _Connection | None:
        now = time.monotonic()
        with self._lock:
            found = self._kept.get(door)
            if found is None:
                return None
            if now - found.made_at < _OLDEST and now - found.used_at < _IDLEST:
                return self._kept.pop(door)
        found.socket.close()  # it stays for its TLS settings, until a new one takes its place
        return None

    def _settings(self, door: Door) -> ssl.SSLContext | None:
        """Of the last connection: to make them anew takes a third of what a handshake does."""
        with self._lock:
            found = self._kept.get(door)
        last = None if found is None else found.socket
        return last.context if isinstance(last, ssl.SSLSocket) else None

    def _answer(self, door: Door, request: Request, connection: _Connection, seconds: float) -> Answer:
        sent = _sent(door, request)
        try:
            connection.socket.settimeout(seconds)
            # A VM that trickles or floods does not hold the operator up.
            until = time.monotonic() + seconds
            answer = exchange.exchange(connection.socket, sent, most=BODY_LIMIT, until=until)
        except BaseException:
            connection.socket.close()
            raise
        if request.kept and answer.reusable:
            self._keep(door, connection)
        else:
            connection.socket.close()
        return Answer(answer.status, answer.body)

    def _keep(self, door: Door, connection: _Connection) -> None:
        now = connection.used_at = time.monotonic()
        with self._lock:
            gone = [self._kept[door]] if door in self._kept else []
            self._kept[door] = connection
            self._kept.move_to_end(door)
            while len(self._kept) > self._most or next(iter(self._kept.values())).used_at < now - _IDLEST:
                gone.append(self._kept.popitem(last=False)[1])
        for each in gone:
            each.socket.close()


@dataclass
class _Asked:
    """A request over a connection that does not block, and what has come of its answer."""

    door: Door
    connection: _Connection
    reading: exchange.Reading = field(default_factory=exchange.Reading)

    def go_on(self) -> bool:
        """Read what is there; true at the end of the answer, or of all hope for one."""
        try:
            while not self.reading.complete and len(self.reading.body) <= BODY_LIMIT:
                self.reading.feed(self.connection.socket.recv(BODY_LIMIT))
        except (BlockingIOError, ssl.SSLWantReadError):
            return False
        except OSError:
            self.reading.complete = False
        return True


def _asked(door: Door, request: Request, kept: _Connection) -> _Asked | None:
    """None: the connection is not good any more."""
    try:
        kept.socket.settimeout(_TOGETHER_SECONDS)
        kept.socket.sendall(_sent(door, request))
        kept.socket.setblocking(False)
    except OSError:
        kept.socket.close()
        return None
    return _Asked(door, kept)


def _sent(door: Door, request: Request) -> bytes:
    headers = {"Host": urlsplit(door.url).netloc, **request.headers}
    return exchange.request(request.method, request.path, headers, request.body)


def _connected(door: Door, context: ssl.SSLContext | None) -> socket.socket:
    """`context`: TLS settings for this door, if there are any already."""
    url = urlsplit(door.url)
    if context is None and url.scheme == "https":
        context = _context(door.ca, public=door.public)
    port = url.port or (80 if context is None else 443)
    try:
        opened = socket.create_connection((door.ip, port), CONNECT_SECONDS)
        try:
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return context.wrap_socket(opened, server_hostname=url.hostname) if context else opened
        except BaseException:
            opened.close()
            raise
    except TimeoutError as error:
        raise NoConnection from error


@lru_cache(maxsize=256)
def _context(ca: str, *, public: bool) -> ssl.SSLContext:
    """TLS settings that trust `ca`, the public authorities, or both; the same for all doors with the same."""
    if public:
        context = ssl.create_default_context(cafile=certifi.where())
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if ca:
            context.load_verify_locations(cadata=ca)
    except ssl.SSLError as error:
        raise UnreadableAuthority from error
    return context
