"""No secret stands anywhere but where it belongs: looked for in all that a life writes, tells and sends.

What the VM's own code does with them is seen where there is one, in tests/e2e/test_credentials.py.
"""

import base64
import json
import logging
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import pytest
import requests

from budget_operator.cloud import failures
from budget_operator.cloud.compute import ComputeGateway
from budget_operator.cloud.probe import HttpProber
from budget_operator.cloud.storage import StorageGateway
from budget_operator.core.names import METADATA_KEY, Owner
from budget_operator.core.steps import Passed
from budget_operator.logs import TextFormatter
from budget_operator.process import Operator
from budget_operator.reconcile.inputs import LOGIN_SUFFIX
from dev.simulation import guests
from dev.simulation.apiserver import CODE, ApiServer
from dev.simulation.world import NAMESPACE, World, world
from localcloud.faults import parse
from localcloud.guests.conversation import Answer as Said
from localcloud.guests.conversation import Asked, answer
from localcloud.guests.guest import Guest
from localcloud.mounted import Answer
from tests.simulation.acts import EVENTS, NAME, SPEC, denied
from tests.simulation.scenes import WHILE

PLANTED = {
    "username": "planted-user-name",
    "password": "planted password of may",
    "token": "planted.token-of-may",
    "api-key": "planted/api=key",
    "index": "reader:planted%2Dindex",
}
LOGIN = {name: PLANTED[name].encode() for name in ("username", "password", "token")}
ENV = [
    {"name": name, "valueFrom": {"secretKeyRef": {"name": "env", "key": key}}}
    for name, key in (("API_KEY", "api-key"), ("INDEX_LOGIN", "index"))
]
SECRET_SPEC: dict[str, Any] = {
    **SPEC,
    "predictor": {"inline": CODE},
    "requirements": ["--extra-index-url https://${INDEX_LOGIN}@index.example.com/simple"],
    "env": ENV,
    "auth": {"secretName": "login"},
}

VM = Owner("default", NAMESPACE, NAME).cloud_name
MADE_LOGIN = f"{NAME}{LOGIN_SUFFIX}"


@dataclass
class Sent:
    """A carrier that keeps all that is sent to the cloud, and all that it answers."""

    texts: list[str] = field(default_factory=list)

    def __call__(self, request: requests.PreparedRequest, carry: Callable[[], Answer]) -> Answer:
        answer = carry()
        body = request.body if isinstance(request.body, bytes) else str(request.body or "").encode()
        for content in (body, answer.body):
            self.texts.append(f"{request.method} {request.url} {content.decode('latin-1')}")
        return answer


@dataclass
class Quoting(Sent):
    """Google refuses one kind of calls and repeats what it was sent: at once, or where the call ends."""

    call: str = "insert"
    late: bool = False
    quoted: str = ""

    def __call__(self, request: requests.PreparedRequest, carry: Callable[[], Answer]) -> Answer:
        path = (request.url or "").partition("?")[0]
        if self.call and request.method == "POST" and path.endswith(ENDINGS[self.call]):
            body = request.body.decode() if isinstance(request.body, bytes) else request.body
            self.quoted = f"Invalid value for field 'resource': '{body}'."
            return _answer(200, {"name": "begun", "status": "RUNNING"}) if self.late else self._refusal()
        if path.endswith("/operations/begun"):
            error = {"errors": [{"code": "INVALID_FIELD_VALUE", "message": self.quoted}]}
            ended = {"httpErrorStatusCode": 400, "httpErrorMessage": "BAD REQUEST", "error": error}
            return _answer(200, {"name": "begun", "status": "DONE", **ended})
        return super().__call__(request, carry)

    def _refusal(self) -> Answer:
        errors = [{"reason": "invalid", "message": self.quoted}]
        return _answer(400, {"error": {"code": 400, "message": self.quoted, "errors": errors}})


def _answer(status: int, body: object) -> Answer:
    return Answer(status, [("content-type", "application/json")], json.dumps(body).encode())


ENDINGS = {"insert": "/instances", "setMetadata": "/setMetadata"}


def spellings(value: str) -> set[str]:
    """As it stands, and as it would look in base64, in JSON and in a URL."""
    coded = {base64.b64encode(value.encode()).decode().rstrip("=")[:-1]}
    return {value, quote(value, safe=""), json.dumps(value)[1:-1]} | coded


def kept(made: World) -> Iterator[tuple[str, str]]:
    """What the cluster holds beside Secrets, by its place: whole objects with annotations, and Events."""
    for (_, name), document in made.kube.objects.items():
        yield f"the object {name}", json.dumps(document)
    yield "Events", json.dumps(made.kube.events)


@dataclass
class Search:
    """Looks for secrets in all places, after each step of a story."""

    made: World
    sent: Sent
    records: Iterable[logging.LogRecord]

    def places(self) -> Iterator[tuple[str, str]]:
        yield from kept(self.made)
        yield "the log", self.log()
        yield "what the function logs", "".join(self.made.function.lines)
        yield "calls of the cloud", "\n".join(self.sent.texts)
        calls = self.made.cloud.context.journal.entries(limit=1_000_000)
        yield "the journal", "\n".join(str(call.as_json()) for call in calls)

    def log(self) -> str:
        """As the operator writes it."""
        return "\n".join(map(TextFormatter().format, self.records))

    def run(self) -> None:
        secrets = dict(PLANTED)
        made_here = self.made.kube.secrets.get((NAMESPACE, MADE_LOGIN), {})
        secrets |= {f"made {name}": value.decode() for name, value in made_here.items() if name != "username"}
        for place, text in self.places():
            for name, value in secrets.items():
                assert not any(spelling in text for spelling in spellings(value)), f"{name} is in {place}"
            self._look_for_key(place, text)

    def _look_for_key(self, place: str, text: str) -> None:
        """The key that seals them goes to the VM's metadata, and nowhere else."""
        held = self.made.kube.secrets.get((self.made.settings.system_namespace, f"{VM}-key"), {})
        for value in held.values():
            for spelling in {value.decode("latin-1"), base64.b64encode(value).decode()}:
                item = rf'\{{\s*"key":\s*"{METADATA_KEY}",\s*"value":\s*"{re.escape(spelling)}"\s*\}}'
                rest = re.sub(item, "", text) if place == "calls of the cloud" else text
                assert spelling not in rest, f"the key is in {place}"


def bad_logins() -> Iterator[dict[str, bytes]]:
    """Secrets that cannot work, with words that are none the less secret."""
    yield {**LOGIN, "password": b""}
    yield {**LOGIN, "username": PLANTED["username"].encode() + b"\xff"}
    yield {name: value for name, value in LOGIN.items() if name != "token"}
    yield {**LOGIN, "password": LOGIN["password"] * 100}


def test_no_secret_is_written_told_or_sent_anywhere_else(caplog: pytest.LogCaptureFixture) -> None:
    sent = Sent()
    with caplog.at_level(logging.DEBUG), world(sent, kept=1) as made:
        search = Search(made, sent, caplog.records)
        made.kube.secrets[NAMESPACE, "login"] = dict(LOGIN)
        made.apply(NAME, SECRET_SPEC)
        made.run(WHILE)
        assert made.kube.condition(NAME, "ArtifactUploaded")[1] == "ReferenceMissing", "of the variables"
        made.kube.secrets[NAMESPACE, "env"] = {key: PLANTED[key].encode() for key in ("api-key", "index")}
        made.run(WHILE)
        assert made.kube.condition(NAME, "Ready")[0] == "True"
        search.run()
        for login in bad_logins():
            made.kube.secrets[NAMESPACE, "login"] = login
            made.apply(NAME, {**SECRET_SPEC, "server": {"threads": len(made.kube.events) % 64 + 1}})
            made.run(60)
            search.run()
        made.kube.secrets[NAMESPACE, "login"] = dict(LOGIN)
        for fault in (denied("storage.*"), {"path": ".", "code": 500, "count": 0}, {"kind": "broken-model"}):
            made.cloud.context.faults.add(parse(fault), made.clock.now())
            made.apply(NAME, {**SECRET_SPEC, "server": {"threads": len(made.kube.events) % 64 + 1}})
            made.run(60)
            made.cloud.context.faults.clear()
            search.run()
        made.apply(NAME, SPEC)
        made.run(WHILE)
        assert (NAMESPACE, MADE_LOGIN) in made.kube.secrets, "a login is made where none is named"
        search.run()
        for event in ("lose", "upgrade", "delete"):
            EVENTS[event](made)
            made.run(WHILE)
            search.run()
        assert made.kube.objects == {}


def plant(made: World) -> None:
    made.kube.secrets[NAMESPACE, "login"] = dict(LOGIN)
    made.kube.secrets[NAMESPACE, "env"] = {key: PLANTED[key].encode() for key in ("api-key", "index")}


def test_what_the_model_says_to_the_operators_prediction_is_not_told(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answered the VM's own, so nothing of this has been masked there."""

    def telling(guest: Guest, asked: Asked, encrypted: bool) -> Said:
        if asked.path == "/predict_dict":
            return Said(502, {"code": "Refused", "detail": f"refused: {PLANTED['api-key']}"})
        return answer(guest, asked, encrypted)

    monkeypatch.setattr(guests, "answer", telling)
    sent = Sent()
    with caplog.at_level(logging.DEBUG), world(sent, kept=1) as made:
        search = Search(made, sent, caplog.records)
        plant(made)
        made.apply(NAME, {**SECRET_SPEC, "readiness": {"payload": {"x": 1}}})
        made.run(WHILE)
        assert made.kube.condition(NAME, "ModelServing")[1] == "ReadinessFailed"
        assert "status 502" in made.kube.status(NAME)["lastFailure"]["message"]
        search.run()


def test_what_is_planted_would_be_found(caplog: pytest.LogCaptureFixture) -> None:
    with world(Sent(), kept=1) as made:
        plant(made)
        made.apply(NAME, SECRET_SPEC)
        made.kube.annotate(NAME, "note", PLANTED["password"])
        with pytest.raises(AssertionError, match=f"password is in the object {NAME}"):
            Search(made, Sent(), caplog.records).run()


def caught(made: World) -> Callable[..., Passed]:
    """Passes as the process makes them, which ends at no bug of theirs."""
    assert made.operator is not None
    by_itself: Any = None, None, None, SimpleNamespace(reconcile=made.operator.reconcile)
    process = Operator(*by_itself)
    return lambda namespace, name, **_: process._pass((namespace, name))


def broken(*_: object, **__: object) -> None:
    raise RuntimeError("a bug")


@pytest.mark.parametrize(
    ("where", "name", "told"),
    [
        (ComputeGateway, "insert_instance", "failed in a way that no gateway knows"),
        (StorageGateway, "upload", "failed in a way that no gateway knows"),
        (failures, "_bad_request", "failed in a way that no gateway knows"),
        (ApiServer, "patch_status", "the pass failed unexpectedly"),
        (HttpProber, "predict", "the pass failed unexpectedly"),
    ],
)
def test_a_bug_is_logged_without_what_the_pass_was_holding(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, where: Any, name: str, told: str
) -> None:
    """Tracebacks name lines, never values; nor what a call was answered that came before."""
    sent = Quoting() if where is failures else Sent()
    with caplog.at_level(logging.DEBUG), world(sent, kept=1) as made:
        search = Search(made, sent, caplog.records)
        plant(made)
        monkeypatch.setattr(made.operator, "reconcile", caught(made))
        monkeypatch.setattr(where, name, broken)
        made.apply(NAME, SECRET_SPEC)
        made.run(WHILE)
        assert f"{told}\nTraceback" in search.log()
        assert "RuntimeError: a bug" in search.log()
        search.run()


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("call", ["insert", "setMetadata"])
def test_a_refusal_that_repeats_the_request_is_told_without_the_key(
    caplog: pytest.LogCaptureFixture, call: str, *, late: bool
) -> None:
    """At once, or by the operation that was begun."""
    sent = Quoting(call=call, late=late)
    with caplog.at_level(logging.DEBUG), world(sent, kept=1) as made:
        search = Search(made, sent, caplog.records)
        plant(made)
        if call == "setMetadata":
            sent.call = ""
            made.apply(NAME, SECRET_SPEC)
            made.run(WHILE)
            sent.call = call
        made.apply(NAME, {**SECRET_SPEC, "server": {"threads": 3}})
        made.run(WHILE)
        assert sent.quoted
        assert "Invalid value for field" in json.dumps(made.kube.objects[NAMESPACE, NAME]["status"])
        search.run()
