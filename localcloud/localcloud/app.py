"""The one HTTP application: services on their paths, faults and journal around every call.

`build_context` makes the ground from settings, `create_app` mounts everything on it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from ipaddress import IPv4Network

import anyio.to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from localcloud import accounts, control, guests, metadata, page
from localcloud.clock import Clock, SystemClock
from localcloud.context import Context
from localcloud.errors import ApiError, render
from localcloud.faults import Faults
from localcloud.gate import Gate
from localcloud.iam import Iam
from localcloud.journal import Journal
from localcloud.names import Names, Resolver, host_resolver
from localcloud.services import compute, functions, iam, pubsub, scheduler, storage, usage
from localcloud.services.functions.runtime import Runtime
from localcloud.settings import Settings
from localcloud.store import Store
from localcloud.tunnel import Tunnel
from localcloud.vm import VmBackend


def build_context(settings: Settings, clock: Clock | None = None, vms: VmBackend | None = None) -> Context:
    """The ground of a server, which also answers questions about names."""
    context = ground(settings, clock or SystemClock(), vms)
    resolver = Resolver((settings.host, settings.port), context.names, host_resolver())
    context.registry.background.append(resolver)
    if settings.tunnel:
        context.registry.background.append(
            Tunnel(settings.tunnel, context.names, IPv4Network(settings.subnet))
        )
    if settings.guests:
        guests.install(context)
    return context


def ground(
    settings: Settings, clock: Clock, vms: VmBackend | None = None, *, lasting: bool = True
) -> Context:
    """What all services stand on; listens to nothing. `lasting`: a restart finds all of it again."""
    settings.home.mkdir(parents=True, exist_ok=True)
    store = Store(settings.home / "store.db" if lasting else ":memory:")
    return Context(
        settings=settings,
        clock=clock,
        store=store,
        journal=Journal(settings.home / "journal.db" if lasting else ":memory:"),
        faults=Faults(store),
        iam=Iam(store),
        names=Names(store),
        vms=vms or _backend(settings, store),
    )


def _backend(settings: Settings, store: Store) -> VmBackend:
    if settings.backend == "docker":
        from localcloud.vm.docker import DockerBackend

        return DockerBackend(settings)
    from localcloud.vm.simulated import SimulatedBackend

    return SimulatedBackend(store)


def create_app(context: Context, runtime: Runtime | None = None) -> Starlette:
    """`runtime`: what runs functions, if not processes of this machine."""
    app = Starlette(
        routes=_routes(context, runtime),
        exception_handlers={ApiError: _api_error, HTTPException: _http_error},
        lifespan=_lifespan(context),
    )
    app.state.blocking = context.blocking
    app.add_middleware(Gate, context=context)
    return app


def _routes(context: Context, runtime: Runtime | None) -> list[BaseRoute]:
    return [
        *compute.routes(context),
        *storage.routes(context),
        *pubsub.routes(context),
        *scheduler.routes(context),
        *functions.routes(context, runtime),
        *iam.routes(context),
        *usage.routes(context),
        *page.routes(context),
        *metadata.routes(context),
        *accounts.routes(),
        *control.routes(context),
    ]


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


async def _api_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return render(request.url.path, error)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    reason = {404: "notFound", 405: "methodNotAllowed"}.get(error.status_code, "invalid")
    message = f"localcloud does not know {request.method} {request.url.path}"
    return render(request.url.path, ApiError(error.status_code, reason, message))
