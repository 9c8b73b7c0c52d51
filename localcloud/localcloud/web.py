"""Between Starlette and the services: plain blocking handlers that take a `Call` and return JSON.

Handlers run in worker threads, so that the store, Docker and files may block. Long polls are written as
async endpoints in their own modules.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Match, Route
from starlette.types import Scope

from localcloud import partial
from localcloud.errors import invalid
from localcloud.store import Json

REPEATED = "localcloud.repeated"
"""In the scope of a request whose answer was `Repeated`."""


@dataclass(frozen=True)
class Call:
    """One request, fully read. `params` are decoded parts of the path, `raw_path` is as it came."""

    method: str
    raw_path: str
    params: Mapping[str, str]
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    client: str
    query_lists: Mapping[str, list[str]] = field(default_factory=dict)

    def json(self) -> Json:
        """The body as an object; an empty body is an empty object. Raises a 400 otherwise."""
        if not self.body.strip():
            return {}
        try:
            body = json.loads(self.body)
        except ValueError as error:
            raise invalid(f"Invalid JSON payload received. {error}") from error
        if not isinstance(body, dict):
            raise invalid("Invalid JSON payload received. The body must be an object.")
        return body


class Repeated(dict[str, Any]):
    """An answer that was given before: this time the call changed nothing."""


Handler = Callable[[Call], "Json | Response"]
Endpoint = Callable[[Request], Awaitable[Response]]


async def read_call(request: Request) -> Call:
    raw_path: bytes = request.scope.get("raw_path") or request.url.path.encode()
    return Call(
        method=request.method,
        raw_path=raw_path.decode("latin-1").split("?")[0],
        params=request.path_params,
        query=request.query_params,
        headers=request.headers,
        body=await request.body(),
        client=request.client.host if request.client else "",
        query_lists={key: request.query_params.getlist(key) for key in request.query_params},
    )


def endpoint(handler: Handler) -> Endpoint:
    """A Starlette endpoint that runs `handler` as the application's `blocking` says."""

    async def run(request: Request) -> Response:
        call = await read_call(request)
        wanted = partial.parse(call.query["fields"]) if call.query.get("fields") else {}
        answer = await request.app.state.blocking.run(handler, call)
        if isinstance(answer, Repeated):
            request.scope[REPEATED] = True
        return answer if isinstance(answer, Response) else JSONResponse(partial.chosen(wanted, answer))

    return run


def route(method: str, path: str, handler: Handler) -> Route:
    """`GET` also answers HEAD, as Starlette does."""
    return QuickRoute(path, endpoint(handler), methods=[method])


class QuickRoute(Route):
    """Compares the fixed beginning of its path first, which rules most routes out without a pattern."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if not scope["path"].startswith(self.path.partition("{")[0]):
            return Match.NONE, {}
        return super().matches(scope)
