"""The user's class: imported, loaded once per worker, asked.

Plain functions run in a bounded pool, so that a slow prediction never blocks the event loop and with it the
health routes. What the user's code raises is told as the user's own traceback, without our frames.
What it is handed is made in `inputs`, what it returns is encoded in `results`.
"""

import asyncio
import contextvars
import importlib
import inspect
import json
import logging
import os
import sys
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from starlette.exceptions import HTTPException
from starlette.responses import Response

from budget_server.errors import CallerError, LoadFailed, NotReady, PredictFailed
from budget_server.results import encode

MAX_LOG_BYTES = 4096
MAX_MESSAGE = 500
_OURS = (str(Path(__file__).parent), "<frozen importlib", str(importlib.__file__))

log = logging.getLogger("budget_server.predictor")


class PredictorHost:
    """One worker's predictor and the threads it runs in."""

    def __init__(self, entrypoint: str, code_dir: Path, threads: int) -> None:
        self._entrypoint = entrypoint
        self._code_dir = code_dir
        self._predictor: Any = None
        # load runs in this pool as well: with one thread, libraries that bind a model to a thread work.
        self._pool = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="predict")
        self.state: Literal["loading", "ready", "failed"] = "loading"
        self.reason = "The model is loading."

    async def load(self) -> None:
        """Import, make and load the predictor, or say why not."""
        try:
            predictor = await self._in_pool(lambda: make_predictor(self._entrypoint, self._code_dir))
            await self._call(predictor.load, then=lambda _nothing: None)
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            failure = _load_failure(self._entrypoint, error)
            self.state, self.reason = "failed", failure.message
            raise failure from None
        self._predictor = predictor
        self.state, self.reason = "ready", ""

    async def predict(self, given: object) -> Response:
        """The user's answer to one input, as a response."""
        if self.state != "ready":
            raise NotReady(self.reason)
        try:
            response: Response = await self._call(self._predictor.predict, given, then=encode)
        except (asyncio.CancelledError, HTTPException, CallerError):
            raise
        except BaseException as error:
            log.error("predict failed:\n%s", user_traceback(error))  # noqa: TRY400 - without our frames
            kind = type(error).__name__
            raise PredictFailed(f"The predictor failed with {kind}; the log has its traceback.") from None
        return response

    def close(self) -> None:
        """Let the threads end."""
        self._pool.shutdown(wait=False)

    async def _call(self, function: Callable[..., Any], *args: object, then: Callable[[Any], Any]) -> Any:
        """`then(function(*args))`, in one turn of the pool: a second would queue behind all waiting calls."""

        def turn() -> Any:
            result = function(*args)
            return result if inspect.isawaitable(result) else then(result)

        outcome = function(*args) if inspect.iscoroutinefunction(function) else await self._in_pool(turn)
        if not inspect.isawaitable(outcome):
            return outcome
        result = await outcome
        return await self._in_pool(lambda: then(result))

    async def _in_pool(self, function: Callable[[], Any]) -> Any:
        loop = asyncio.get_running_loop()
        context = contextvars.copy_context()
        result, error = await loop.run_in_executor(self._pool, context.run, _outcome, function)
        if error is not None:
            raise error
        return result


def _outcome(function: Callable[[], Any]) -> tuple[Any, BaseException | None]:
    """What happened, as a value: SystemExit or StopIteration through a future would end the worker."""
    try:
        return function(), None
    except StopIteration as error:  # no coroutine may raise it
        return None, RuntimeError("raised StopIteration").with_traceback(error.__traceback__)
    except BaseException as error:
        return None, error


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


def user_traceback(error: BaseException) -> str:
    """The traceback as the user would have seen it had they called the code themselves."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_OURS):
        trace = trace.tb_next
    return "".join(traceback.format_exception(type(error), error, trace)).rstrip()


def _load_failure(entrypoint: str, error: BaseException) -> LoadFailed:
    if isinstance(error, LoadFailed):
        return error
    summary = "".join(traceback.format_exception_only(error)[-1:]).strip()
    text = user_traceback(error).encode("utf-8", "replace")[-MAX_LOG_BYTES:].decode("utf-8", "ignore")
    return LoadFailed(f"{entrypoint} could not be loaded: {summary}"[:MAX_MESSAGE], text)


def report_failure(path: Path | None, failure: LoadFailed) -> None:
    """Tell process 1 why this generation never served; it looks for the file all the time it waits."""
    if path is None:
        return
    content = {"reason": failure.reason, "message": failure.message, "log": failure.log}
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.write_text(json.dumps(content), encoding="utf-8")
    draft.replace(path)
