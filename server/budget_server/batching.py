"""Calls that come one at a time, handed to the predictor several at a time.

`Batcher` decides when a batch goes and who is in it, and gives every caller its own result or its own
error. What runs the batch (`predict_batch`, in a thread or on the loop) is handed in by `predictor`.
All of it lives on one event loop, so nothing here needs a lock.
"""

import asyncio
import contextvars
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Set
from typing import Any

from budget_server.errors import BudgetServerError

# The fast loop counts time in milliseconds: a timer may ring, and sums of times may end, this much early.
_EARLY = 0.0005

_Waiting = tuple["asyncio.Future[Any]", Any]


class WrongResults(BudgetServerError):
    """predict_batch did not return one result per input."""


class Batcher:
    """Gathers what is submitted while calls run; a call that comes when nothing runs waits for nobody."""

    def __init__(
        self,
        call: Callable[[list[Any]], Awaitable[Any]],
        max_size: int,
        window: float,
        threads: int,
        on_batch: Callable[[int], None],
    ) -> None:
        self._call = call
        self._max_size = max_size
        self._window = window
        self._threads = threads
        self._on_batch = on_batch
        # Oldest first: each caller's future, its item and when it came.
        self._waiting: OrderedDict[asyncio.Future[Any], tuple[Any, float]] = OrderedDict()
        self._running: dict[asyncio.Task[None], list[_Waiting]] = {}
        self._woken = False
        self._timed = False
        # A batch belongs to several requests, so it runs in the context of none of them: what wakes this
        # object first passes it on to all that follows.
        self._context = contextvars.copy_context()

    async def submit(self, item: Any) -> Any:
        """The result for this item, or the error that it alone causes."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self._waiting[future] = (item, loop.time())
        if not self._woken and len(self._running) < self._threads:
            # Not at once: what arrives in the same turn of the loop shares the batch.
            self._woken = True
            loop.call_soon(self._on_turn, context=self._context)
        try:
            return await future
        except asyncio.CancelledError:
            self._waiting.pop(future, None)
            raise
        finally:
            # The error's traceback holds this frame: without the cycle, all of it is freed at once.
            del item, future

    def _on_turn(self) -> None:
        self._woken = False
        self._fill()

    def _on_time(self) -> None:
        self._timed = False
        self._fill()

    def _fill(self) -> None:
        """Start every batch that may go now; have the loop come back when the next may."""
        if not self._running:
            self._start()
        while self._waiting and len(self._running) < self._threads:
            loop = asyncio.get_running_loop()
            due = next(iter(self._waiting.values()))[1] + self._window
            if len(self._waiting) < self._max_size and loop.time() < due - _EARLY:
                if not self._timed:
                    self._timed = True
                    loop.call_at(due, self._on_time)
                return
            self._start()

    def _start(self) -> None:
        """Let the oldest go, as many as one batch holds."""
        batch: list[_Waiting] = []
        while self._waiting and len(batch) < self._max_size:
            future, (item, _) = self._waiting.popitem(last=False)
            batch.append((future, item))
        if batch:
            task = asyncio.get_running_loop().create_task(self._ask(batch))
            self._running[task] = batch
            task.add_done_callback(self._on_end)

    def _on_end(self, task: "asyncio.Task[None]") -> None:
        all_were_busy = len(self._running) == self._threads
        batch = self._running.pop(task)
        error = None if task.cancelled() else task.exception()
        for future, _ in batch:
            # Only where the batch was ended from outside, or by an error of this module.
            if error is not None:
                _fail(future, error)
            else:
                future.cancel()
        if all_were_busy:
            self._start()
        self._fill()

    async def _ask(self, batch: list[_Waiting]) -> None:
        """Call; whatever fails is halved and called again, until the bad item stands alone."""
        if live := _live(batch):
            self._on_batch(len(live))
        parts = [live]
        while parts:
            if not (part := _live(parts.pop())):
                continue
            try:
                results = _checked(await self._call([item for _, item in part]), len(part))
            except BaseException as error:  # SystemExit as well: it is one item's error, not the worker's end
                if isinstance(error, GeneratorExit) or _is_cancelled():
                    raise
                if len(part) == 1:
                    _fail(part[0][0], error)
                else:
                    half = len(part) // 2
                    parts += [part[half:], part[:half]]
                continue
            for (future, _), result in zip(part, results, strict=True):
                if isinstance(result, Exception):
                    _fail(future, result)
                elif not future.done():
                    future.set_result(result)


def _live(batch: list[_Waiting]) -> list[_Waiting]:
    return [waiting for waiting in batch if not waiting[0].done()]


def _checked(results: Any, count: int) -> list[Any]:
    """One result per input, from a list, a tuple, an array: whatever has a length and an order."""
    kind = type(results).__name__
    # A data frame is iterated by columns, which are not the inputs' results even where the number fits.
    if isinstance(results, str | bytes | bytearray | Mapping | Set) or hasattr(results, "columns"):
        raise WrongResults(f"predict_batch returned {kind}; return a list with one result per input.")
    try:
        len(results)
        found = list(results)
    except TypeError:
        raise WrongResults(
            f"predict_batch returned {kind}; return a list with one result per input."
        ) from None
    if len(found) != count:
        raise WrongResults(
            f"predict_batch returned {len(found)} results for {count} inputs; return one result per input, "
            "in the same order."
        )
    return found


def _is_cancelled() -> bool:
    """Whether this batch was told to end, as opposed to the user's code raising CancelledError."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _fail(future: "asyncio.Future[Any]", error: BaseException) -> None:
    if future.done():
        return
    error.__traceback__ = _theirs(error)
    if isinstance(error, StopIteration):  # a future refuses it, since awaiting it would look like a return
        told = RuntimeError("predict_batch failed an item with StopIteration")
        told.__cause__ = error
        error = told
    future.set_exception(error)


def _theirs(error: BaseException) -> Any:
    """The traceback below our own frames.

    Those hold every caller's item; and an instance that the predictor returns again and again would gather
    the frames of each request that it failed.
    """
    ours = (Batcher.submit.__code__, Batcher._ask.__code__)
    theirs = trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code in ours:
            theirs = trace.tb_next
        trace = trace.tb_next
    return theirs
