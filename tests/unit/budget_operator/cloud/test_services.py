"""Requests of the storage, Pub/Sub, Scheduler and Functions gateways, as they leave the real clients."""

import base64
from typing import Any

import pytest

from budget_operator.cloud.functions import FunctionsGateway
from budget_operator.cloud.pubsub import PubSubGateway
from budget_operator.cloud.scheduler import SchedulerGateway
from budget_operator.cloud.storage import StorageGateway
from budget_operator.core import errors
from budget_operator.core.gateways import FunctionRequest
from budget_operator.core.observed import Bucket, Content, Function, Job, Topic

TOPIC = "/v1/projects/p1/topics/budget-keepalive-x"
JOBS = "/v1/projects/p1/locations/r1/jobs"
FUNCTIONS = "/v2/projects/p1/locations/r1/functions"


def test_bucket(google: Any) -> None:
    storage = StorageGateway(google.connection, "b1")
    assert storage.bucket() is None
    google.answer("GET /storage/v1/b/b1", (200, {"name": "b1", "labels": {"a": "1"}}))
    assert storage.bucket() == Bucket("b1", {"a": "1"})


def test_create_bucket_closes_it_to_the_public(google: Any) -> None:
    google.answer("POST /storage/v1/b", (200, {"name": "b1"}))
    StorageGateway(google.connection, "b1").create_bucket("us-central1", {"a": "1"})
    (sent,) = google.requests
    assert sent.query["project"] == "p1"
    assert sent.body["labels"] == {"a": "1"}
    assert sent.body["location"] == "us-central1"
    assert sent.body["iamConfiguration"]["publicAccessPrevention"] == "enforced"
    assert sent.body["iamConfiguration"]["uniformBucketLevelAccess"]["enabled"] is True


def test_somebody_elses_bucket_is_no_absent_bucket(google: Any, google_error: Any) -> None:
    google.answer("GET /storage/v1/b/b1", google_error(403, "forbidden", "no storage.buckets.get access"))
    with pytest.raises(errors.PermissionDenied, match=r"storage\.buckets\.get"):
        StorageGateway(google.connection, "b1").bucket()


def test_delete_bucket_empties_it_first(google: Any) -> None:
    items = [{"name": "code/a.zip", "generation": "1"}, {"name": "code/a.zip", "generation": "2"}]
    google.answer("GET /storage/v1/b/b1/o", (200, {"items": items}))
    google.answer("DELETE /storage/v1/b/b1/o/code%2Fa.zip", (204, None))
    google.answer("DELETE /storage/v1/b/b1", (204, None))
    StorageGateway(google.connection, "b1").delete_bucket()
    listing, *deletes = google.requests
    assert listing.query["versions"] == "True"
    assert [sent.query.get("generation") for sent in deletes] == ["1", "2", None]
    assert deletes[-1].path == "/storage/v1/b/b1"


def test_a_bucket_that_filled_again_is_looked_at_again(google: Any, google_error: Any) -> None:
    google.answer("GET /storage/v1/b/b1/o", (200, {}))
    google.answer("DELETE /storage/v1/b/b1", google_error(409, "conflict", "The bucket is not empty."))
    with pytest.raises(errors.PreconditionFailed):
        StorageGateway(google.connection, "b1").delete_bucket()


def test_deleting_what_is_gone_is_success(google: Any) -> None:
    storage = StorageGateway(google.connection, "b1")
    storage.delete_bucket()
    storage.delete_object("a")
    PubSubGateway(google.connection).delete_topic("budget-keepalive-x")
    SchedulerGateway(google.connection, "r1").delete_job("j")
    FunctionsGateway(google.connection, "r1").delete_function("f")


def test_objects_and_upload(google: Any) -> None:
    storage = StorageGateway(google.connection, "b1")
    google.answer(
        "GET /storage/v1/b/b1/o",
        (200, {"items": [{"name": "code/1", "size": "4", "crc32c": "yZRlqg=="}], "nextPageToken": "x"}),
        (200, {"items": [{"name": "code/2", "size": "0"}]}),
    )
    google.answer("POST /upload/storage/v1/b/b1/o", (200, {"name": "code/3"}))
    assert storage.objects("code/") == {"code/1": Content(4, "yZRlqg=="), "code/2": Content(0, "")}
    storage.upload("code/3", b"\x00data", "application/zip")
    assert google.requests[0].query["prefix"] == "code/"
    assert {sent.query["fields"] for sent in google.requests[:2]} == {"items(name,size,crc32c),nextPageToken"}
    assert b"\x00data" in google.requests[-1].body
    assert b"application/zip" in google.requests[-1].body


def test_one_call_reads_an_object_and_its_generation(google: Any) -> None:
    storage = StorageGateway(google.connection, "b1")
    assert storage.read("owner") is None
    google.answer("POST /upload/storage/v1/b/b1/o", (200, {"name": "owner", "generation": "8"}))
    assert storage.write("owner", b"x", "application/json", 7) == 8
    assert google.requests[-1].query["ifGenerationMatch"] == "7"
    assert len(google.requests) == 2


def test_an_upload_is_not_repeated(google: Any, google_error: Any) -> None:
    google.answer("POST /upload/storage/v1/b/b1/o", google_error(503, "backendError", "later"))
    with pytest.raises(errors.Unavailable):
        StorageGateway(google.connection, "b1").upload("a", b"x", "text/plain")
    assert len(google.requests) == 1


def test_topic(google: Any) -> None:
    pubsub = PubSubGateway(google.connection)
    assert pubsub.topic("budget-keepalive-x") is None
    answer = {"name": TOPIC.removeprefix("/v1/"), "labels": {"a": "1"}}
    google.answer(f"GET {TOPIC}", (200, answer))
    google.answer(f"PUT {TOPIC}", (200, answer))
    for subscriptions in ([], ["projects/p1/subscriptions/s"]):
        google.answer(f"GET {TOPIC}/subscriptions", (200, {"subscriptions": subscriptions}))
        found = Topic("budget-keepalive-x", {"a": "1"}, subscribed=bool(subscriptions))
        assert pubsub.topic("budget-keepalive-x") == found
    pubsub.create_topic("budget-keepalive-x", {"a": "1"})
    assert google.requests[-1].body["labels"] == {"a": "1"}


def test_job(google: Any) -> None:
    scheduler = SchedulerGateway(google.connection, "r1")
    assert scheduler.job("j") is None
    answer = {
        "name": "projects/p1/locations/r1/jobs/j",
        "state": "ENABLED",
        "schedule": "* * * * *",
        "timeZone": "Etc/UTC",
        "description": "{}",
        "pubsubTarget": {"topicName": "projects/p1/topics/t"},
    }
    google.answer(f"GET {JOBS}/j", (200, answer))
    assert scheduler.job("j") == Job("j", "ENABLED", "* * * * *", "Etc/UTC", "t", "{}")


def test_create_job(google: Any) -> None:
    google.answer(f"POST {JOBS}", (200, {}))
    scheduler = SchedulerGateway(google.connection, "r1")
    scheduler.create_job("j", "* * * * *", "Etc/UTC", "t", b'{"schedule":"h"}', "mark")
    body = google.requests[0].body
    assert body["name"] == "projects/p1/locations/r1/jobs/j"
    assert body["pubsubTarget"]["topicName"] == "projects/p1/topics/t"
    assert base64.b64decode(body["pubsubTarget"]["data"]) == b'{"schedule":"h"}'
    assert (body["schedule"], body["timeZone"], body["description"]) == ("* * * * *", "Etc/UTC", "mark")


@pytest.mark.parametrize(("state", "calls"), [("ENABLED", 1), ("PAUSED", 2)])
def test_update_job_lets_it_run(google: Any, state: str, calls: int) -> None:
    google.answer(f"PATCH {JOBS}/j", (200, {"state": state}))
    google.answer(f"POST {JOBS}/j:resume", (200, {"state": "ENABLED"}))
    SchedulerGateway(google.connection, "r1").update_job("j", "* * * * *", "Etc/UTC", "t", b"{}", "mark")
    assert len(google.requests) == calls
    mask = google.requests[0].query["updateMask"].split(",")
    assert set(mask) == {"schedule", "timeZone", "pubsubTarget", "description"}


REQUEST = FunctionRequest(
    name="f",
    region="r1",
    runtime="python312",
    bucket="b1",
    source_object="function/1.zip",
    topic="t",
    environment={"BUDGET_PROJECT": "p1"},
    labels={"a": "1"},
    service_account="run@p1",
    build_service_account="build@p1",
    trigger_service_account="trigger@p1",
)


def test_function(google: Any) -> None:
    functions = FunctionsGateway(google.connection, "r1")
    assert functions.function("f") is None
    answer = {
        "name": f"{FUNCTIONS}/f".removeprefix("/v2/"),
        "state": "FAILED",
        "labels": {"a": "1"},
        "buildConfig": {
            "runtime": "python312",
            "entryPoint": "restart",
            "source": {"storageSource": {"bucket": "b1", "object": "function/1.zip"}},
            "serviceAccount": "projects/p1/serviceAccounts/build@p1",
        },
        "serviceConfig": {
            "environmentVariables": {"BUDGET_PROJECT": "p1"},
            "serviceAccountEmail": "run@p1",
            "timeoutSeconds": 300,
            "maxInstanceCount": 10,
            "ingressSettings": "ALLOW_INTERNAL_ONLY",
        },
        "eventTrigger": {"pubsubTopic": "projects/p1/topics/t", "serviceAccountEmail": "trigger@p1"},
        "stateMessages": [{"severity": "ERROR", "type": "x", "message": "build failed"}],
    }
    google.answer(f"GET {FUNCTIONS}/f", (200, answer))
    assert functions.function("f") == Function(
        "f",
        "FAILED",
        "function/1.zip",
        "t",
        {"BUDGET_PROJECT": "p1"},
        {"a": "1"},
        "build failed",
        "python312",
        "run@p1",
        "build@p1",
        "trigger@p1",
    )
    google.answer(f"GET {FUNCTIONS}/f", (200, {**answer, "serviceConfig": {"ingressSettings": "ALLOW_ALL"}}))
    changed = functions.function("f")
    assert changed is not None
    assert not changed.as_made


def test_create_function(google: Any) -> None:
    operation = {"name": "projects/p1/locations/r1/operations/o", "done": False}
    google.answer(f"POST {FUNCTIONS}", (200, operation))
    FunctionsGateway(google.connection, "r1").create_function(REQUEST)
    (sent,) = google.requests
    assert sent.query["functionId"] == "f"
    assert sent.body["buildConfig"]["source"]["storageSource"] == {"bucket": "b1", "object": "function/1.zip"}
    assert sent.body["buildConfig"]["entryPoint"] == "restart"
    assert sent.body["buildConfig"]["serviceAccount"] == "projects/p1/serviceAccounts/build@p1"
    assert sent.body["serviceConfig"]["maxInstanceCount"] > 1, "one may wait for a VM"
    assert sent.body["serviceConfig"]["serviceAccountEmail"] == "run@p1"
    assert sent.body["eventTrigger"]["pubsubTopic"] == "projects/p1/topics/t"
    assert sent.body["eventTrigger"]["serviceAccountEmail"] == "trigger@p1"
    # Enumerations travel as numbers: GEN_2, ALLOW_INTERNAL_ONLY, RETRY_POLICY_DO_NOT_RETRY.
    numbers = (
        sent.body["environment"],
        sent.body["serviceConfig"]["ingressSettings"],
        sent.body["eventTrigger"]["retryPolicy"],
    )
    assert numbers == (2, 2, 1)


def test_update_function_leaves_the_trigger(google: Any) -> None:
    google.answer(f"PATCH {FUNCTIONS}/f", (200, {"name": "projects/p1/locations/r1/operations/o"}))
    FunctionsGateway(google.connection, "r1").update_function(REQUEST)
    mask = google.requests[0].query["updateMask"].split(",")
    assert "buildConfig.source" in mask
    assert not [path for path in mask if path.startswith("eventTrigger")]


def test_an_api_enabled_a_moment_ago_is_waited_for(google: Any) -> None:
    message = "Validation failed for trigger: If you recently started to use Eventarc, wait a few minutes"
    body = {"error": {"code": 400, "status": "INVALID_ARGUMENT", "message": message}}
    google.answer(f"POST {FUNCTIONS}", (400, body))
    with pytest.raises(errors.ResourceNotReady):
        FunctionsGateway(google.connection, "r1").create_function(REQUEST)
