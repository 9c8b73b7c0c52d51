"""uvicorn's server in a gunicorn worker, sharing the work of accepting with a stand-in.

uvicorn is given copies of gunicorn's listening sockets, so that it can stop accepting while the worker goes
on. When and what the stand-in accepts is its own affair (`standin`); here is how it reaches the event loop.
"""

import asyncio
import functools
import socket
import time
from collections.abc import Callable, Iterable
from typing import Any

from uvicorn import Config, Server

from budget_server.standin import PATIENCE_SECONDS, Content, Loop, StandIn

BEAT_SECONDS = 0.1
_TURNS_TO_READ = 5
"""Of the event loop, until a connection that it was handed has been read."""


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


class StoodInServer(Server):
    """`blockable()` tells, once the model is loaded, whether the predictor runs on the event loop."""

    def __init__(
        self,
        config: Config,
        listeners: Iterable[Any],
        *,
        alone: Callable[[], bool],
        blockable: Callable[[], bool],
        ready: Content,
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        super().__init__(config)
        # gunicorn's wrappers log a second closing as an error.
        self._listeners: list[socket.socket] = [getattr(each, "sock", each) for each in listeners]
        self._blockable = blockable
        self._loop = asyncio.get_running_loop()
        self._beat = Heartbeat()
        self._adopting: set[asyncio.Task[None]] = set()
        seen = Loop(
            beat=self._beat,
            loading=lambda: not self.started,
            alone=alone,
            yield_accepting=lambda: self._in_loop(self._stop_accepting),
            adopt=lambda connection: self._in_loop(self._adopt, connection),
            ready=ready,
            patience=patience,
        )
        self._stand_in = StandIn(self._listeners, seen)

    async def serve_listeners(self) -> None:
        """Serve until told to stop."""
        self._beat.start(self._loop)
        self._stand_in.start()
        try:
            await self.serve([listener.dup() for listener in self._listeners])
        finally:
            self._stand_in.stop()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._blockable():
            self._stop_accepting()
            self._stand_in.accepts = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._stand_in.finish()
        self._stop_accepting()
        # uvicorn closes connections that have asked nothing: what is under way is read before that.
        await asyncio.sleep(BEAT_SECONDS)
        for _ in range(_TURNS_TO_READ):
            await asyncio.sleep(0)
        await super().shutdown(sockets)

    def _stop_accepting(self) -> None:
        for server in self.servers:
            server.close()

    def _in_loop(self, do: Callable[..., None], *given: Any) -> None:
        self._loop.call_soon_threadsafe(do, *given)

    def _adopt(self, connection: socket.socket) -> None:
        self._stand_in.taken += 1
        task = self._loop.create_task(self._adopted(connection))
        self._adopting.add(task)
        task.add_done_callback(self._adopting.discard)

    async def _adopted(self, connection: socket.socket) -> None:
        """Serve the connection as if uvicorn had accepted it."""
        protocol_class: Any = self.config.http_protocol_class
        make = functools.partial(
            protocol_class,
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
        )
        _transport, protocol = await self._loop.connect_accepted_socket(make, connection)
        if self.should_exit:
            # uvicorn has already told its connections to end; the request is read first.
            await asyncio.sleep(BEAT_SECONDS)
            protocol.shutdown()
