"""Pub/Sub as google-cloud-pubsub (REST) and google-api-python-client see it, and its pushes."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import pytest
from google.api_core import exceptions
from google.cloud.pubsub_v1 import PublisherClient, SubscriberClient
from googleapiclient.errors import HttpError

from dev.conformance.receiver import Receiver

TOPIC = "projects/p1/topics/keepalive"
SUBSCRIPTION = "projects/p1/subscriptions/reader"


@pytest.fixture
def publisher(client_options: dict[str, Any]) -> PublisherClient:
    return PublisherClient(transport="rest", **client_options)


@pytest.fixture
def subscriber(client_options: dict[str, Any]) -> SubscriberClient:
    return SubscriberClient(transport="rest", **client_options)


def test_topics(publisher: PublisherClient, cloud: Any) -> None:
    publisher.create_topic(request={"name": TOPIC, "labels": {"budgetml-installation": "abc"}})
    with pytest.raises(exceptions.Conflict):
        publisher.create_topic(request={"name": TOPIC})
    assert publisher.get_topic(request={"topic": TOPIC}).labels == {"budgetml-installation": "abc"}
    publisher.update_topic(request={"topic": {"name": TOPIC, "labels": {"a": "b"}}, "update_mask": "labels"})
    assert [dict(topic.labels) for topic in publisher.list_topics(request={"project": "projects/p1"})] == [
        {"a": "b"}
    ]
    publisher.delete_topic(request={"topic": TOPIC})
    with pytest.raises(exceptions.NotFound):
        publisher.get_topic(request={"topic": TOPIC})
    with pytest.raises(exceptions.NotFound):
        publisher.publish(TOPIC, b"x").result(timeout=10)


def test_pull(
    publisher: PublisherClient,
    subscriber: SubscriberClient,
    cloud: Any,
) -> None:
    publisher.create_topic(request={"name": TOPIC})
    made = subscriber.create_subscription(
        request={"name": SUBSCRIPTION, "topic": TOPIC, "labels": {"a": "b"}, "ack_deadline_seconds": 20}
    )
    assert (made.ack_deadline_seconds, made.topic) == (20, TOPIC)
    with pytest.raises(exceptions.Conflict):
        subscriber.create_subscription(request={"name": SUBSCRIPTION, "topic": TOPIC})
    identity = publisher.publish(TOPIC, b"\x00\xff", colour="blue").result(timeout=10)
    answer = subscriber.pull(request={"subscription": SUBSCRIPTION, "max_messages": 10})
    (received,) = answer.received_messages
    assert received.message.message_id == identity
    assert (received.message.data, dict(received.message.attributes)) == (b"\x00\xff", {"colour": "blue"})
    subscriber.modify_ack_deadline(
        request={"subscription": SUBSCRIPTION, "ack_ids": [received.ack_id], "ack_deadline_seconds": 0}
    )
    (again,) = subscriber.pull(request={"subscription": SUBSCRIPTION, "max_messages": 10}).received_messages
    subscriber.acknowledge(request={"subscription": SUBSCRIPTION, "ack_ids": [again.ack_id]})
    assert not subscriber.pull(request={"subscription": SUBSCRIPTION, "max_messages": 10}).received_messages
    assert list(publisher.list_topic_subscriptions(request={"topic": TOPIC})) == [SUBSCRIPTION]
    assert [one.name for one in subscriber.list_subscriptions(request={"project": "projects/p1"})] == [
        SUBSCRIPTION
    ]
    subscriber.delete_subscription(request={"subscription": SUBSCRIPTION})
    with pytest.raises(exceptions.NotFound):
        subscriber.get_subscription(request={"subscription": SUBSCRIPTION})


def test_duplicates_and_disorder_come_on_request(
    publisher: PublisherClient, subscriber: SubscriberClient, cloud: Any
) -> None:
    publisher.create_topic(request={"name": TOPIC})
    subscriber.create_subscription(request={"name": SUBSCRIPTION, "topic": TOPIC})

    def received() -> list[bytes]:
        asked = {"subscription": SUBSCRIPTION, "max_messages": 10}
        found = subscriber.pull(request=asked).received_messages
        ids = [each.ack_id for each in found]
        if ids:
            subscriber.acknowledge(request={"subscription": SUBSCRIPTION, "ack_ids": ids})
        return [each.message.data for each in found]

    with cloud.fault(kind="duplicates", subscription="read*", copies=2):
        publisher.publish(TOPIC, b"again").result(timeout=10)
    assert received() == [b"again"] * 3
    with cloud.fault(kind="disorder", subscription="reader", seconds=0.5):
        for data in (b"one", b"two", b"three"):
            publisher.publish(TOPIC, data).result(timeout=10)
    first = received()
    assert len(first) in (1, 2)
    while len(first) < 3:
        first += received()
    assert first != [b"one", b"two", b"three"]
    assert sorted(first) == [b"one", b"three", b"two"]
    publisher.publish(TOPIC, b"as usual").result(timeout=10)
    assert received() == [b"as usual"]


def test_a_subscription_needs_its_topic(subscriber: SubscriberClient) -> None:
    with pytest.raises(exceptions.NotFound):
        subscriber.create_subscription(request={"name": SUBSCRIPTION, "topic": TOPIC})


def test_a_push_is_tried_again_at_growing_distances(
    publisher: PublisherClient,
    subscriber: SubscriberClient,
    receiver: Receiver,
    wait_until: Callable[..., Any],
    cloud: Any,
) -> None:
    receiver.statuses = [500, 429, 503]
    publisher.create_topic(request={"name": TOPIC})
    push = {"push_endpoint": receiver.url, "oidc_token": {"service_account_email": "a@b"}}
    subscriber.create_subscription(request={"name": SUBSCRIPTION, "topic": TOPIC, "push_config": push})
    identity = publisher.publish(TOPIC, b"hello", colour="blue").result(timeout=10)
    wait_until(lambda: len(receiver.bodies) == 4, "the fourth delivery")
    assert receiver.bodies[0] == receiver.bodies[3]
    message = receiver.bodies[0]["message"]
    assert base64.b64decode(message["data"]) == b"hello"
    assert (message["messageId"], message["message_id"]) == (identity, identity)
    assert (message["attributes"], message["publishTime"]) == ({"colour": "blue"}, message["publish_time"])
    assert receiver.bodies[0]["subscription"] == SUBSCRIPTION
    first, second, third = (
        later - earlier for earlier, later in zip(receiver.times, receiver.times[1:], strict=False)
    )
    assert (first >= 0.1, second >= 0.2, third >= 0.4) == (True, True, True)
    wait_until(lambda: not cloud.context.store.list("pubsub.backlog"), "the message to be settled")


def test_a_message_survives_a_restart_while_its_endpoint_is_away(
    publisher: PublisherClient,
    subscriber: SubscriberClient,
    receiver: Receiver,
    wait_until: Callable[..., Any],
    cloud: Any,
) -> None:
    publisher.create_topic(request={"name": TOPIC})
    nowhere = {"push_endpoint": "http://127.0.0.1:9/"}
    subscriber.create_subscription(request={"name": SUBSCRIPTION, "topic": TOPIC, "push_config": nowhere})
    publisher.publish(TOPIC, b"hello").result(timeout=10)
    cloud.turn()
    push = {"push_endpoint": receiver.url}
    subscriber.modify_push_config(request={"subscription": SUBSCRIPTION, "push_config": push})
    wait_until(lambda: receiver.bodies, "the delivery")
    assert base64.b64decode(receiver.bodies[0]["message"]["data"]) == b"hello"


def test_a_push_subscription_can_become_a_pulled_one(
    publisher: PublisherClient, subscriber: SubscriberClient, receiver: Receiver
) -> None:
    publisher.create_topic(request={"name": TOPIC})
    push = {"push_endpoint": receiver.url}
    subscriber.create_subscription(request={"name": SUBSCRIPTION, "topic": TOPIC, "push_config": push})
    with pytest.raises(exceptions.BadRequest, match="not supported for this subscription type"):
        subscriber.pull(request={"subscription": SUBSCRIPTION, "max_messages": 1})
    subscriber.modify_push_config(request={"subscription": SUBSCRIPTION, "push_config": {}})
    publisher.publish(TOPIC, b"hello").result(timeout=10)
    assert (
        len(subscriber.pull(request={"subscription": SUBSCRIPTION, "max_messages": 1}).received_messages) == 1
    )
    assert receiver.bodies == []


def test_google_api_python_client(discovered: Callable[[str], Any]) -> None:
    service = discovered("pubsub.v1")
    topics, subscriptions = service.projects().topics(), service.projects().subscriptions()
    topics.create(name=TOPIC, body={}).execute()
    subscriptions.create(name=SUBSCRIPTION, body={"topic": TOPIC}).execute()
    body = {"messages": [{"data": "aGk="}, {"attributes": {"a": "b"}}]}
    assert len(topics.publish(topic=TOPIC, body=body).execute()["messageIds"]) == 2
    pulled = subscriptions.pull(subscription=SUBSCRIPTION, body={"maxMessages": 1}).execute()
    assert pulled["receivedMessages"][0]["message"]["data"] == "aGk="
    refused: list[dict[str, Any]] = [{"messages": [{}]}, {"messages": []}, {"message": []}]
    for bad in refused:
        with pytest.raises(HttpError, match="400"):
            topics.publish(topic=TOPIC, body=bad).execute()
    with pytest.raises(HttpError, match="409"):
        topics.create(name=TOPIC, body={}).execute()
