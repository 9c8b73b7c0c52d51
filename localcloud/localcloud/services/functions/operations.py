"""Long-running operations of functions, as `google.longrunning` has them. Their work is in `deployments`."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from localcloud.clock import rfc3339
from localcloud.context import Context
from localcloud.services.wire import resource_missing
from localcloud.store import Json

OPERATION = "functions.operation"
_TYPE = "type.googleapis.com/google.cloud.functions.v2."
_KINDS = {"create": "CREATE_FUNCTION", "update": "UPDATE_FUNCTION", "delete": "DELETE_FUNCTION"}


class Operations:
    """Operations are never forgotten while the home directory lives."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._store = context.store

    def begin(self, function: str, verb: str, request: Json | None, stages: Sequence[str] = ()) -> Json:
        """A new operation. All its stages stand in it from the start: gcloud knows no others later."""
        location = function.rsplit("/", 2)[0]
        metadata: Json = {
            "@type": f"{_TYPE}OperationMetadata",
            "createTime": rfc3339(self._context.clock.now()),
            "target": function,
            "verb": verb,
            "cancelRequested": False,
            "apiVersion": "v2",
            "operationType": _KINDS[verb],
            "stages": [{"name": stage, "state": "NOT_STARTED"} for stage in stages],
        }
        if request is not None:
            metadata["requestResource"] = {"@type": f"{_TYPE}Function"} | request
        name = f"{location}/operations/operation-{uuid.uuid4().hex}"
        operation: Json = {"name": name, "metadata": metadata, "done": False}
        self._store.insert(OPERATION, name, operation)
        return operation

    def get(self, name: str) -> Json:
        found = self._store.get(OPERATION, name)
        if found is None:
            raise resource_missing(name)
        return found

    def stage(self, name: str, stage: str, state: str) -> None:
        """Note how far the work has come, for whoever watches."""
        operation = self.get(name)
        for known in operation["metadata"]["stages"]:
            if known["name"] == stage:
                known["state"] = state
        self._store.put(OPERATION, name, operation)

    def succeed(self, name: str, function: Json | None) -> None:
        """End with the function as it stands now, or with nothing after a deletion."""
        kind = "type.googleapis.com/google.protobuf.Empty" if function is None else f"{_TYPE}Function"
        self._end(name, {"response": {"@type": kind} | (function or {})})

    def fail(self, name: str, code: int, message: str) -> None:
        self._end(name, {"error": {"code": code, "message": message}})

    def _end(self, name: str, outcome: Json) -> None:
        operation = self.get(name)
        operation["metadata"]["endTime"] = rfc3339(self._context.clock.now())
        self._store.put(OPERATION, name, operation | {"done": True} | outcome)
