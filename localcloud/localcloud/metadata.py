"""The metadata server: what a VM may know about itself, on the paths that Google's guests use.

The VM is known by the address its request comes from. Guest attributes are written here as well. The
documents behind all this belong to `services/compute`.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from localcloud.context import Context
from localcloud.errors import ApiError
from localcloud.services.compute import paths
from localcloud.services.compute.guest import GuestAttributes, enabled
from localcloud.services.compute.records import Record, Records
from localcloud.store import Json

_FLAVOR = {"Metadata-Flavor": "Google", "Server": "Metadata Server for VM"}
_PREFIX = "/computeMetadata/v1/"
_GUEST = "instance/guest-attributes/"
_LOOK = 0.05
_UNTIL_CHANGED = 3600.0
_TOKEN_SECONDS = 3599
_KEPT_NAMES = ("attributes", "guest-attributes")


def routes(context: Context) -> list[BaseRoute]:
    server = MetadataServer(context)
    return [
        Route("/computeMetadata/v1", server.root, methods=["GET"]),
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

    async def root(self, _: Request) -> Response:
        return recognised()

    async def read(self, request: Request) -> Response:
        refused = _refused(request)
        if refused is not None:
            return refused
        path, query = request.path_params["path"], request.query_params
        value = await self._value(request, path)
        if query.get("wait_for_change", "").lower() == "true" and value is not None:
            value = await self._changed(request, path, value)
        if value is None:
            return PlainTextResponse(f"{path} not found\n", status_code=404, headers=_FLAVOR)
        if _is_directory(value) and path and not path.endswith("/"):
            target = request.url.include_query_params().replace(path=f"{_PREFIX}{path}/")
            return RedirectResponse(target.path + (f"?{target.query}" if target.query else ""), 301, _FLAVOR)
        return _answer(path, value, query.get("recursive", "").lower() == "true", query.get("alt", ""))

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
            return PlainTextResponse("guest attributes are not enabled\n", 403, headers=_FLAVOR)
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
        """The subtree or leaf at `path`, or None."""
        instance, record = self._caller(request)
        node: Any = self._tree(instance, record)
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

    def _tree(self, instance: str, record: Record) -> Json:
        project = paths.project_of(instance)
        number = paths.project_number(project)
        return {
            "instance": _instance(instance, record, f"projects/{number}")
            | {"guest-attributes": _nested(self._guest.all(instance))},
            "project": {
                "attributes": {},
                "numeric-project-id": int(number),
                "project-id": project,
            },
            "universe": {"universe-domain": "googleapis.com"},
        }


def _instance(key: str, record: Record, project: str) -> Json:
    body, place = record.body, paths.scope_of(key)
    interface = body["networkInterfaces"][0]
    external = [
        {"external-ip": access.get("natIP", ""), "type": access["type"]}
        for access in interface.get("accessConfigs", [])
    ]
    name, scheduling = body["name"], body["scheduling"]
    return {
        "attributes": record.metadata(),
        "cpu-platform": body["cpuPlatform"],
        "description": body.get("description", ""),
        "hostname": f"{name}.{paths.last(place)}.c.{paths.project_of(key)}.internal",
        "id": int(body["id"]),
        "image": "",
        "machine-type": f"{project}/machineTypes/{paths.last(body['machineType'])}",
        "maintenance-event": "NONE",
        "name": name,
        "network-interfaces": [
            {
                "access-configs": external,
                "ip": interface.get("networkIP", ""),
                "network": f"{project}/networks/{paths.last(interface['network'])}",
            }
        ],
        "preempted": "TRUE" if record.preempted else "FALSE",
        "scheduling": {
            "automatic-restart": str(scheduling["automaticRestart"]).upper(),
            "on-host-maintenance": scheduling["onHostMaintenance"],
            "preemptible": str(record.is_spot).upper(),
        },
        "service-accounts": _service_accounts(body, project.removeprefix("projects/")),
        "tags": body["tags"].get("items", []),
        "zone": f"{project}/{place}",
    }


def _service_accounts(body: Json, number: str) -> Json:
    """An instance that was inserted without an account has none, and so no token."""
    if not body.get("serviceAccounts"):
        return {}
    asked = body["serviceAccounts"][0]
    default = f"{number}-compute@developer.gserviceaccount.com"
    email = asked.get("email", default)
    account = {
        "aliases": ["default"],
        "email": default if email == "default" else email,
        "scopes": asked.get("scopes", []),
        "token": Token(),
    }
    return {"default": account, account["email"]: account}


class Token(dict[str, Any]):
    """An access token: a JSON leaf that recursive answers leave out."""

    def __init__(self) -> None:
        super().__init__(access_token="localcloud-token", expires_in=_TOKEN_SECONDS, token_type="Bearer")  # noqa: S106


def _nested(values: dict[str, str]) -> Json:
    tree: Json = {}
    for name, value in values.items():
        namespace, key = name.split("/", 1)
        tree.setdefault(namespace, {})[key] = value
    return tree


def _refused(request: Request) -> Response | None:
    """Google refuses what a browser or a proxy could have been tricked into sending."""
    flavored = request.headers.get("metadata-flavor", "").lower() == "google"
    if flavored and "x-forwarded-for" not in request.headers:
        return None
    message = "Missing Metadata-Flavor:Google header, or X-Forwarded-For given.\n"
    return PlainTextResponse(message, status_code=403, headers=_FLAVOR)


def _etag(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _answer(path: str, value: Any, recursive: bool, alt: str) -> Response:
    headers = _FLAVOR | {"ETag": _etag(value)}
    directory = _is_directory(value)
    if isinstance(value, Token) or (directory and recursive) or (alt == "json" and not directory):
        return _json(value, path, headers)
    if directory:
        text = _listing(value)
    else:
        text = "".join(f"{item}\n" for item in value) if isinstance(value, list) else str(value)
    return PlainTextResponse(text, headers=headers)


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


def _listing(value: Json | list[Any]) -> str:
    items = value.items() if isinstance(value, dict) else [(str(n), item) for n, item in enumerate(value)]
    return "".join(f"{name}/\n" if _is_directory(inner) else f"{name}\n" for name, inner in items)
