"""The ASGI application: which route is answered where, around one predictor.

The predict routes are `endpoints`, asked directly; every other route is FastAPI's, in `routes`. The model is
loaded before the worker accepts its first request. `create_app` is the factory; gunicorn takes
`budget_server.app:app`, which is made on first use.
"""

import gc
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from budget_server import openapi, routes
from budget_server.auth import Auth
from budget_server.endpoints import Parts, Predict, predict_endpoints
from budget_server.errors import LoadFailed
from budget_server.limits import Admission
from budget_server.metrics import OTHER, ROUTE_INDEX
from budget_server.predictor import Batching, PredictorHost, report_failure
from budget_server.settings import Settings
from budget_server.throttle import LOGINS, TOKENS, Throttle

log = logging.getLogger("budget_server.app")


class ModelServer(FastAPI):
    """FastAPI that loads a model at startup and takes every path with or without a final slash."""

    parts: Parts
    predictors: dict[str, Predict]

    def __init__(self, parts: Parts) -> None:
        super().__init__(
            title=parts.settings.name,
            version=parts.settings.revision or "unversioned",
            openapi_tags=openapi.TAGS,
            redirect_slashes=False,
            docs_url=None,
            redoc_url=None,
        )
        self.parts = self.state.parts = parts
        parts.app = self
        self.predictors = predict_endpoints(parts)
        self._asked: dict[str, ASGIApp] = {}
        for path, predict in self.predictors.items():
            self._asked[path] = self._asked[f"{path}/"] = predict
        routes.install(self)
        self._guard: ASGIApp | None = None
        if origins := parts.settings.cors_origins:
            headers = ["authorization", "content-type"]
            self._guard = CORSMiddleware(self._answer, origins, allow_methods=["*"], allow_headers=headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            if self._guard is None:
                await self._asked.get(scope["path"], self._counted)(scope, receive, send)
            else:
                await self._guard(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._lifespan(receive, send)

    def openapi(self) -> dict[str, Any]:
        """FastAPI's description of its own routes, and ours of the predictor's."""
        if self.openapi_schema is None:
            self.openapi_schema = openapi.extended(super().openapi(), self.predictors)
        return self.openapi_schema

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._asked.get(scope["path"], self._counted)(scope, receive, send)

    async def _counted(self, scope: Scope, receive: Receive, send: Send) -> None:
        """FastAPI's own routes; counted under the path that the matching route was declared with."""
        path = scope["path"]
        if path.endswith("/"):
            # A redirect would turn some clients' POST into a GET.
            scope = {**scope, "path": path.rstrip("/") or "/"}
        began, status = time.perf_counter(), 500

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await super().__call__(scope, receive, watched)
        finally:
            declared = str(getattr(scope.get("route"), "path", scope["path"]))
            route = ROUTE_INDEX.get(declared.replace("/versions/{version}", ""), OTHER)
            self.parts.slot.answered(route, status, time.perf_counter() - began)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        """The protocol itself: Starlette's own adds a traceback of the framework to the user's."""
        await receive()
        host, slot = self.parts.host, self.parts.slot
        try:
            with _ended_by_sigterm():
                await host.load()
        except LoadFailed as failure:
            log.error("%s\n%s", failure.message, failure.log)  # noqa: TRY400 - the log is the user's traceback
            report_failure(self.parts.settings.failure_file, failure)
            slot.told()
            await send({"type": "lifespan.startup.failed", "message": ""})
            return
        slot.loaded(host.load_seconds)
        # What is there now stays: the collector need not look at it, a large model least of all.
        gc.collect()
        gc.freeze()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        host.close()
        await send({"type": "lifespan.shutdown.complete"})


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
    batching = Batching(settings.batch_size, settings.batch_window_ms / 1000)
    parts = Parts(
        settings,
        Auth(settings, now),
        PredictorHost(settings.entrypoint, settings.code_dir, settings.threads, batching),
        Admission(settings.max_concurrency, settings.max_queue),
        Throttle(LOGINS),
        Throttle(TOKENS),
    )
    return ModelServer(parts)


def __getattr__(name: str) -> Any:
    """`app`, made when gunicorn asks for it: importing this module needs no environment."""
    if name != "app":
        raise AttributeError(name)
    made = globals()["app"] = create_app()
    return made
