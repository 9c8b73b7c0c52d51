"""The user's class: imported, loaded once per worker, asked.

Plain functions run in threads, so that a slow prediction never blocks the event loop and with it the health
routes. What the user's code raises is told as the user's own traceback, without our frames and the payload.
What it is handed is made in `inputs`, what it returns is encoded in `results` and `streaming`.
"""

import asyncio
import errno
import importlib
import inspect
import json
import logging
import os
import sys
import time
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Literal, NoReturn

from starlette.exceptions import HTTPException
from starlette.responses import Response

from budget_server.batching import Batcher
from budget_server.errors import (
    CallerError,
    DiskFull,
    LoadFailed,
    NotReady,
    OutOfMemory,
    PredictFailed,
    Refused,
)
from budget_server.redaction import redact
from budget_server.results import Encoded, encode, quick
from budget_server.streaming import Stream, is_stream, open_stream
from budget_server.threads import Threads

# More than process 1 tells: it masks secrets before it cuts, and half a secret is not masked.
MAX_LOG_BYTES = 16_384
MAX_MESSAGE = 4000
_OURS = (str(Path(__file__).parent), "<frozen importlib", str(importlib.__file__))

Answer = Encoded | Response | Stream
Call = Callable[[Any], Awaitable[Answer]]
Convert = Callable[[Any, Callable[[Any], Encoded]], Awaitable[Encoded]]

log = logging.getLogger("budget_server.predictor")


@dataclass(frozen=True)
class Batching:
    """How calls of predict_batch are made up: most items, and seconds to wait for company."""

    size: int = 32
    window: float = 0.005


class PredictorHost:
    """One worker's predictor and the threads it runs in."""

    def __init__(
        self, entrypoint: str, code_dir: Path, threads: int, batching: Batching = Batching()
    ) -> None:
        self._entrypoint = entrypoint
        self._code_dir = code_dir
        self._batching = batching
        # load runs in these threads as well: with one, libraries that bind a model to a thread work.
        self.threads = Threads(threads, "predict")
        self.on_batch: Callable[[int], None] = lambda _size: None
        self.on_exception: Callable[[], None] = lambda: None
        self._predict: Call = self._not_ready
        self._predict_item: Call = self._not_ready
        self._convert: Convert = self._not_ready
        self.state: Literal["loading", "ready", "failed"] = "loading"
        self.reason = "The model is loading."
        self.load_seconds = 0.0
        self.on_loop = False
        """Whether the predictor's own code runs on the event loop, and so can block it."""

    async def load(self) -> None:
        """Import, make and load the predictor, or say why not."""
        began = time.perf_counter()
        try:
            predictor = await self.threads.run(lambda: make_predictor(self._entrypoint, self._code_dir))
            load = predictor.load
            outcome = load() if inspect.iscoroutinefunction(load) else await self.threads.run(load)
            if inspect.isawaitable(outcome):
                await outcome
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            failure = _load_failure(self._entrypoint, error)
            self.state, self.reason = "failed", failure.message
            raise failure from None
        self._predict = self._predict_item = self._single(predictor.predict)
        self._convert = self._converting(predictor.predict)
        batch = getattr(predictor, "predict_batch", None)
        self.on_loop = any(map(_is_async, (predictor.predict, batch)))
        if callable(batch):
            submit = self._batcher(batch).submit
            self._predict_item = self._encoded(submit)
            self._convert = self._converting(submit)
        self.load_seconds = time.perf_counter() - began
        self.state, self.reason = "ready", ""

    async def predict(self, given: object) -> Answer:
        """The user's answer to one input."""
        try:
            return await self._predict(given)
        except BaseException as error:
            raise self.failure(error, given) from None

    async def predict_item(self, given: object) -> Answer:
        """The same for inputs that may share a call of predict_batch."""
        try:
            return await self._predict_item(given)
        except BaseException as error:
            raise self.failure(error, given) from None

    async def convert(self, given: object, then: Callable[[Any], Encoded]) -> Encoded:
        """As `predict_item`, with the value encoded by `then`."""
        try:
            return await self._convert(given, then)
        except BaseException as error:
            raise self.failure(error, given) from None

    def close(self) -> None:
        """Let the threads end."""
        self.threads.close()

    async def _not_ready(self, *_given: object) -> NoReturn:
        raise NotReady(self.reason)

    def _single(self, predict: Callable[[Any], Any]) -> Call:
        if inspect.iscoroutinefunction(predict):
            return self._encoded(predict)
        if inspect.isasyncgenfunction(predict):
            return lambda given: self._finish(predict(given))

        def turn(given: Any) -> Any:
            """Encoded in the same turn of the thread: a second would queue behind all waiting calls."""
            value = predict(given)
            if inspect.isawaitable(value) or is_stream(value) or isinstance(value, Response):
                return value
            return quick(value) or encode(value)

        async def in_thread(given: Any) -> Answer:
            value = await self.threads.run(lambda: turn(given))
            return value if type(value) is Encoded else await self._finish(value)

        return in_thread

    def _converting(self, predict: Callable[[Any], Any]) -> Convert:
        if inspect.iscoroutinefunction(predict):

            async def on_loop(given: Any, then: Callable[[Any], Encoded]) -> Encoded:
                return then(await predict(given))

            return on_loop

        async def in_thread(given: Any, then: Callable[[Any], Encoded]) -> Encoded:
            def turn() -> Any:
                value = predict(given)
                return value if inspect.isawaitable(value) else then(value)

            value = await self.threads.run(turn)
            return value if isinstance(value, Encoded) else then(await value)

        return in_thread

    def _encoded(self, ask: Callable[[Any], Awaitable[Any]]) -> Call:
        async def answer(given: Any) -> Answer:
            value = await ask(given)
            return quick(value) or await self._finish(value)

        return answer

    def _batcher(self, predict_batch: Callable[[list[Any]], Any]) -> Batcher:
        if inspect.iscoroutinefunction(predict_batch):
            call = predict_batch
        else:

            async def call(items: list[Any]) -> Any:
                results = await self.threads.run(lambda: predict_batch(items))
                return await results if inspect.isawaitable(results) else results

        return Batcher(
            call,
            self._batching.size,
            self._batching.window,
            self.threads.count,
            lambda size: self.on_batch(size),  # noqa: PLW0108 - the board comes later
        )

    async def _finish(self, value: Any) -> Answer:
        """What is not plain JSON: awaited, streamed, the user's own response, or encoded in a thread."""
        if inspect.isawaitable(value):
            value = await value
            if (encoded := quick(value)) is not None:
                return encoded
        if isinstance(value, Response):
            return value
        if is_stream(value):
            return await open_stream(value, self.threads.run)
        return await self.threads.run(lambda: encode(value))

    def failure(self, error: BaseException, given: object) -> BaseException:
        """What the caller is told; what is not the predictor's doing is passed on."""
        if isinstance(error, CallerError):
            return error
        if isinstance(error, HTTPException):
            return Refused(error)
        if isinstance(error, asyncio.CancelledError) and _is_cancelled():
            return error
        self.on_exception()
        payload = getattr(given, "received", given)
        log.error("predict failed:\n%s", user_traceback(error, payload))
        kind = type(error).__name__
        return PredictFailed(f"The predictor failed with {kind}; the log has its traceback.")


def _is_async(function: object) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)


def _is_cancelled() -> bool:
    """Whether this task was told to end, as opposed to the user's code raising CancelledError."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def make_predictor(entrypoint: str, code_dir: Path) -> Any:
    """An instance of the entrypoint's class."""
    module_name, _, class_name = entrypoint.partition(":")
    if str(code_dir) not in sys.path:
        sys.path.insert(0, str(code_dir))
    module = importlib.import_module(module_name)
    _lend_names_to_main(module)
    try:
        made = getattr(module, class_name)()
    except AttributeError:
        if hasattr(module, class_name):
            raise
        raise LoadFailed(f"{entrypoint}: the module {module_name} has no class {class_name}.", "") from None
    for method in ("load", "predict"):
        if not callable(getattr(made, method, None)):
            raise LoadFailed(f"{entrypoint}: the class {class_name} has no method {method}.", "")
    return made


def _lend_names_to_main(module: ModuleType) -> None:
    """A pickle made by a training script looks for its helpers in __main__, which is gunicorn here."""
    main = sys.modules["__main__"]
    for name, value in vars(module).items():
        if not name.startswith("__"):
            setattr(main, name, value)


def user_traceback(error: BaseException, payload: object = None) -> str:
    """The traceback as the user would have seen it had they called the code themselves.

    What the messages quote of a payload is left out.
    """
    told = traceback.TracebackException(type(error), error, _theirs(error), compact=True)
    if payload is not None:
        _redact(told, payload)
    return "".join(told.format()).rstrip()


def _theirs(error: BaseException) -> TracebackType | None:
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_OURS):
        trace = trace.tb_next
    return trace


def _redact(told: traceback.TracebackException, payload: object) -> None:
    told._str = redact(str(told), payload)  # type: ignore[attr-defined]
    for cause in (told.__cause__, told.__context__):
        if cause is not None:
            _redact(cause, payload)


def _load_failure(entrypoint: str, error: BaseException) -> LoadFailed:
    if isinstance(error, LoadFailed):
        return error
    summary = "".join(traceback.format_exception_only(error)[-1:]).strip()
    text = user_traceback(error).encode("utf-8", "replace")[-MAX_LOG_BYTES:].decode("utf-8", "ignore")
    return _kind_of_failure(error)(f"{entrypoint} could not be loaded: {summary}"[:MAX_MESSAGE], text)


def _kind_of_failure(error: BaseException) -> type[LoadFailed]:
    """By what it says itself, or by what caused it: libraries wrap the errors of the system."""
    link: BaseException | None = error
    for _ in range(20):  # a chain may be a circle
        if link is None:
            break
        number = link.errno if isinstance(link, OSError) else None
        if isinstance(link, MemoryError) or number == errno.ENOMEM:
            return OutOfMemory
        if number in (errno.ENOSPC, errno.EDQUOT):
            return DiskFull
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    return LoadFailed


def report_failure(path: Path | None, failure: LoadFailed) -> None:
    """Tell process 1 why this generation never served; it looks for the file all the time it waits."""
    if path is None:
        return
    content = {"reason": failure.reason, "message": failure.message, "log": failure.log}
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.write_text(json.dumps(content), encoding="utf-8")
    draft.replace(path)
