"""Which changes of an object call for a pass, and how kopf's session is watched over."""

import asyncio
import contextlib
import threading
from collections.abc import Iterable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import aiohttp
import kopf
import pytest

from budget_operator.cluster.access import Access
from budget_operator.cluster.contact import Contact
from budget_operator.cluster.watch import OVERDUE_SECONDS, STREAM_SECONDS, Sessions, Watch, changed, settings
from budget_operator.core import api
from dev.progress import until

BODY: dict[str, Any] = {"metadata": {"uid": "1", "generation": 1, "finalizers": [api.FINALIZER]}}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, False),
        ({"resourceVersion": "77"}, False),
        ({"generation": 2}, True),
        ({"deletionTimestamp": "2026-01-01T00:00:00Z"}, True),
        ({"uid": "2"}, True),
        ({"annotations": {"unrelated": "x"}}, False),
        ({"annotations": {api.ABANDON: "1"}}, True),
    ],
)
def test_only_what_a_pass_acts_on_calls_for_one(change: dict[str, Any], expected: bool) -> None:
    known, first = changed(None, BODY)
    assert first, "an object seen for the first time calls for a pass"
    _, differs = changed(known, {"metadata": {**BODY["metadata"], **change}})
    assert differs is expected


def watch(*accesses: Access) -> tuple[Watch, list[tuple[str, str]]]:
    """With what it puts on the queue."""
    found: list[tuple[str, str]] = []
    given = iter(accesses)
    return Watch(lambda *key: found.append(key), lambda *_: None, lambda: next(given)), found


def test_kopf_agrees_with_no_other_operator_and_writes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A KopfPeering with a higher priority would halt it."""
    given: dict[str, Any] = {}

    async def operator(**arguments: Any) -> None:
        given.update(arguments)

    monkeypatch.setattr(kopf, "operator", operator)
    made, _ = watch()
    made.start()
    until(lambda: made.ended, 10, "kopf was not run")
    assert given["standalone"] is True
    assert "peering_name" not in given
    assert not given["settings"].peering.mandatory
    assert not given["settings"].posting.enabled
    assert given["settings"].persistence.finalizer != api.FINALIZER
    handlers = given["registry"]
    resource = kopf.Resource(api.GROUP, api.VERSION, api.PLURAL)
    assert handlers._watching.has_handlers(resource)
    assert not handlers._changing.has_handlers(resource)
    assert not handlers._spawning.has_handlers(resource)


def body(uid: str, generation: int = 1) -> dict[str, Any]:
    version = f"{uid}.{generation}"
    return {
        "metadata": {
            "namespace": "n",
            "name": "a",
            "uid": uid,
            "generation": generation,
            "resourceVersion": version,
        }
    }


def test_every_version_is_told_but_that_of_a_deletion() -> None:
    told: list[tuple[str, str, str]] = []
    made = Watch(lambda *_: None, lambda *seen: told.append(seen), lambda: Access("", "", True, ""))
    for kind in ("ADDED", "MODIFIED", "MODIFIED", "DELETED"):
        made.see(kind, body("1"))
    assert told == [("n", "a", "1.1")] * 3


def test_a_list_tells_only_what_the_watch_has_not_told() -> None:
    made, found = watch()
    made.see("ADDED", body("1"))
    made.see(None, body("1"))
    assert found == [("n", "a")]
    made.see(None, body("1", generation=2))
    assert len(found) == 2


def test_the_end_of_a_predecessor_does_not_hide_its_successor() -> None:
    made, found = watch()
    for kind, uid in (("ADDED", "1"), ("ADDED", "2"), ("DELETED", "1"), ("MODIFIED", "2"), ("DELETED", "2")):
        made.see(kind, body(uid))
    assert len(found) == 4, "the second object was known when it was modified"


class ApiServer(BaseHTTPRequestHandler):
    """Accepts one token."""

    def do_GET(self) -> None:
        known = self.headers["Authorization"] == "Bearer good"
        self.send_response(200 if known else 401)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def server() -> Iterator[str]:
    made = HTTPServer(("127.0.0.1", 0), ApiServer)
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{made.server_port}"
    made.shutdown()
    made.server_close()
    thread.join()


def ask(sessions: Sessions, server: str) -> bool:
    """Log in and make one request; whether there was anything to log in with."""

    async def once() -> bool:
        session = sessions.renew()
        if session is None:
            return False
        with contextlib.suppress(aiohttp.ClientConnectionError):
            await session.aiohttp_session.get(server)
        await session.aiohttp_session.close()
        return True

    return asyncio.run(once())


def test_refused_credentials_are_not_used_again_but_new_ones_are(server: str) -> None:
    given = iter(
        [
            Access(server, "", True, token)
            for token in ("Bearer old", "Bearer old", "Bearer good", "Bearer good")
        ]
    )
    contact = Contact()
    sessions = Sessions(lambda: next(given), contact)
    assert ask(sessions, server)
    assert contact.read().failure == "the Kubernetes API answered 401 Unauthorized"
    assert not ask(sessions, server), "kopf ends, and so does the process"
    assert ask(sessions, server)
    assert contact.read().failing_for is None
    assert ask(sessions, server), "a session that was closed for another reason is made anew"


def test_a_request_that_is_not_answered_is_noted() -> None:
    contact = Contact()
    assert ask(Sessions(lambda: Access("", "", True, ""), contact), "http://127.0.0.1:1")
    assert contact.read().failure == "the Kubernetes API does not answer (ClientConnectorError)"


def test_a_watch_that_fails_or_is_overdue_is_in_trouble() -> None:
    now = [0.0]
    made, _ = watch()
    made.contact = Contact(lambda: now[0])
    made.contact.begin()
    now[0] = STREAM_SECONDS + 2 * OVERDUE_SECONDS
    assert not made.troubled
    now[0] += 1
    assert made.troubled
    made.contact.succeeded()
    assert not made.troubled
    made.contact.failed("403")
    assert made.troubled


def test_a_silent_stream_is_noticed_within_a_minute() -> None:
    chosen = settings().watching
    assert chosen.server_timeout is not None
    assert chosen.client_timeout is not None
    assert chosen.server_timeout < chosen.inactivity_timeout < chosen.client_timeout <= 60


def test_kopf_never_owns_our_finalizer() -> None:
    assert settings().persistence.finalizer != api.FINALIZER


def test_the_pauses_of_failed_requests_can_be_iterated_again() -> None:
    backoffs = settings().networking.error_backoffs
    assert isinstance(backoffs, Iterable)
    assert [next(iter(backoffs)), next(iter(backoffs))] == [1, 1]
