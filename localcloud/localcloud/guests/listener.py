"""The one listener for all simulated guests: a socket for each port, on every loopback address.

The address that a caller connected to says whom it means; where no VM is on, the connection is reset, as near
to an address without a machine as a shared socket gets. One thread serves all, and sleeps while nobody asks.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from localcloud.guests.conversation import Conversation
from localcloud.guests.guest import Guest

_BACKLOG = 1024
_HANDSHAKE_SECONDS = 10.0
_GOODBYE_SECONDS = 1.0
_IDLE_SECONDS = 300.0  # as the front door of a real one
_AFTER_AN_ERROR = 0.1
_RESET = struct.pack("ii", 1, 0)

At = Callable[[str], Guest | None]
Contexts = Callable[[tuple[str, ...]], ssl.SSLContext]


@dataclass(frozen=True)
class _Door:
    """One of the two ports."""

    socket: socket.socket
    encrypted: bool


class Listener:
    """`context.Background`. `ports` are those for HTTP and for TLS; `at` and `contexts` must not block."""

    def __init__(self, at: At, contexts: Contexts, ports: tuple[int, int]) -> None:
        self._at = at
        self._contexts = contexts
        self._ports = ports
        self._greeted: set[asyncio.Task[None]] = set()
        self._open: set[_Connection] = set()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        plain, encrypted = self._ports
        doors = [_Door(_listening(plain), encrypted=False), _Door(_listening(encrypted), encrypted=True)]
        self._loop = asyncio.new_event_loop()
        self._serving = self._loop.create_task(self._serve(doors))
        self._thread = threading.Thread(target=self._run, name="guests", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        if self._thread is not None:
            self._loop.call_soon_threadsafe(self._serving.cancel)
            self._thread.join()

    def _run(self) -> None:
        with suppress(asyncio.CancelledError):
            self._loop.run_until_complete(self._serving)
        self._loop.close()

    async def _serve(self, doors: list[_Door]) -> None:
        try:
            await asyncio.gather(*(self._accept(door) for door in doors))
        finally:
            for door in doors:
                door.socket.close()
            for connection in list(self._open):
                connection.abort()
            for task in self._greeted:
                task.cancel()
            await asyncio.gather(*self._greeted, return_exceptions=True)

    async def _accept(self, door: _Door) -> None:
        while True:
            try:
                taken, _ = await self._loop.sock_accept(door.socket)
            except OSError:  # the caller has gone already, or there are too many at a time
                await asyncio.sleep(_AFTER_AN_ERROR)
                continue
            address = taken.getsockname()[0]
            guest = self._at(address)
            if guest is None or (door.encrypted and not guest.is_encrypted):
                taken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                taken.close()
                continue
            task = self._loop.create_task(self._greet(taken, guest, door.encrypted))
            self._greeted.add(task)
            task.add_done_callback(self._greeted.discard)

    async def _greet(self, taken: socket.socket, guest: Guest, encrypted: bool) -> None:
        def connection() -> _Connection:
            conversation = Conversation(lambda: self._at(guest.address), encrypted=encrypted)
            return _Connection(conversation, self._open)

        with suppress(OSError):  # no handshake came about; whoever called knows why
            if encrypted:
                await self._loop.connect_accepted_socket(
                    connection,
                    taken,
                    ssl=self._contexts(guest.names),
                    ssl_handshake_timeout=_HANDSHAKE_SECONDS,
                    ssl_shutdown_timeout=_GOODBYE_SECONDS,
                )
            else:
                await self._loop.connect_accepted_socket(connection, taken)


class _Connection(asyncio.Protocol):
    """Carries a conversation's bytes; `kept` holds all connections that are open."""

    def __init__(self, conversation: Conversation, kept: set[_Connection]) -> None:
        self._conversation = conversation
        self._kept = kept
        self._transport: asyncio.Transport | None = None
        self._idle: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._kept.add(self)
        self._wait()

    def connection_lost(self, _: Exception | None) -> None:
        self._kept.discard(self)
        if self._idle is not None:
            self._idle.cancel()

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        if self._conversation.over:
            return
        self._wait()
        self._transport.write(self._conversation.receive(data))
        if self._conversation.over:
            self._transport.close()

    # A caller who does not read is not read from either.

    def pause_writing(self) -> None:
        assert self._transport is not None
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        assert self._transport is not None
        self._transport.resume_reading()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _wait(self) -> None:
        """Not for ever: from now on for so long until something comes."""
        if self._idle is not None:
            self._idle.cancel()
        self._idle = asyncio.get_running_loop().call_later(_IDLE_SECONDS, self.abort)


def _listening(port: int) -> socket.socket:
    """On all addresses, but only for callers on this machine: the loopback device is its only one."""
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    made.setblocking(False)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")
        made.bind(("0.0.0.0", port))  # noqa: S104 - see above
        made.listen(_BACKLOG)
    except OSError as error:
        made.close()
        what = f"Simulated guests cannot answer on port {port} ({error.strerror})"
        raise RuntimeError(f"{what}: it must be free, and this process allowed to take it") from error
    return made
