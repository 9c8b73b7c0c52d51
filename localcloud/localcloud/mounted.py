"""A local cloud in the caller's own process: no port, no loop, no second of its own.

`answer` serves one request, in the thread that asks. For simulations; how the sessions of real clients come
to call it is up to whoever mounts it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from urllib.parse import unquote, urlsplit

import httpx
from starlette.types import Message, Scope

from localcloud.app import create_app, ground
from localcloud.blocking import InPlace
from localcloud.clock import Clock
from localcloud.context import Context
from localcloud.services.functions.runtime import Runtime
from localcloud.settings import Settings


@dataclass(frozen=True)
class Answer:
    """`headers` are as they came: names in lower case, some perhaps twice."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


class Mounted:
    """Its threads, such as those that boot VMs, are the clock's; what it knows is gone with it."""

    def __init__(self, settings: Settings, clock: Clock, runtime: Runtime) -> None:
        self.context: Context = replace(
            ground(settings, clock, lasting=False), blocking=InPlace(clock), pushes=Transport(self)
        )
        self._app = create_app(self.context, runtime)

    def start(self) -> None:
        for background in self.context.registry.background:
            background.start()

    def stop(self) -> None:
        for background in reversed(self.context.registry.background):
            background.stop()
        self.context.store.close()
        self.context.journal.close()

    def answer(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Raises RuntimeError if the request is one that has to wait for an event loop."""
        told: list[Message] = []

        async def receive() -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Message) -> None:
            told.append(message)

        serving = self._app(_scope(method, url, headers), receive, send)
        try:
            serving.send(None)
        except StopIteration:
            pass
        else:
            raise RuntimeError(f"{method} {url} cannot be answered in place")
        start, *rest = told
        return Answer(
            start["status"],
            [(name.decode("latin-1"), value.decode("latin-1")) for name, value in start["headers"]],
            b"".join(message.get("body", b"") for message in rest),
        )


def _scope(method: str, url: str, headers: Mapping[str, str]) -> Scope:
    parts = urlsplit(url)
    sent = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": parts.scheme,
        "path": unquote(parts.path),
        "raw_path": parts.path.encode("latin-1"),
        "query_string": parts.query.encode("latin-1"),
        "root_path": "",
        "headers": [(b"host", parts.netloc.encode("latin-1")), *sent],
        "client": ("127.0.0.1", 0),
        "server": (parts.hostname, parts.port),
    }


class Transport(httpx.BaseTransport):
    """For httpx clients: whatever they call is the mounted cloud."""

    def __init__(self, mounted: Mounted) -> None:
        self._mounted = mounted

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        headers = {name: value for name, value in request.headers.items() if name != "host"}
        answer = self._mounted.answer(request.method, str(request.url), headers, request.read())
        return httpx.Response(answer.status, headers=answer.headers, content=answer.body)
