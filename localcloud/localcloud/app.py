"""The one HTTP application: services on their paths, faults and journal around every call.

`build_context` makes the ground from settings, `create_app` mounts everything on it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import anyio.to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from localcloud import control, metadata
from localcloud.clock import Clock, SystemClock, rfc3339
from localcloud.context import Context
from localcloud.errors import ApiError
from localcloud.faults import CallFault, Faults
from localcloud.journal import Journal
from localcloud.names import Names, Resolver, host_resolver
from localcloud.services import compute, functions, pubsub, scheduler, storage
from localcloud.settings import Settings
from localcloud.store import Store
from localcloud.vm import VmBackend

CONTROL = "/_localcloud/"
_LEGACY = ("/compute/", "/storage/", "/upload/", "/download/", "/computeMetadata/")
_PARTS = (
    compute.routes,
    storage.routes,
    pubsub.routes,
    scheduler.routes,
    functions.routes,
    metadata.routes,
    control.routes,
)


def build_context(settings: Settings, clock: Clock | None = None, vms: VmBackend | None = None) -> Context:
    settings.home.mkdir(parents=True, exist_ok=True)
    store = Store(settings.home / "store.db")
    context = Context(
        settings=settings,
        clock=clock or SystemClock(),
        store=store,
        journal=Journal(settings.home / "journal.db"),
        faults=Faults(store),
        names=Names(store),
        vms=vms or _backend(settings, store),
    )
    resolver = Resolver((settings.host, settings.port), context.names, host_resolver())
    context.registry.background.append(resolver)
    return context


def _backend(settings: Settings, store: Store) -> VmBackend:
    if settings.backend == "docker":
        from localcloud.vm.docker import DockerBackend

        return DockerBackend(settings)
    from localcloud.vm.simulated import SimulatedBackend

    return SimulatedBackend(store)


def create_app(context: Context) -> Starlette:
    app = Starlette(
        routes=_routes(context),
        exception_handlers={ApiError: _api_error, HTTPException: _http_error},
        lifespan=_lifespan(context),
    )
    app.add_middleware(Gate, context=context)
    return app


def _routes(context: Context) -> list[BaseRoute]:
    return [route for part in _PARTS for route in part(context)]


def _lifespan(context: Context) -> Callable[[Starlette], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = 100
        for background in context.registry.background:
            await asyncio.to_thread(background.start)
        try:
            yield
        finally:
            for background in reversed(context.registry.background):
                await asyncio.to_thread(background.stop)

    return lifespan


def _render(path: str, error: ApiError) -> Response:
    body = error.legacy() if path.startswith(_LEGACY) else error.rpc()
    return JSONResponse(body, status_code=error.code)


async def _api_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return _render(request.url.path, error)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    reason = {404: "notFound", 405: "methodNotAllowed"}.get(error.status_code, "invalid")
    message = f"localcloud does not know {request.method} {request.url.path}"
    return _render(request.url.path, ApiError(error.status_code, reason, message))


class Gate:
    """Around every call: faults asked for are made, and what was answered is written to the journal."""

    def __init__(self, app: ASGIApp, context: Context) -> None:
        self._app = app
        self._context = context

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(CONTROL):
            await self._app(scope, receive, send)
            return
        status = 500

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._answer(scope, receive, watched)
        finally:
            await asyncio.to_thread(self._record, scope, status)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        fault = await asyncio.to_thread(self._context.faults.take, scope["method"], scope["path"])
        if fault is None:
            await self._app(scope, receive, send)
            return
        if fault.latency:
            await asyncio.sleep(fault.latency)
        if fault.code == 0:
            await self._app(scope, receive, send)
            return
        if fault.when == "after":
            await self._app(scope, receive, _swallow)
        await _failure(scope["path"], fault)(scope, receive, send)

    def _record(self, scope: Scope, status: int) -> None:
        headers = dict(scope["headers"])
        query = scope["query_string"].decode("latin-1")
        path = scope["path"] + (f"?{query}" if query else "")
        agent = headers.get(b"user-agent", b"").decode("latin-1")
        self._context.journal.record(rfc3339(self._context.clock.now()), scope["method"], path, status, agent)


async def _swallow(_: Message) -> None:
    """Where lost answers go."""


def _failure(path: str, fault: CallFault) -> Response:
    return _render(
        path, ApiError(fault.code, fault.reason, "A fault asked for with localcloud's control API.")
    )
