"""The ASGI application: the routes around one predictor, loaded before the worker accepts its first request.

`create_app` is the factory; gunicorn takes `budget_server.app:app`, which is made on first use.
"""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

from budget_server.auth import Auth
from budget_server.errors import CallerError, LoadFailed
from budget_server.predictor import PredictorHost, report_failure
from budget_server.routes import Parts, answer_error, router
from budget_server.settings import Settings

log = logging.getLogger("budget_server.app")


class ModelServer(FastAPI):
    """FastAPI that loads a model at startup and takes every path with or without a final slash."""

    parts: Parts
    on_outcome: Callable[[bool], None] | None = None
    """Told once whether the model was loaded."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        if scope["type"] == "http" and scope["path"].endswith("/"):
            # A redirect would turn some clients' POST into a GET.
            scope = {**scope, "path": scope["path"].rstrip("/") or "/"}
        await super().__call__(scope, receive, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        """The protocol itself: Starlette's own adds a traceback of the framework to the user's."""
        await receive()
        try:
            with _ended_by_sigterm():
                await self.parts.host.load()
        except LoadFailed as failure:
            log.error("%s\n%s", failure.message, failure.log)  # noqa: TRY400 - the log is the user's traceback
            report_failure(self.parts.settings.failure_file, failure)
            self._tell(loaded=False)
            await send({"type": "lifespan.startup.failed", "message": ""})
            return
        self._tell(loaded=True)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        self.parts.host.close()
        await send({"type": "lifespan.shutdown.complete"})

    def _tell(self, *, loaded: bool) -> None:
        if self.on_outcome is not None:
            self.on_outcome(loaded)


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """While loading there is nothing to drain; uvicorn's handler would wait for the load to end."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def create_app(settings: Settings | None = None, now: Callable[[], float] = time.time) -> ModelServer:
    """An application around the predictor that the settings (else the environment) name."""
    settings = settings or Settings.from_environment(os.environ)
    host = PredictorHost(settings.entrypoint, settings.code_dir, settings.threads)
    app = ModelServer(
        title=settings.name,
        version=settings.revision or "unversioned",
        redirect_slashes=False,
        redoc_url=None,
    )
    app.parts = app.state.parts = Parts(settings, Auth(settings, now), host)
    app.add_exception_handler(CallerError, answer_error)
    app.include_router(router)
    return app


def __getattr__(name: str) -> Any:
    """`app`, made when gunicorn asks for it: importing this module needs no environment."""
    if name != "app":
        raise AttributeError(name)
    made = globals()["app"] = create_app()
    return made
