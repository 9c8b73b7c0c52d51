"""The metadata server: what a VM may know about itself, on the paths that Google's guests use.

The VM is known by the address its request comes from. Guest attributes are written here as well. The
documents behind all this belong to `services/compute`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from localcloud.context import Context
from localcloud.errors import ApiError
from localcloud.metadata_tree import Tags, Token, tree
from localcloud.services.compute.guest import GuestAttributes, enabled
from localcloud.services.compute.records import Record, Records
from localcloud.store import Json

_FLAVOR = {"Metadata-Flavor": "Google", "Server": "Metadata Server for VM"}
_PREFIX = "/computeMetadata/v1/"
_GUEST = "instance/guest-attributes/"
_LOOK = 0.05
_UNTIL_CHANGED = 3600.0
_DISABLED = "Guest attributes endpoint access is disabled."
_SECONDS = re.compile(r"[0-9]{1,9}(\.[0-9]*)?")
_KEPT_NAMES = ("attributes", "guest-attributes")


def routes(context: Context) -> list[BaseRoute]:
    server = MetadataServer(context)
    return [
        Route(_PREFIX.rstrip("/"), server.root, methods=["GET"]),
        Route(_PREFIX + "{path:path}", server.read, methods=["GET"]),
        Route(_PREFIX + "{path:path}", server.write, methods=["PUT", "DELETE"]),
    ]


def recognised() -> Response:
    """How guests recognise a metadata server."""
    return PlainTextResponse("computeMetadata/\n", headers=_FLAVOR)


class MetadataServer:
    def __init__(self, context: Context) -> None:
        self._context = context
        self._records = Records(context.store)
        self._guest = GuestAttributes(context.store, context.registry.tellers)

    async def root(self, request: Request) -> Response:
        return _refused(request) or _redirect(request, _PREFIX)

    async def read(self, request: Request) -> Response:
        refused = _refused(request)
        if refused is not None:
            return refused
        path = request.path_params["path"]
        value = await self._value(request, path)
        if _is_directory(value) and path and not path.endswith("/"):
            return _redirect(request, f"{_PREFIX}{path}/")
        if _is_asked(request, "wait_for_change") and value is not None:
            why = _cannot_wait(request, value)
            if why:
                return PlainTextResponse(f"{why}\n", 400, _FLAVOR)
            value = await self._changed(request, path, value)
        if value is None:
            return PlainTextResponse(f"{path} not found\n", status_code=404, headers=_FLAVOR)
        return _answer(path, value, _is_asked(request, "recursive"), request.query_params.get("alt", ""))

    async def _changed(self, request: Request, path: str, value: Any) -> Any:
        """A long poll: the value once its ETag differs from `last_etag` (or from now), or after
        `timeout_sec`."""
        query = request.query_params
        before = query.get("last_etag") or _etag(value)
        timeout = float(query.get("timeout_sec") or _UNTIL_CHANGED)
        clock = self._context.clock
        deadline = clock.monotonic() + timeout
        seen = self._context.store.revision
        while value is not None and _etag(value) == before and clock.monotonic() < deadline:
            await self._context.blocking.sleep(_LOOK)
            if self._context.store.revision != seen:
                seen = self._context.store.revision
                value = await self._value(request, path)
        return value

    async def write(self, request: Request) -> Response:
        refused = _refused(request)
        if refused is not None:
            return refused
        name = request.path_params["path"].removeprefix(_GUEST)
        namespace, _, key = name.partition("/")
        if name == request.path_params["path"] or not key:
            return PlainTextResponse("only guest attributes can be written\n", 405, headers=_FLAVOR)
        body = await request.body()
        return await self._context.blocking.run(self._write, request, namespace, key, body)

    def _write(self, request: Request, namespace: str, key: str, body: bytes) -> Response:
        instance, record = self._caller(request)
        if not enabled(record.metadata()):
            return PlainTextResponse(f"{_DISABLED}\n", 403, headers=_FLAVOR)
        if request.method == "DELETE":
            found = self._guest.delete(instance, namespace, key)
            return Response(status_code=204 if found else 404, headers=_FLAVOR)
        try:
            self._guest.put(instance, namespace, key, body.decode())
        except (ApiError, UnicodeDecodeError) as error:
            code = error.code if isinstance(error, ApiError) else 400
            return PlainTextResponse(f"{error}\n", code, headers=_FLAVOR)
        return Response(status_code=204, headers=_FLAVOR)

    async def _value(self, request: Request, path: str) -> Any:
        return await self._context.blocking.run(self._look_up, request, path)

    def _look_up(self, request: Request, path: str) -> Any:
        """The subtree or leaf at `path`, or None. Raises a 403 for guest attributes that are not enabled."""
        instance, record = self._caller(request)
        if f"{path}/".startswith(_GUEST) and not enabled(record.metadata()):
            raise ApiError(403, "forbidden", _DISABLED)
        node: Any = tree(instance, record, self._guest.all(instance))
        for part in filter(None, path.split("/")):
            if isinstance(node, list):
                node = {str(number): item for number, item in enumerate(node)}
            if not isinstance(node, dict) or part not in node:
                return None
            node = node[part]
        return node

    def _caller(self, request: Request) -> tuple[str, Record]:
        source = request.client.host if request.client else ""
        found = self._records.with_address(source)
        if found is None:
            raise ApiError(404, "notFound", f"No VM of the local cloud has the address {source}")
        return found


def _refused(request: Request) -> Response | None:
    """Google refuses what a browser or a proxy could have been tricked into sending."""
    flavored = request.headers.get("metadata-flavor", "").lower() == "google"
    if flavored and "x-forwarded-for" not in request.headers:
        return None
    message = "Missing Metadata-Flavor:Google header, or X-Forwarded-For given.\n"
    return PlainTextResponse(message, status_code=403, headers=_FLAVOR)


def _is_asked(request: Request, parameter: str) -> bool:
    return request.query_params.get(parameter, "").lower() == "true"


def _cannot_wait(request: Request, value: Any) -> str:
    """Why a change of this cannot be waited for; empty if it can."""
    if isinstance(value, Token) or (_is_directory(value) and not _is_asked(request, "recursive")):
        return "wait_for_change is for values and recursive directories, and not for tokens"
    seconds = request.query_params.get("timeout_sec", "")
    return f"timeout_sec: {seconds!r} is no number" if seconds and not _SECONDS.fullmatch(seconds) else ""


def _redirect(request: Request, path: str) -> Response:
    query = request.url.query
    return RedirectResponse(path + (f"?{query}" if query else ""), 301, _FLAVOR)


def _etag(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _answer(path: str, value: Any, recursive: bool, alt: str) -> Response:
    headers = _FLAVOR | {"ETag": _etag(value)}
    directory = _is_directory(value)
    is_json = recursive if directory else isinstance(value, Tags) or alt == "json"
    if isinstance(value, Token) or (is_json and alt != "text"):
        return _json(value, path, headers)
    if directory:
        text = "".join(_lines(value, "")) if recursive else _listing(value)
    else:
        text = "".join(f"{item}\n" for item in value) if isinstance(value, list) else str(value)
    return PlainTextResponse(text, headers=headers)


def _lines(value: Any, path: str) -> Iterator[str]:
    """A directory with all that is below it, as text: the path and the value of each leaf."""
    if isinstance(value, Token):
        return
    if not _is_directory(value):
        yield from (f"{path} {item}\n" for item in (value if isinstance(value, list) else [value]))
        return
    for name, inner in _entries(value):
        yield from _lines(inner, f"{path}/{name}".lstrip("/"))


def _is_directory(value: Any) -> bool:
    """Lists of plain values (scopes, aliases, tags) are leaves, printed line by line."""
    if isinstance(value, list):
        return any(isinstance(item, dict) for item in value)
    return isinstance(value, dict) and not isinstance(value, Token)


def _json(value: Any, path: str, headers: dict[str, str]) -> Response:
    kept = any(name in path.split("/") for name in _KEPT_NAMES)
    content = json.dumps(value if kept or isinstance(value, Token) else _camel(value))
    return Response(content, media_type="application/json", headers=headers)


def _camel(value: Any) -> Any:
    """Recursive answers spell names in camel case, except those that users chose."""
    if isinstance(value, list):
        return [_camel(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        _camel_name(name): inner if name in _KEPT_NAMES else _camel(inner)
        for name, inner in value.items()
        if not isinstance(inner, Token)
    }


def _camel_name(name: str) -> str:
    if "@" in name:
        return name
    first, *rest = name.split("-")
    return first + "".join(part.title() for part in rest)


def _entries(value: Json | list[Any]) -> list[tuple[str, Any]]:
    return (
        list(value.items()) if isinstance(value, dict) else [(str(n), each) for n, each in enumerate(value)]
    )


def _listing(value: Json | list[Any]) -> str:
    return "".join(f"{name}/\n" if _is_directory(inner) else f"{name}\n" for name, inner in _entries(value))
