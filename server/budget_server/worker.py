"""gunicorn's worker: uvicorn on uvloop, with time limits for slow senders and errors in our shape.

uvicorn closes idle connections, but waits for ever for the rest of a request that has begun.
"""

import asyncio
import sys
from typing import Any, ClassVar

import orjson
from gunicorn.arbiter import Arbiter  # type: ignore[import-untyped]
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn_worker import UvicornWorker  # type: ignore[import-untyped]

from budget_server.listening import StoodInServer
from budget_server.standin import PATIENCE_SECONDS

HEAD_SECONDS = 10.0
"""For the head of a request."""
BODY_SECONDS = 20.0
"""Between two pieces of a body, and before the slowest rate counts."""
SLOWEST_BYTES_A_SECOND = 1024
MOST_DROPPED_BYTES = 64 * 2**20
"""Of a body that was answered already (413, 429, 401): more, and the connection is closed."""
_SWEEP_SECONDS = 1.0


def overdue(now: float, begun: float, last: float, received: int, *, head_complete: bool) -> str | None:
    """Why a request that is still being sent takes too long, else None.

    `begun`, `last` and `now` are seconds of one clock: its first byte, its latest one; `received` counts the
    body's bytes.
    """
    if not head_complete:
        late = now - begun > HEAD_SECONDS
        return f"The head of the request took more than {HEAD_SECONDS:g} s." if late else None
    if now - last > BODY_SECONDS:
        return f"Nothing of the body came for {BODY_SECONDS:g} s."
    if now - begun > BODY_SECONDS + received / SLOWEST_BYTES_A_SECOND:
        return f"The body came at less than {SLOWEST_BYTES_A_SECOND} bytes a second."
    return None


class Protocol(HttpToolsProtocol):
    """One connection, looked at once a second: a look costs a request nothing, a timer of its own would."""

    open: ClassVar[set["Protocol"]] = set()
    received = 0
    """Bytes of all bodies so far."""
    dropped = 0
    """Those among them that came after the answer."""
    _seen: object = None
    _begun = _last = _idle_since = 0.0
    _received_before = _received_seen = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._begun = self._last = self.loop.time()
        self.open.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.open.discard(self)
        super().connection_lost(exc)

    def on_body(self, body: bytes) -> None:
        """As uvicorn's, without its look for WebSockets: this is called for every request."""
        self.received += len(body)
        cycle = self.cycle
        if cycle.response_complete:
            self.dropped += len(body)
            if self.dropped > MOST_DROPPED_BYTES:
                self.transport.close()
            return
        cycle.body += body
        if len(cycle.body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        cycle.message_event.set()

    def on_response_complete(self) -> None:
        """As uvicorn's, without a timer for the end of keep-alive: `look` sees to that."""
        if self.pipeline:
            super().on_response_complete()
            return
        self.server_state.total_requests += 1
        self._idle_since = self.loop.time()
        if not self.transport.is_closing():
            self.flow.resume_reading()

    def look(self, now: float) -> None:
        """Close if the sender is too slow, or has asked nothing for as long as keep-alive goes."""
        cycle = self.cycle  # uvicorn makes a scope at the first byte, and a cycle for it after the head
        head_complete = cycle is not None and cycle.scope is self.scope
        if self.transport.is_closing():
            return
        if head_complete and not cycle.more_body:
            if cycle.response_complete and now - self._idle_since > self.timeout_keep_alive:
                self.transport.close()
            return
        if self._seen is not self.scope:
            self._seen, self._begun, self._last = self.scope, now, now
            self._received_before = self._received_seen = self.received
        if self._received_seen != self.received or self.flow.read_paused:  # paused: it is us who do not read
            self._received_seen, self._last = self.received, now
        received = self.received - self._received_before
        why = overdue(now, self._begun, self._last, received, head_complete=head_complete)
        if why is not None and self.scope is None:
            self.transport.close()  # nothing was asked, so nothing is answered
        elif why is not None:
            self._refuse(408, "RequestTimeout", why, answered=head_complete and cycle.response_started)

    def send_400_response(self, msg: str) -> None:
        """uvicorn's answer to what is not HTTP, in the shape of all our errors."""
        cycle = self.cycle
        under_way = cycle is not None and cycle.response_started and not cycle.response_complete
        self._refuse(400, "BadRequest", msg, answered=under_way)

    def _refuse(self, status: int, code: str, detail: str, *, answered: bool) -> None:
        if not answered:
            body = orjson.dumps({"code": code, "detail": detail})
            head = b"content-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n"
            self.transport.write(STATUS_LINE[status] + head % len(body) + body)
        self.transport.close()


class Worker(UvicornWorker):  # type: ignore[misc]
    """uvicorn under gunicorn."""

    CONFIG_KWARGS: ClassVar[dict[str, Any]] = {
        "loop": "uvloop",
        "http": Protocol,
        "ws": "none",
        "lifespan": "on",
        "proxy_headers": False,  # `throttle.client_of` reads what the front door says, where that matters
        "access_log": False,
        "server_header": False,
    }

    async def _serve(self) -> None:
        """What the base class does, with somebody to answer while the loop cannot."""
        self.config.app = self.wsgi
        parts = self.wsgi.parts
        server = StoodInServer(
            self.config,
            self.sockets,
            alone=lambda: not parts.board.any_loaded(),
            blockable=lambda: parts.host.on_loop,
            ready={"status": "ready", "revision": parts.settings.revision},
            patience=PATIENCE_SECONDS if self.cfg.workers > 1 else 0.0,
        )
        self._install_sigquit_handler()
        sweeper = asyncio.ensure_future(_sweep())
        await server.serve_listeners()
        sweeper.cancel()
        if not server.started:
            sys.exit(Arbiter.WORKER_BOOT_ERROR)


async def _sweep() -> None:
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(_SWEEP_SECONDS)
        for connection in list(Protocol.open):
            connection.look(loop.time())
