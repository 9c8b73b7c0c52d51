"""The gate around every call: journal, faults, and errors in the form of the API that is called."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from localcloud.app import create_app, ground
from localcloud.clock import ManualClock
from localcloud.context import Context
from localcloud.faults import parse
from localcloud.settings import Settings

ZONE = "/compute/v1/projects/p/zones/us-central1-a"
FIREWALLS = "/compute/v1/projects/p/global/firewalls"


def add(context: Context, **document: Any) -> None:
    context.faults.add(parse(document), context.clock.now())


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
    add(context, path="/firewalls", code=403, reason="rateLimitExceeded")
    body = {"name": "fw", "allowed": [{"IPProtocol": "tcp"}]}
    failed = client.post(FIREWALLS, json=body)
    assert (failed.status_code, failed.json()["error"]["errors"][0]["reason"]) == (403, "rateLimitExceeded")
    assert client.get(f"{FIREWALLS}/fw").status_code == 404
    assert [entry.status for entry in context.journal.entries()] == [403, 404]


def test_a_lost_answer_has_had_its_effect(client: TestClient, context: Context) -> None:
    add(context, path="/firewalls", when="after")
    body = {"name": "fw", "allowed": [{"IPProtocol": "tcp"}]}
    assert client.post(FIREWALLS, json=body).status_code == 503
    assert client.get(f"{FIREWALLS}/fw").status_code == 200

    insert, entries = "compute.firewalls.create", context.journal.entries
    counted = [entries(permission=insert, effective=each) for each in (False, True)]
    assert [[entry.status for entry in found] for found in counted] == [[503], [503]], "it took effect"


def test_a_late_answer_has_had_its_effect_long_before(client: TestClient, context: Context) -> None:
    add(context, path="/firewalls", method="POST", when="after", code=0, latency=0.2)
    answer = client.post(FIREWALLS, json={"name": "fw", "allowed": [{"IPProtocol": "tcp"}]})
    assert answer.status_code == 200
    assert answer.elapsed.total_seconds() >= 0.2
    stamp = datetime.fromisoformat(client.get(f"{FIREWALLS}/fw").json()["creationTimestamp"])
    assert (context.clock.now() - stamp).total_seconds() >= 0.2


def test_an_api_that_is_disabled_says_how_to_enable_it(client: TestClient, context: Context) -> None:
    add(context, kind="disabled-api", service="compute")
    error = client.get(ZONE).json()["error"]
    assert (error["code"], error["errors"][0]["reason"]) == (403, "accessNotConfigured")
    assert error["details"][0]["reason"] == "SERVICE_DISABLED"
    assert error["details"][0]["metadata"] == {"service": "compute.googleapis.com"}
    assert client.get("/storage/v1/b", params={"project": "p"}).status_code == 200


def test_a_fresh_api_reads_but_changes_nothing(client: TestClient, context: Context) -> None:
    add(context, kind="fresh-api", service="compute", seconds=3600)
    assert client.get(ZONE).status_code == 200
    refused = client.post(FIREWALLS, json={"name": "fw", "allowed": [{"IPProtocol": "tcp"}]})
    assert refused.status_code == 400
    assert "few minutes" in refused.json()["error"]["message"]


def test_a_permission_that_is_missing_is_named(client: TestClient, context: Context) -> None:
    add(context, kind="permission-denied", permission="compute.firewalls.*")
    error = client.post(FIREWALLS, json={"name": "fw"}).json()["error"]
    assert (error["code"], error["errors"][0]["reason"]) == (403, "forbidden")
    assert error["message"] == "Required 'compute.firewalls.create' permission for 'projects/p/global'"
    assert client.get(ZONE).status_code == 200
    assert context.journal.entries(permission="compute.firewalls.*", effective=True) == []


def test_reads_and_writes_are_counted_by_the_minute(tmp_path: Path, clock: ManualClock) -> None:
    context = ground(Settings(tmp_path / "home"), clock)
    add(context, kind="rate-limit", service="compute", calls="read", perMinute=2)
    with TestClient(create_app(context)) as client:
        refused = [client.get(ZONE).json().get("error") for _ in range(4)]
        assert [error and error["errors"][0]["reason"] for error in refused] == [
            *(None, None),
            *("rateLimitExceeded", "rateLimitExceeded"),
        ]
        body = {"name": "fw", "allowed": [{"IPProtocol": "tcp"}]}
        assert client.post(FIREWALLS, json=body).status_code == 200, "writes are counted apart"
        clock.advance(60)
        assert client.get(ZONE).status_code == 200


def test_other_apis_than_compute_limit_with_429(client: TestClient, context: Context) -> None:
    add(context, kind="rate-limit", service="pubsub", calls="write", perMinute=0)
    add(context, kind="rate-limit", service="storage", calls="read", perMinute=0)
    topic = client.put("/v1/projects/p/topics/ttt")
    assert (topic.status_code, topic.json()["error"]["status"]) == (429, "RESOURCE_EXHAUSTED")
    buckets = client.get("/storage/v1/b", params={"project": "p"})
    assert (buckets.status_code, buckets.json()["error"]["errors"][0]["reason"]) == (429, "rateLimitExceeded")
    assert client.get("/v1/projects/p/topics").status_code == 200


def test_latency_alone_fails_nothing(client: TestClient, context: Context) -> None:
    add(context, path="/zones", code=0, latency=0.05)
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
