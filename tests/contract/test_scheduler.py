"""Cloud Scheduler as google-cloud-scheduler (REST) and google-api-python-client see it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from google.api_core import exceptions
from google.cloud import scheduler_v1
from google.cloud.pubsub_v1 import PublisherClient, SubscriberClient
from googleapiclient.errors import HttpError

PARENT = "projects/p1/locations/us-central1"
JOB = f"{PARENT}/jobs/budget-keepalive"
TOPIC = "projects/p1/topics/keepalive"
SUBSCRIPTION = "projects/p1/subscriptions/reader"
OWNER = json.dumps({"installation": "abc"})


@pytest.fixture
def client(client_options: dict[str, Any]) -> scheduler_v1.CloudSchedulerClient:
    return scheduler_v1.CloudSchedulerClient(transport="rest", **client_options)


@pytest.fixture
def subscriber(client_options: dict[str, Any]) -> SubscriberClient:
    """A reader of the topic that jobs publish to."""
    publisher = PublisherClient(transport="rest", **client_options)
    publisher.create_topic(request={"name": TOPIC})
    made = SubscriberClient(transport="rest", **client_options)
    made.create_subscription(request={"name": SUBSCRIPTION, "topic": TOPIC})
    return made


def job(**fields: Any) -> scheduler_v1.Job:
    target = scheduler_v1.PubsubTarget(topic_name=TOPIC, data=b"tick", attributes={"schedule": "s"})
    given = {"name": JOB, "schedule": "0 0 1 1 *", "time_zone": "Europe/Berlin", "description": OWNER}
    return scheduler_v1.Job(given | {"pubsub_target": target} | fields)


def received(subscriber: SubscriberClient) -> list[bytes]:
    answer = subscriber.pull(request={"subscription": SUBSCRIPTION, "max_messages": 10})
    return [message.message.data for message in answer.received_messages]


def test_the_life_of_a_job(
    client: scheduler_v1.CloudSchedulerClient,
    subscriber: SubscriberClient,
    cloud: Any,
) -> None:
    made = client.create_job(parent=PARENT, job=job())
    assert (made.state.name, made.description, made.time_zone) == ("ENABLED", OWNER, "Europe/Berlin")
    assert (made.schedule_time.hour, made.schedule_time.minute) == (23, 0)
    with pytest.raises(exceptions.Conflict):
        client.create_job(parent=PARENT, job=job())
    assert [one.name for one in client.list_jobs(parent=PARENT)] == [JOB]

    assert client.pause_job(name=JOB).state.name == "PAUSED"
    with pytest.raises(exceptions.BadRequest):
        client.pause_job(name=JOB)
    assert client.resume_job(name=JOB).state.name == "ENABLED"

    ran = client.run_job(name=JOB)
    assert (ran.status.code, bool(ran.last_attempt_time)) == (0, True)
    assert received(subscriber) == [b"tick"]

    changed = job(schedule="5 4 * * *", time_zone="Etc/UTC", description="other")
    updated = client.update_job(job=changed, update_mask={"paths": ["schedule", "time_zone"]})
    assert (updated.schedule, updated.time_zone, updated.description) == ("5 4 * * *", "Etc/UTC", OWNER)
    assert (updated.schedule_time.hour, updated.schedule_time.minute) == (4, 5)

    client.delete_job(name=JOB)
    with pytest.raises(exceptions.NotFound):
        client.get_job(name=JOB)
    with pytest.raises(exceptions.NotFound):
        client.delete_job(name=JOB)


@pytest.mark.parametrize(
    "fields",
    [
        {"schedule": "every minute"},
        {"schedule": ""},
        {"time_zone": "Mars/Olympus"},
        {"pubsub_target": {"topic_name": TOPIC}},
        {"pubsub_target": {"topic_name": "keepalive", "data": b"x"}},
        {"name": f"{PARENT}/jobs/a b"},
        {"pubsub_target": None, "http_target": {"uri": "http://example.com/"}},
    ],
)
def test_bad_jobs_are_refused(client: scheduler_v1.CloudSchedulerClient, fields: dict[str, Any]) -> None:
    with pytest.raises(exceptions.BadRequest):
        client.create_job(parent=PARENT, job=job(**fields))
    assert list(client.list_jobs(parent=PARENT)) == []


def test_a_bad_change_leaves_the_job(client: scheduler_v1.CloudSchedulerClient) -> None:
    before = client.create_job(parent=PARENT, job=job())
    with pytest.raises(exceptions.BadRequest):
        client.update_job(job=job(schedule="x"), update_mask={"paths": ["schedule"]})
    assert client.get_job(name=JOB) == before


def test_the_outcome_of_a_run_without_a_topic_stands_in_the_job(
    client: scheduler_v1.CloudSchedulerClient,
) -> None:
    client.create_job(parent=PARENT, job=job())
    client.run_job(name=JOB)
    assert client.get_job(name=JOB).status.code == 5


def test_a_tick_on_request(
    client: scheduler_v1.CloudSchedulerClient, subscriber: SubscriberClient, cloud: Any
) -> None:
    client.create_job(parent=PARENT, job=job())
    assert cloud.context.registry.verbs["tick"]("budget-keepalive")["name"] == JOB
    assert received(subscriber) == [b"tick"]


def test_google_api_python_client(discovered: Callable[[str], Any]) -> None:
    jobs = discovered("cloudscheduler.v1").projects().locations().jobs()
    target = {"topicName": TOPIC, "data": "dGljaw=="}
    body = {"name": JOB, "schedule": "* * * * *", "timeZone": "Etc/UTC", "pubsubTarget": target}
    retries = {"retryCount": 0, "minBackoffDuration": "5s", "maxBackoffDuration": "3600s", "maxDoublings": 5}
    made = jobs.create(parent=PARENT, body=body | {"retryConfig": retries}).execute()
    assert made["retryConfig"] == retries
    for number in (1, 2):
        jobs.create(parent=PARENT, body=body | {"name": f"{JOB}-{number}"}).execute()
    first = jobs.list(parent=PARENT, pageSize=2).execute()
    second = jobs.list(parent=PARENT, pageSize=2, pageToken=first["nextPageToken"]).execute()
    assert [one["name"] for one in first["jobs"] + second["jobs"]] == [JOB, f"{JOB}-1", f"{JOB}-2"]
    with pytest.raises(HttpError, match="Cannot find field"):
        jobs.create(parent=PARENT, body=body | {"colour": "red"}).execute()
    jobs.patch(name=JOB, updateMask="description", body={"description": "mine"}).execute()
    assert jobs.get(name=JOB).execute()["description"] == "mine"
    assert jobs.delete(name=JOB).execute() == {}
