"""A few threads for plain functions, handing results back to the event loop in handfuls.

asyncio's own executor wakes the loop once for every result and makes two futures with locks for each call:
most of the time of a small prediction. docs/serving.md has the figures.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")
_Call = tuple[Callable[[], Any], "asyncio.Future[Any]"]


class Threads:
    """`count` threads, started with the first call; the calls of one event loop."""

    def __init__(self, count: int, name: str) -> None:
        self.count = count
        self._name = name
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._ended: deque[tuple[asyncio.Future[Any], Any, BaseException | None]] = deque()
        self._awake = False
        self._loop: asyncio.AbstractEventLoop | None = None

    def run(self, function: Callable[[], T]) -> "asyncio.Future[T]":
        """The future of the function's result. Whatever it raises, SystemExit too, is raised there."""
        if self._loop is None:
            self._start(asyncio.get_running_loop())
        assert self._loop
        future: asyncio.Future[T] = self._loop.create_future()
        self._calls.put((function, future))
        return future

    def close(self) -> None:
        """The threads end after what was asked of them."""
        for _ in range(self.count):
            self._calls.put(None)

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        for number in range(self.count):
            threading.Thread(target=self._work, name=f"{self._name}-{number}", daemon=True).start()

    def _work(self) -> None:
        assert self._loop
        while (call := self._calls.get()) is not None:
            function, future = call
            if future.cancelled():
                continue
            self._ended.append((future, *_outcome(function)))
            if not self._awake:
                self._awake = True
                try:
                    self._loop.call_soon_threadsafe(self._hand_back)
                except RuntimeError:  # the loop is closed: nobody waits any more
                    return
            del call, function, future  # not kept alive while waiting for the next

    def _hand_back(self) -> None:
        self._awake = False  # before the look: what ends from now on wakes the loop again
        while self._ended:
            future, result, error = self._ended.popleft()
            if future.done():
                continue
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)


def _outcome(function: Callable[[], Any]) -> tuple[Any, BaseException | None]:
    """What happened, as a value: SystemExit would end the thread."""
    try:
        return function(), None
    except StopIteration as error:  # no future can hold it
        return None, RuntimeError("raised StopIteration").with_traceback(error.__traceback__)
    except BaseException as error:
        return None, error
