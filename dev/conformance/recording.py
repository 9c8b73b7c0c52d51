"""Every answer of the local cloud, recorded on its way out and judged by those who described it.

Two judges: the discovery document (types, enums, int64 as text, no unknown key) and the client library's own
message class (`ignore_unknown_fields=False`). An error has to have Google's form.
"""

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import google.longrunning.operations_pb2
from google.cloud import compute_v1, functions_v2, scheduler_v1
from google.protobuf import json_format
from google.pubsub_v1 import types as pubsub_types
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dev.conformance import discovery

#: What no Google API describes.
OWN = ("/_localcloud/", "/computeMetadata/", "/token", "/functions/", "/upload/functions/", "/download/")
_CLASSES = {
    "compute.v1": compute_v1,
    "pubsub.v1": pubsub_types,
    "cloudscheduler.v1": scheduler_v1,
    "cloudfunctions.v2": functions_v2,
}


@dataclass(frozen=True)
class Answer:
    """One answer; `path` is percent-encoded as it came."""

    method: str
    path: str
    query: str
    status: int
    content_type: str
    body: bytes

    def problems(self) -> list[str]:
        """What is wrong with it; empty where nothing is."""
        if not self._is_described:
            return []
        found = self._error_problems() if self.status >= 400 else self._problems()
        return [f"{self.method} {self.path} → {self.status}: {each}" for each in found]

    @property
    def _is_described(self) -> bool:
        return (
            self.content_type.startswith("application/json")
            and not self.path.startswith(OWN)
            and self.path != "/"
            and "alt=media" not in self.query
        )

    def _problems(self) -> list[str]:
        value = json.loads(self.body)
        candidates = discovery.methods(self.method, self.path)
        if not candidates:
            return ["no discovery document describes this call"]
        judged = [[*each.violations(value), *_unparsed(each, self.body)] for each in candidates]
        return min(judged, key=len)

    def _error_problems(self) -> list[str]:
        error = json.loads(self.body).get("error")
        if not isinstance(error, dict):
            return ["an error without `error`"]
        found = [] if error.get("code") == self.status else [f"error.code is {error.get('code')!r}"]
        if not (isinstance(error.get("message"), str) and error["message"]):
            found.append("an error without a message")
        if not (error.get("errors") or error.get("status")):
            found.append("neither `errors` (older APIs) nor `status` (newer ones)")
        return found


def _unparsed(described: discovery.Described, body: bytes) -> list[str]:
    parse = _parser(described.document, described.response)
    try:
        if parse is not None:
            parse(body)
    except (json_format.ParseError, ValueError) as error:
        return [f"{described.response} does not parse: {error}"]
    return []


@cache
def _parser(document: str, schema: str) -> Callable[[bytes], Any] | None:
    """The strict parser of the client library's class for a schema, if it has one."""
    if document == "cloudfunctions.v2" and schema == "Operation":
        made = google.longrunning.operations_pb2.Operation
        return lambda body: json_format.Parse(body, made())
    found: Any = getattr(_CLASSES.get(document), schema, None)
    return None if found is None else lambda body: found.from_json(body, ignore_unknown_fields=False)


class Recorder:
    """Keeps the answers of one application until somebody takes them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._answers: list[Answer] = []

    def take(self) -> list[Answer]:
        """All since the last time."""
        with self._lock:
            taken, self._answers = self._answers, []
        return taken

    def around(self, app: ASGIApp) -> ASGIApp:
        """The application, overheard."""

        async def overheard(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            start: Message = {}
            body = bytearray()

            async def listen(message: Message) -> None:
                if message["type"] == "http.response.start":
                    start.update(message)
                elif message["type"] == "http.response.body":
                    body.extend(message.get("body", b""))
                    if not message.get("more_body"):
                        self._keep(scope, start, bytes(body))
                await send(message)

            await app(scope, receive, listen)

        return overheard

    def _keep(self, scope: Scope, start: Message, body: bytes) -> None:
        headers = {name.lower(): value for name, value in start["headers"]}
        answer = Answer(
            method=scope["method"],
            path=(scope.get("raw_path") or scope["path"].encode()).decode("ascii"),
            query=scope["query_string"].decode("latin-1"),
            status=start["status"],
            content_type=headers.get(b"content-type", b"").decode("latin-1"),
            body=body,
        )
        with self._lock:
            self._answers.append(answer)
