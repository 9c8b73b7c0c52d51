"""Compute operations: made, remembered by `requestId`, waited for, listed.

What an operation does to a resource is the business of `lifecycle`, `addresses`, `disks` and `firewalls`.
"""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Callable
from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from localcloud.clock import rfc3339
from localcloud.context import Context
from localcloud.errors import invalid_field, not_found
from localcloud.services.compute import paths
from localcloud.store import Json
from localcloud.web import Call, Repeated

OPERATION = "compute.operation"
_REQUEST = "compute.request"
_USER = "developer@localcloud"
_LONGEST_WAIT = 120.0
_LOOK = 0.05


class Operations:
    """An operation's key is `projects/p/<scope>/operations/<name>`."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._store = context.store

    def new(self, target: str, verb: str, target_id: str = "") -> Json:
        """A pending operation on the resource with path `target`."""
        return self._insert(target, target_id, {"operationType": verb, "user": _USER}, "operation")

    def system_event(self, target: str, verb: str, target_id: str, message: str) -> Json:
        """Something that Google did, such as a preemption; it is DONE when it is first seen."""
        now = rfc3339(self._context.clock.now())
        facts = {
            "operationType": verb,
            "user": "system",
            "status": "DONE",
            "progress": 100,
            "startTime": now,
            "endTime": now,
            "statusMessage": message,
        }
        return self._insert(target, target_id, facts, "systemevent")

    def _insert(self, target: str, target_id: str, facts: Json, prefix: str) -> Json:
        now = self._context.clock.now()
        scope = paths.scope_of(target)
        name = f"{prefix}-{int(now.timestamp() * 1000)}-{secrets.token_hex(8)}"
        key = f"projects/{paths.project_of(target)}/{scope}/operations/{name}"
        operation: Json = {
            "kind": "compute#operation",
            "id": paths.new_id(),
            "name": name,
            "status": "PENDING",
            "progress": 0,
            "insertTime": rfc3339(now),
            "targetLink": paths.url(self._context.settings, target),
            "selfLink": paths.url(self._context.settings, key),
        } | facts
        if target_id:
            operation["targetId"] = target_id
        if scope != "global":
            place = f"projects/{paths.project_of(target)}/{scope}"
            operation[scope.split("/")[0][:-1]] = paths.url(self._context.settings, place)
        self._store.insert(OPERATION, key, operation)
        return operation

    def once(self, call: Call, effect: Callable[[], Json]) -> Json:
        """Run `effect` in one transaction; a repeated `requestId` gets the first operation instead."""
        request_id = _request_id(call)
        key = f"{call.params['project']}/{request_id}"
        with self._store.transaction():
            earlier = self._store.get(_REQUEST, key) if request_id else None
            if earlier is not None:
                return Repeated(self.require(earlier["operation"]))
            operation = effect()
            if request_id:
                operation["clientOperationId"] = request_id
                made = paths.key_of(operation["selfLink"])
                self._store.put(OPERATION, made, operation)
                self._store.insert(_REQUEST, key, {"operation": made})
            return operation

    def begin(self, key: str) -> None:
        self._change(key, {"status": "RUNNING", "startTime": rfc3339(self._context.clock.now())})

    def done(self, key: str) -> None:
        self._change(key, {"status": "DONE", "progress": 100, "endTime": rfc3339(self._context.clock.now())})

    def fail(self, key: str, code: str, message: str, http: int) -> None:
        now = rfc3339(self._context.clock.now())
        facts = {
            "status": "DONE",
            "progress": 100,
            "endTime": now,
            "error": {"errors": [{"code": code, "message": message}]},
            "httpErrorStatusCode": http,
            "httpErrorMessage": HTTPStatus(http).phrase.upper(),
        }
        self._change(key, {"startTime": now} | facts)

    def is_over(self, args: Json) -> bool:
        """Of a task's `operation`; what goes with its end is stored together with it."""
        operation = self._store.get(OPERATION, args["operation"])
        return operation is not None and operation["status"] == "DONE"

    def _change(self, key: str, facts: Json) -> None:
        with self._store.transaction():
            operation = self.require(key)
            if operation["status"] != "DONE":
                self._store.put(OPERATION, key, operation | facts)

    def require(self, key: str) -> Json:
        operation = self._store.get(OPERATION, key)
        if operation is None:
            raise not_found(key)
        return operation

    def get(self, call: Call) -> Json:
        return self.require(_key(call.raw_path))

    async def wait(self, request: Request) -> Response:
        """A long poll: answers when the operation is done, or after two minutes as it is."""
        key = _key(request.url.path).removesuffix("/wait")
        clock = self._context.clock
        deadline = clock.monotonic() + _LONGEST_WAIT
        operation = self.require(key)
        while operation["status"] != "DONE" and clock.monotonic() < deadline:
            await self._context.blocking.sleep(_LOOK)
            operation = self.require(key)
        return JSONResponse(operation)


def _key(path: str) -> str:
    return path.removeprefix(paths.PREFIX)


def _request_id(call: Call) -> str:
    text = call.query.get("requestId", "")
    if not text:
        return ""
    try:
        value = uuid.UUID(text)
    except ValueError as error:
        raise invalid_field("requestId", text, "Must be a UUID.") from error
    if value.int == 0:
        raise invalid_field("requestId", text, "The zero UUID is not supported.")
    return str(value)
