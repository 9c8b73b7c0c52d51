"""No secret stands anywhere but where it belongs: looked for in all that a life writes, tells and sends.

What the VM's own code does with them is seen where there is one, in tests/e2e/test_credentials.py.
"""

import base64
import json
import logging
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import pytest
import requests

from budget_operator.core.errors import Unavailable
from budget_operator.core.names import METADATA_KEY, Owner
from budget_operator.reconcile.inputs import LOGIN_SUFFIX
from dev.simulation.apiserver import CODE
from dev.simulation.world import NAMESPACE, World, world
from localcloud.faults import parse
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
        yield "the log", "\n".join(map(logging.Formatter().format, self.records))
        yield "what the function logs", "".join(self.made.function.lines)
        yield "calls of the cloud", "\n".join(self.sent.texts)
        calls = self.made.cloud.context.journal.entries(limit=1_000_000)
        yield "the journal", "\n".join(str(call.as_json()) for call in calls)

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


def test_a_bug_is_logged_without_what_the_pass_was_holding(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tracebacks name lines, never values; and an answer of the API server is told without its body."""
    sent = Sent()
    with caplog.at_level(logging.DEBUG), world(sent, kept=1) as made:
        search = Search(made, sent, caplog.records)
        made.kube.secrets[NAMESPACE, "login"] = dict(LOGIN)
        made.kube.secrets[NAMESPACE, "env"] = {key: PLANTED[key].encode() for key in ("api-key", "index")}

        def broken(*_: object) -> None:
            raise Unavailable("the API server does not answer")

        monkeypatch.setattr(made.kube, "patch_status", broken)
        made.apply(NAME, SECRET_SPEC)
        made.run(60)
        assert any("does not answer" in record.getMessage() for record in caplog.records)
        search.run()
        made.kube.annotate(NAME, "note", PLANTED["password"])
        with pytest.raises(AssertionError, match=f"password is in the object {NAME}"):
            search.run()
