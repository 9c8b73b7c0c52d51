"""gunicorn's worker: uvicorn on uvloop, with time limits for slow senders and errors in our shape.

uvicorn closes idle connections, but waits for ever for the rest of a request that has begun.
"""

import asyncio
import sys
from typing import Any, ClassVar

import orjson
from gunicorn.arbiter import Arbiter  # type: ignore[import-untyped]
from uvicorn import Server
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn_worker import UvicornWorker  # type: ignore[import-untyped]

from budget_server.standin import standing_in

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
        return (
            f"The head of the request took more than {HEAD_SECONDS:g} s."
            if now - begun > HEAD_SECONDS
            else None
        )
    if now - last > BODY_SECONDS:
        return f"Nothing of the body came for {BODY_SECONDS:g} s."
    if now - begun > BODY_SECONDS + received / SLOWEST_BYTES_A_SECOND:
        return f"The body came at less than {SLOWEST_BYTES_A_SECOND} bytes a second."
    return None


class Protocol(HttpToolsProtocol):
    """One connection. What is noted here is looked at once a second by `sweep`."""

    open: ClassVar[set["Protocol"]] = set()
    begun: float | None = None
    """When the request that is being received began; None between requests."""
    last: float | None = None
    received = 0
    head_complete = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.begun = self.loop.time()
        self.open.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.open.discard(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self.last = self.loop.time()
        super().data_received(data)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.begun, self.received, self.head_complete = self.last, 0, False

    def on_headers_complete(self) -> None:
        self.head_complete = True
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self.received += len(body)
        super().on_body(body)
        if self.cycle.response_complete and self.received > MOST_DROPPED_BYTES:
            self.transport.close()

    def on_message_complete(self) -> None:
        self.begun = None
        super().on_message_complete()

    def sweep(self, now: float) -> None:
        """Close if the sender is too slow."""
        if self.begun is None or self.transport.is_closing():
            return
        if self.flow.read_paused:
            self.last = now  # it is us who do not read
            return
        why = overdue(now, self.begun, self.last or now, self.received, head_complete=self.head_complete)
        if why is not None and self.last is None:
            self.transport.close()  # nothing was asked, so nothing is answered
        elif why is not None:
            self._refuse(408, "RequestTimeout", why)

    def send_400_response(self, msg: str) -> None:
        """uvicorn's answer to what is not HTTP, in the shape of all our errors."""
        self._refuse(400, "BadRequest", msg)

    def _refuse(self, status: int, code: str, detail: str) -> None:
        answered = self.begun is not None and self.head_complete and self.cycle.response_started
        if not answered:
            body = orjson.dumps({"code": code, "detail": detail})
            head = b"content-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(
                body
            )
            self.transport.write(STATUS_LINE[status] + head + body)
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
        server = Server(config=self.config)
        self._install_sigquit_handler()
        sweeper = asyncio.ensure_future(_sweep())
        board = self.wsgi.parts.board
        with standing_in(server, self.sockets, lambda: not server.started, lambda: not board.any_loaded()):
            await server.serve(sockets=self.sockets)
        sweeper.cancel()
        if not server.started:
            sys.exit(Arbiter.WORKER_BOOT_ERROR)


async def _sweep() -> None:
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(_SWEEP_SECONDS)
        for connection in list(Protocol.open):
            connection.sweep(loop.time())
