"""The gate around every call: journal, faults, and errors in the form of the API that is called."""

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from localcloud.app import create_app
from localcloud.context import Context
from localcloud.faults import CallFault

ZONE = "/compute/v1/projects/p/zones/us-central1-a"
FIREWALLS = "/compute/v1/projects/p/global/firewalls"


@pytest.fixture
def client(context: Context) -> Iterator[TestClient]:
    with TestClient(create_app(context)) as client:
        yield client


def test_calls_are_written_to_the_journal_but_control_is_not(client: TestClient, context: Context) -> None:
    client.get(ZONE + "?alt=json", headers={"User-Agent": "tester"})
    client.get("/_localcloud/v1/health")
    [entry] = context.journal.entries()
    assert (entry.method, entry.path, entry.status, entry.agent) == ("GET", ZONE + "?alt=json", 200, "tester")


def test_a_fault_before_the_effect(client: TestClient, context: Context) -> None:
    context.faults.add(CallFault(path="/firewalls", code=403, reason="rateLimitExceeded"))
    body = {"name": "fw", "allowed": [{"IPProtocol": "tcp"}]}
    failed = client.post(FIREWALLS, json=body)
    assert (failed.status_code, failed.json()["error"]["errors"][0]["reason"]) == (403, "rateLimitExceeded")
    assert client.get(f"{FIREWALLS}/fw").status_code == 404
    assert [entry.status for entry in context.journal.entries()] == [403, 404]


def test_a_lost_answer_has_had_its_effect(client: TestClient, context: Context) -> None:
    context.faults.add(CallFault(path="/firewalls", when="after"))
    body = {"name": "fw", "allowed": [{"IPProtocol": "tcp"}]}
    assert client.post(FIREWALLS, json=body).status_code == 503
    assert client.get(f"{FIREWALLS}/fw").status_code == 200


def test_latency_alone_fails_nothing(client: TestClient, context: Context) -> None:
    context.faults.add(CallFault(path="/zones", code=0, latency=0.05))
    answer = client.get(ZONE)
    assert answer.status_code == 200
    assert answer.elapsed.total_seconds() >= 0.05


def test_errors_have_the_form_of_the_api(client: TestClient) -> None:
    legacy = client.get("/compute/v1/projects/p/nothing")
    assert (legacy.status_code, legacy.json()["error"]["errors"][0]["reason"]) == (404, "notFound")
    modern = client.get("/v9/projects/p/nothing")
    assert modern.json()["error"]["status"] == "NOT_FOUND"


def test_a_body_that_is_no_json_is_refused(client: TestClient) -> None:
    for content in ("{", "[]"):
        assert client.post(FIREWALLS, content=content).status_code == 400
