"""Pub/Sub, REST: `/v1/projects/*/topics` and `/v1/projects/*/subscriptions`.

Here are the routes. Messages are kept by `broker` and pushed by `deliverer`.
Schemas, snapshots, dead letters, filters and ordered delivery are not offered.
"""

from __future__ import annotations

from collections.abc import Iterator

from starlette.routing import BaseRoute

from localcloud.context import Context, Resource
from localcloud.services.pubsub.broker import SUBSCRIPTION, TOPIC, Broker, show
from localcloud.services.pubsub.deliverer import Deliverer
from localcloud.services.pubsub.models import (
    AcknowledgeRequest,
    ModifyAckDeadlineRequest,
    ModifyPushConfigRequest,
    PublishRequest,
    PullRequest,
    UpdateSubscriptionRequest,
    UpdateTopicRequest,
    check_endpoint,
)
from localcloud.services.wire import paged, parse
from localcloud.store import Json
from localcloud.web import Call, route

_PROJECT = "/v1/projects/{project}"
_TOPIC = _PROJECT + "/topics/{topic}"
_SUBSCRIPTION = _PROJECT + "/subscriptions/{subscription}"


def routes(context: Context) -> list[BaseRoute]:
    broker = Broker(context)
    context.registry.background.append(Deliverer(context, broker))
    context.registry.listers.append(lambda: _resources(context))
    return [*_topic_routes(context, broker), *_subscription_routes(context, broker)]


def broker_of(context: Context) -> Broker:
    """The broker that `routes` made for this context; other services publish and subscribe with it."""
    return next(found.broker for found in context.registry.background if isinstance(found, Deliverer))


def _resources(context: Context) -> Iterator[Resource]:
    for kind, word in ((TOPIC, "topic"), (SUBSCRIPTION, "subscription")):
        for key, _ in context.store.list(kind):
            yield Resource(word, key.rsplit("/", 1)[1], "global", "ACTIVE")


def _topic(call: Call) -> str:
    return f"projects/{call.params['project']}/topics/{call.params['topic']}"


def _subscription(call: Call) -> str:
    return f"projects/{call.params['project']}/subscriptions/{call.params['subscription']}"


def _topic_routes(context: Context, broker: Broker) -> list[BaseRoute]:
    def publish(call: Call) -> Json:
        request = parse(PublishRequest, call.json(), "request")
        return {"messageIds": broker.publish(_topic(call), request.messages)}

    def change(call: Call) -> Json:
        request = parse(UpdateTopicRequest, call.json(), "request")
        return broker.update_topic(_topic(call), request.topic, request.update_mask)

    def delete(call: Call) -> Json:
        broker.delete_topic(_topic(call))
        return {}

    def topics(call: Call) -> Json:
        found = context.store.list(TOPIC, f"projects/{call.params['project']}/topics/")
        return paged("topics", found, call.query)

    def readers(call: Call) -> Json:
        names = broker.subscriptions_of(_topic(call))
        return paged("subscriptions", [(name, name) for name in names], call.query)

    return [
        route("POST", _TOPIC + ":publish", publish),
        route("GET", _PROJECT + "/topics", topics),
        route("GET", _TOPIC + "/subscriptions", readers),
        route("PUT", _TOPIC, lambda call: broker.create_topic(_topic(call), call.json())),
        route("GET", _TOPIC, lambda call: broker.topic(_topic(call))),
        route("PATCH", _TOPIC, change),
        route("DELETE", _TOPIC, delete),
    ]


def _subscription_routes(context: Context, broker: Broker) -> list[BaseRoute]:
    def change(call: Call) -> Json:
        request = parse(UpdateSubscriptionRequest, call.json(), "request")
        return broker.update_subscription(_subscription(call), request.subscription, request.update_mask)

    def delete(call: Call) -> Json:
        broker.delete_subscription(_subscription(call))
        return {}

    def subscriptions(call: Call) -> Json:
        found = context.store.list(SUBSCRIPTION, f"projects/{call.params['project']}/subscriptions/")
        return paged("subscriptions", [(key, show(body)) for key, body in found], call.query)

    return [
        *_message_routes(broker),
        route("GET", _PROJECT + "/subscriptions", subscriptions),
        route(
            "PUT", _SUBSCRIPTION, lambda call: broker.create_subscription(_subscription(call), call.json())
        ),
        route("GET", _SUBSCRIPTION, lambda call: show(broker.subscription(_subscription(call)))),
        route("PATCH", _SUBSCRIPTION, change),
        route("DELETE", _SUBSCRIPTION, delete),
    ]


def _message_routes(broker: Broker) -> list[BaseRoute]:
    def pull(call: Call) -> Json:
        request = parse(PullRequest, call.json(), "request")
        received = broker.pull(_subscription(call), request.max_messages)
        return {"receivedMessages": received} if received else {}

    def acknowledge(call: Call) -> Json:
        broker.acknowledge(_subscription(call), parse(AcknowledgeRequest, call.json(), "request").ack_ids)
        return {}

    def modify_deadline(call: Call) -> Json:
        request = parse(ModifyAckDeadlineRequest, call.json(), "request")
        broker.modify_deadline(_subscription(call), request.ack_ids, request.ack_deadline_seconds)
        return {}

    def modify_push(call: Call) -> Json:
        request = parse(ModifyPushConfigRequest, call.json(), "request")
        check_endpoint(request.push_config)
        change = {"pushConfig": request.push_config.wire()}
        broker.update_subscription(_subscription(call), change, "pushConfig")
        return {}

    return [
        route("POST", _SUBSCRIPTION + ":pull", pull),
        route("POST", _SUBSCRIPTION + ":acknowledge", acknowledge),
        route("POST", _SUBSCRIPTION + ":modifyAckDeadline", modify_deadline),
        route("POST", _SUBSCRIPTION + ":modifyPushConfig", modify_push),
    ]
