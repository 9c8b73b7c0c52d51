"""How the asynchronous side does what blocks: in worker threads for many callers, in place for one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Protocol, TypeVar

import anyio.to_thread

from localcloud.clock import Clock

T = TypeVar("T")


class Blocking(Protocol):
    async def run(self, work: Callable[..., T], *args: object) -> T:
        """What `work` returns, or raises."""

    async def sleep(self, seconds: float) -> None:
        """Let the caller of an API wait."""


class InThreads:
    """For a server."""

    async def run(self, work: Callable[..., T], *args: object) -> T:
        return await anyio.to_thread.run_sync(work, *args)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class InPlace:
    """For a caller in the same process, who is blocked anyway, and whose time is the cloud's."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    async def run(self, work: Callable[..., T], *args: object) -> T:
        return work(*args)

    async def sleep(self, seconds: float) -> None:
        self._clock.wait(seconds, threading.Event())
