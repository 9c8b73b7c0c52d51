"""How much at a time: bodies, running predictions, waiting ones.

Slow senders are the business of `worker`, repeated login failures that of `throttle`.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope

from budget_server.errors import BodyTooLarge, TooManyRequests

Noted = Callable[[int, int], None]


class Admission:
    """At most `running` predictions at a time and `queue` waiting; the next is refused.

    One event loop, so no locks. `admit` comes before the body is received, `turn` after it: who uploads
    slowly takes a place in the queue, not one of those that run.
    """

    def __init__(self, running: int, queue: int) -> None:
        self._most_running = running
        self._most = running + queue
        self.admitted = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self.running = 0

    @property
    def queued(self) -> int:
        """Those that were admitted and do not run: waiting for their turn, or still sending."""
        return self.admitted - self.running

    def admit(self) -> None:
        if self.admitted >= self._most:
            raise TooManyRequests(f"{self._most} requests are running or waiting already; try again.")
        self.admitted += 1

    def leave(self) -> None:
        """The counterpart of `admit`."""
        self.admitted -= 1

    def turn(self) -> Awaitable[None] | None:
        """None: it is your turn now. Else await this; cancelled, it takes no turn."""
        if self.running < self._most_running:
            self.running += 1
            return None
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        return self._wait(turn)

    def done(self) -> None:
        """The counterpart of `turn`: the longest waiting is next."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self.running -= 1

    async def _wait(self, turn: "asyncio.Future[None]") -> None:
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.done()  # it was given a turn that it will not use
            raise


async def turn_or_gone(turn: Awaitable[None], receive: Receive) -> bool:
    """Wait for one's turn, the body being received; False if the caller hangs up before."""
    mine, gone = asyncio.ensure_future(turn), asyncio.ensure_future(receive())
    try:
        await asyncio.wait({mine, gone}, return_when=asyncio.FIRST_COMPLETED)
        return mine.done()
    finally:
        gone.cancel()
        if not mine.done():
            mine.cancel()


def check_length(scope: Scope, most: int) -> None:
    """Refuse by the declared length, before anything is received."""
    for name, value in scope["headers"]:
        if name == b"content-length" and int(value) > most:
            raise too_large(most)


async def read_body(receive: Receive, most: int) -> bytes:
    """The whole body, or BodyTooLarge as soon as it is more."""
    message = await receive()
    body: bytes = message.get("body", b"")
    if message.get("more_body"):
        return await _read_on(body, receive, most)
    if message["type"] == "http.disconnect":
        raise ClientDisconnect
    if len(body) > most:
        raise too_large(most)
    return body


async def _read_on(first: bytes, receive: Receive, most: int) -> bytes:
    body, more = bytearray(first), True
    while more and len(body) <= most:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        body += message.get("body", b"")
        more = message.get("more_body", False)
    if len(body) > most:
        raise too_large(most)
    return bytes(body)


def too_large(most: int) -> BodyTooLarge:
    size = f"{most / 2**20:g} MiB" if most >= 2**20 else f"{most} bytes"
    return BodyTooLarge(f"The body is larger than {size}, the most that is taken here.")
