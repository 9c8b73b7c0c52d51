"""Storage calls as data, and a server that answers them with what two servers have to agree on."""

import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import httpx

from dev.conformance.differential import Answer

ROUTES = {
    "create": ("POST", "/storage/v1/b"),
    "bucket": ("GET", "/storage/v1/b/{bucket}"),
    "drop": ("DELETE", "/storage/v1/b/{bucket}"),
    "upload": ("POST", "/upload/storage/v1/b/{bucket}/o"),
    "list": ("GET", "/storage/v1/b/{bucket}/o"),
    "get": ("GET", "/storage/v1/b/{bucket}/o/{name}"),
    "read": ("GET", "/storage/v1/b/{bucket}/o/{name}"),
    "download": ("GET", "/download/storage/v1/b/{bucket}/o/{name}"),
    "patch": ("PATCH", "/storage/v1/b/{bucket}/o/{name}"),
    "delete": ("DELETE", "/storage/v1/b/{bucket}/o/{name}"),
    "copyTo": ("POST", "/storage/v1/b/{bucket}/o/{name}/copyTo/b/{to_bucket}/o/{to_name}"),
    "rewriteTo": ("POST", "/storage/v1/b/{bucket}/o/{name}/rewriteTo/b/{to_bucket}/o/{to_name}"),
}
#: The parts of a resource that are compared.
FIELDS = (
    *("kind", "name", "bucket", "size", "md5Hash", "crc32c", "contentType", "cacheControl", "metadata"),
    *("location", "done", "objectSize", "totalBytesRewritten"),
)
_BOUNDARY = "xyz"
_NEVER_GIVEN = "7"


@dataclass(frozen=True)
class Call:
    """One call, named by its key in `ROUTES`.

    `guards` are preconditions upon generation `0`, or the server's own `current` or a `stale` one.
    `body` is JSON; that of an upload is the metadata and the content.
    """

    verb: str
    bucket: str = "one"
    name: str = ""
    target: tuple[str, str] = ("", "")
    guards: tuple[tuple[str, str], ...] = ()
    query: tuple[tuple[str, str], ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    body: Any = None


@dataclass
class Storage:
    """One server, and the generations it gave out in this run."""

    http: httpx.Client
    run: int = 0
    generations: dict[tuple[str, str], list[int]] = field(default_factory=dict)

    def renew(self, run: int) -> None:
        self.run = run
        self.generations.clear()

    def answer(self, call: Call) -> Answer:
        method, template = ROUTES[call.verb]
        path = template.format(
            bucket=self._full(call.bucket),
            name=quote(call.name, safe=""),
            to_bucket=self._full(call.target[0]),
            to_name=quote(call.target[1], safe=""),
        )
        query = dict(call.query) | {name: self._number(call, which) for name, which in call.guards}
        content, headers = self._content(call)
        got = self.http.request(
            method, path, params=query, headers=headers | dict(call.headers), content=content
        )
        return Answer(got.status_code, self._parts(call, got))

    def _full(self, bucket: str) -> str:
        return f"run{self.run}-{bucket}"

    def _content(self, call: Call) -> tuple[bytes | None, dict[str, str]]:
        if call.verb == "upload":
            return _multipart(*call.body), {"Content-Type": f"multipart/related; boundary={_BOUNDARY}"}
        body = {"name": self._full(call.bucket)} if call.verb == "create" else call.body
        return None if body is None else json.dumps(body).encode(), {}

    def _number(self, call: Call, which: str) -> str:
        """The generation that a precondition means: for this server, of what the call writes."""
        place = call.target if call.target[1] else (call.bucket, call.name)
        given = self.generations.get(place, [])
        if which == "current":
            return str(given[-1]) if given else _NEVER_GIVEN
        if which == "stale":
            return str(given[-2]) if len(given) > 1 else _NEVER_GIVEN
        return which

    def _parts(self, call: Call, got: httpx.Response) -> dict[str, Any]:
        """What of an answer has to be equal. The words of errors are everybody's own."""
        if got.status_code >= 400:
            return {}
        if call.verb in ("read", "download"):
            head = {"type": got.headers.get("content-type"), "range": got.headers.get("content-range")}
            return head | {"content": got.content}
        document = (got.json() if got.content else None) or {}
        shown = [document.get("resource", document), *document.get("items", [])]
        resources = [self._resource(each) for each in shown]
        parts = {name: document[name] for name in FIELDS if name in document} | resources[0]
        parts["metagenerations"] = [each["metageneration"] for each in shown if "metageneration" in each]
        if call.verb == "list":
            parts |= {"items": resources[1:], "prefixes": document.get("prefixes", [])}
        return parts

    def _resource(self, document: dict[str, Any]) -> dict[str, Any]:
        parts = {name: document[name] for name in FIELDS if name in document}
        if "generation" in document and "bucket" in document:
            number = int(document["generation"])
            place = (document["bucket"].partition("-")[2], document["name"])
            seen = self.generations.setdefault(place, [])
            last = seen[-1] if seen else 0
            parts["generation"] = "same" if number == last else "grew" if number > last else "shrank"
            if number != last:
                seen.append(number)
        return parts


def _multipart(metadata: dict[str, Any], content: str) -> bytes:
    parts = (("application/json", json.dumps(metadata)), ("text/plain", content))
    framed = [f"--{_BOUNDARY}\r\nContent-Type: {kind}\r\n\r\n{text}\r\n" for kind, text in parts]
    return f"{''.join(framed)}--{_BOUNDARY}--\r\n".encode()
