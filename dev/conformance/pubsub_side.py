"""Pub/Sub calls as data, and a server that answers them with what two servers have to agree on."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import httpx

from dev.conformance.differential import Answer

ROUTES = {
    "createTopic": ("PUT", "topics/{name}"),
    "topic": ("GET", "topics/{name}"),
    "patchTopic": ("PATCH", "topics/{name}"),
    "dropTopic": ("DELETE", "topics/{name}"),
    "topics": ("GET", "topics"),
    "readers": ("GET", "topics/{name}/subscriptions"),
    "publish": ("POST", "topics/{name}:publish"),
    "create": ("PUT", "subscriptions/{name}"),
    "get": ("GET", "subscriptions/{name}"),
    "patch": ("PATCH", "subscriptions/{name}"),
    "drop": ("DELETE", "subscriptions/{name}"),
    "list": ("GET", "subscriptions"),
    "modifyPushConfig": ("POST", "subscriptions/{name}:modifyPushConfig"),
    "pull": ("POST", "subscriptions/{name}:pull"),
    "acknowledge": ("POST", "subscriptions/{name}:acknowledge"),
    "modifyAckDeadline": ("POST", "subscriptions/{name}:modifyAckDeadline"),
}
#: The lists, and where their entries stand.
LISTS = {"topics": "topics", "readers": "subscriptions", "list": "subscriptions"}
#: What `Call.held` may be: ids of a subscription's deliveries, or such as it never gave out.
HELD = ("last", "all", "first", "another's", "malformed", "last and malformed", "none")
#: The part of an error that holds its name in `google.rpc.Code`.
ERROR = "error.status"
_PAGES = 10


@dataclass(frozen=True)
class Call:
    """One call, named by its key in `ROUTES`.

    `body` is JSON. `topic` in it is a short name, that of a subscription.
    `held` says which ack ids go with it; `other` is the subscription that `another's` are taken from.
    """

    verb: str
    name: str = ""
    body: Any = None
    query: tuple[tuple[str, str], ...] = ()
    held: str = ""
    other: str = ""


@dataclass
class Delivery:
    """A message that was handed out. `message` counts what was published in this run."""

    message: int
    ack_id: str


@dataclass
class PubsubSide:
    """One server, and the messages and ack ids it gave out in this run, which has a project of its own."""

    http: httpx.Client
    run: int = 0
    published: dict[str, int] = field(default_factory=dict)
    delivered: dict[str, list[list[Delivery]]] = field(default_factory=dict)

    def renew(self, run: int) -> None:
        self.run = run
        self.published.clear()
        self.delivered.clear()

    def answer(self, call: Call) -> Answer:
        got = self._ask(call, dict(call.query))
        document = got.json()
        if got.status_code >= 400:
            return Answer(got.status_code, {ERROR: document["error"]["status"]})
        return Answer(got.status_code, self._parts(call, document))

    def _ask(self, call: Call, query: dict[str, str]) -> httpx.Response:
        method, template = ROUTES[call.verb]
        path = f"/v1/projects/{self._project}/{template.format(name=quote(call.name, safe=''))}"
        body = self._body(call)
        content = None if body is None else json.dumps(body)
        return self.http.request(method, path, params=query, content=content)

    @property
    def _project(self) -> str:
        return f"run{self.run}"

    def _body(self, call: Call) -> Any:
        if call.held:
            return call.body | {"ackIds": list(self._ack_ids(call))}
        if call.verb == "create" and "topic" in call.body:
            return call.body | {"topic": f"projects/{self._project}/topics/{call.body['topic']}"}
        return call.body

    def _ack_ids(self, call: Call) -> Iterator[str]:
        owner = call.other if call.held == "another's" else call.name
        batches = self.delivered.get(owner, [])
        if call.held in ("last", "last and malformed", "another's"):
            batches = batches[-1:]
        taken = [each for batch in batches for each in batch]
        if call.held == "first":
            taken = taken[:1]
        # In the order of publication: the servers then give them back in the same order.
        yield from (each.ack_id for each in sorted(taken, key=lambda each: each.message))
        if "malformed" in call.held:
            yield "malformed"

    def _parts(self, call: Call, document: dict[str, Any]) -> dict[str, Any]:
        """What of an answer has to be equal. The words of errors are everybody's own."""
        if call.verb == "publish":
            return {"published": self._publish(document["messageIds"])}
        if call.verb == "pull":
            return {"received": self._receive(call.name, document)}
        if call.verb in LISTS:
            return {"pages": list(self._pages(call, document))}
        return document

    def _publish(self, ids: list[str]) -> int:
        """How many new ids were given out."""
        new = [each for each in ids if each not in self.published]
        for each in new:
            self.published[each] = len(self.published)
        return len(new)

    def _receive(self, name: str, document: dict[str, Any]) -> list[dict[str, Any]]:
        """The messages by the order of their publication; none is promised for their delivery."""
        found = document.get("receivedMessages", [])
        shown = [self._message(each["message"]) for each in found]
        if found:
            batch = [
                Delivery(message["messageId"], each["ackId"])
                for message, each in zip(shown, found, strict=True)
            ]
            self.delivered.setdefault(name, []).append(batch)
        return sorted(shown, key=lambda message: int(message["messageId"]))

    def _message(self, message: dict[str, Any]) -> dict[str, Any]:
        stable = {"messageId": self.published[message["messageId"]], "publishTime": ""}
        return {key: stable.get(key, value) for key, value in message.items()}

    def _pages(self, call: Call, first: dict[str, Any]) -> Iterator[list[str]]:
        """The names on all pages that follow one another; the tokens are the server's own."""
        page = first
        for _ in range(_PAGES):
            token = page.pop("nextPageToken", "")
            yield [
                each["name"] if isinstance(each, dict) else each for each in page.get(LISTS[call.verb], [])
            ]
            if not token:
                return
            page = self._ask(call, dict(call.query) | {"pageToken": token}).json()
        raise AssertionError(f"{call} has no last page")
