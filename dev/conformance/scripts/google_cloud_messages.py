"""google-cloud-pubsub and google-cloud-scheduler, over REST."""

from typing import Any

from google.api_core import exceptions
from google.cloud import scheduler_v1
from google.cloud.pubsub_v1 import PublisherClient, SubscriberClient

from dev.conformance import bodies, clients
from dev.conformance.bodies import PROJECT
from dev.conformance.script import Script, same

TOPIC = f"projects/{PROJECT}/topics/conform"
SUBSCRIPTION = f"projects/{PROJECT}/subscriptions/conform-reader"
JOB = f"{bodies.PARENT}/jobs/conform"


def topics(script: Script) -> None:
    """Topics, subscriptions, and a message on its way."""
    publisher = PublisherClient(transport="rest", **clients.options(script.cloud.url))
    subscriber = SubscriberClient(transport="rest", **clients.options(script.cloud.url))
    _topics(script, publisher)
    _subscriptions(script, subscriber)
    _messages(script, publisher, subscriber)
    with script.call("subscriptions.delete"):
        subscriber.delete_subscription(request={"subscription": SUBSCRIPTION})
    with script.refused("subscriptions.get of none", exceptions.NotFound):
        subscriber.get_subscription(request={"subscription": SUBSCRIPTION})
    with script.call("topics.delete"):
        publisher.delete_topic(request={"topic": TOPIC})
    with script.refused("topics.publish to none", exceptions.NotFound):
        publisher.publish(TOPIC, b"x").result(timeout=10)


def _topics(script: Script, publisher: Any) -> None:
    with script.call("topics.create"):
        publisher.create_topic(request={"name": TOPIC, "labels": {"owner": "abc"}})
    with script.refused("topics.create of the same name", exceptions.Conflict):
        publisher.create_topic(request={"name": TOPIC})
    with script.refused("topics.create of a bad name", exceptions.BadRequest):
        publisher.create_topic(request={"name": f"projects/{PROJECT}/topics/t1"})
    with script.call("topics.get"):
        same(dict(publisher.get_topic(request={"topic": TOPIC}).labels), {"owner": "abc"})
    with script.call("topics.patch"):
        change = {"name": TOPIC, "labels": {"owner": "def"}}
        publisher.update_topic(request={"topic": change, "update_mask": "labels"})
        same(dict(publisher.get_topic(request={"topic": TOPIC}).labels), {"owner": "def"})
    with script.call("topics.list"):
        found = publisher.list_topics(request={"project": f"projects/{PROJECT}"})
        same([each.name for each in found], [TOPIC])


def _subscriptions(script: Script, subscriber: Any) -> None:
    asked = {"name": SUBSCRIPTION, "topic": TOPIC, "labels": {"a": "b"}, "ack_deadline_seconds": 20}
    with script.call("subscriptions.create"):
        made = subscriber.create_subscription(request=asked)
        same((made.ack_deadline_seconds, made.topic), (20, TOPIC))
    with script.refused("subscriptions.create of the same name", exceptions.Conflict):
        subscriber.create_subscription(request=asked)
    with script.refused("subscriptions.create without its topic", exceptions.NotFound):
        subscriber.create_subscription(request=asked | {"name": f"{SUBSCRIPTION}-2", "topic": f"{TOPIC}-2"})
    with script.call("subscriptions.get"):
        same(dict(subscriber.get_subscription(request={"subscription": SUBSCRIPTION}).labels), {"a": "b"})
    with script.call("subscriptions.patch"):
        change = {"name": SUBSCRIPTION, "ack_deadline_seconds": 30}
        subscriber.update_subscription(
            request={"subscription": change, "update_mask": {"paths": ["ack_deadline_seconds"]}}
        )
        found = subscriber.get_subscription(request={"subscription": SUBSCRIPTION})
        same(found.ack_deadline_seconds, 30)
    with script.call("subscriptions.list"):
        listed = subscriber.list_subscriptions(request={"project": f"projects/{PROJECT}"})
        same([each.name for each in listed], [SUBSCRIPTION])
    with script.call("topics.subscriptions.list"):
        publisher = PublisherClient(transport="rest", **clients.options(script.cloud.url))
        same(list(publisher.list_topic_subscriptions(request={"topic": TOPIC})), [SUBSCRIPTION])
    with script.call("subscriptions.modifyPushConfig"):
        for config in ({"push_endpoint": f"{script.cloud.url}/_localcloud/v1/health"}, {}):
            subscriber.modify_push_config(request={"subscription": SUBSCRIPTION, "push_config": config})


def _messages(script: Script, publisher: Any, subscriber: Any) -> None:
    pull = {"subscription": SUBSCRIPTION, "max_messages": 10}
    with script.call("topics.publish"):
        sent = publisher.publish(TOPIC, b"\x00\xff", colour="blue").result(timeout=10)
    with script.call("subscriptions.pull"):
        (received,) = subscriber.pull(request=pull).received_messages
        same(received.message.message_id, sent)
        same((received.message.data, dict(received.message.attributes)), (b"\x00\xff", {"colour": "blue"}))
    with script.call("subscriptions.modifyAckDeadline to 0 gives it back"):
        again = {"subscription": SUBSCRIPTION, "ack_ids": [received.ack_id], "ack_deadline_seconds": 0}
        subscriber.modify_ack_deadline(request=again)
        (received,) = subscriber.pull(request=pull).received_messages
    with script.call("subscriptions.acknowledge"):
        subscriber.acknowledge(request={"subscription": SUBSCRIPTION, "ack_ids": [received.ack_id]})
        same(list(subscriber.pull(request=pull).received_messages), [])


def jobs(script: Script) -> None:
    """The life of a Scheduler job that publishes."""
    publisher = PublisherClient(transport="rest", **clients.options(script.cloud.url))
    subscriber = SubscriberClient(transport="rest", **clients.options(script.cloud.url))
    publisher.create_topic(request={"name": TOPIC})
    subscriber.create_subscription(request={"name": SUBSCRIPTION, "topic": TOPIC})
    client = scheduler_v1.CloudSchedulerClient(transport="rest", **clients.options(script.cloud.url))
    _job(script, client)
    with script.call("jobs.run publishes"):
        client.run_job(name=JOB)
        asked = {"subscription": SUBSCRIPTION, "max_messages": 10}
        (received,) = subscriber.pull(request=asked).received_messages
        same((received.message.data, dict(received.message.attributes)), (b"tick", {"schedule": "s"}))
    with script.call("jobs.delete"):
        client.delete_job(name=JOB)
    with script.refused("jobs.get of none", exceptions.NotFound):
        client.get_job(name=JOB)


def _wanted(**fields: Any) -> scheduler_v1.Job:
    target = scheduler_v1.PubsubTarget(topic_name=TOPIC, data=b"tick", attributes={"schedule": "s"})
    given = {"name": JOB, "schedule": "0 0 1 1 *", "time_zone": "Europe/Berlin", "pubsub_target": target}
    return scheduler_v1.Job(given | fields)


def _job(script: Script, client: Any) -> None:
    with script.call("jobs.create"):
        made = client.create_job(parent=bodies.PARENT, job=_wanted())
        same((made.state.name, made.schedule_time.hour), ("ENABLED", 23))
    with script.refused("jobs.create of the same name", exceptions.Conflict):
        client.create_job(parent=bodies.PARENT, job=_wanted())
    with script.refused("jobs.create with a bad schedule", exceptions.BadRequest):
        client.create_job(parent=bodies.PARENT, job=_wanted(name=f"{JOB}-2", schedule="every minute"))
    with script.refused("jobs.create in an unknown time zone", exceptions.BadRequest):
        client.create_job(parent=bodies.PARENT, job=_wanted(name=f"{JOB}-2", time_zone="Mars/Olympus"))
    with script.call("jobs.get"):
        same(client.get_job(name=JOB).time_zone, "Europe/Berlin")
    with script.call("jobs.list"):
        same([each.name for each in client.list_jobs(parent=bodies.PARENT)], [JOB])
    with script.call("jobs.patch"):
        client.update_job(job=_wanted(schedule="5 4 * * *"), update_mask={"paths": ["schedule"]})
        same(client.get_job(name=JOB).schedule, "5 4 * * *")
    with script.call("jobs.pause"):
        same(client.pause_job(name=JOB).state.name, "PAUSED")
    with script.refused("jobs.pause of a paused one", exceptions.BadRequest):
        client.pause_job(name=JOB)
    with script.call("jobs.resume"):
        same(client.resume_job(name=JOB).state.name, "ENABLED")
