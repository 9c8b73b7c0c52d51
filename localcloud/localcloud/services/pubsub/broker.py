"""Topics, subscriptions and the messages that wait in them.

Everything is in the store: a message that was accepted is delivered at least once, whatever happens to this
process.
Pushing is done by `deliverer`; `publish` is also what the Scheduler calls.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from localcloud.clock import parse_rfc3339, rfc3339
from localcloud.context import Context
from localcloud.errors import invalid
from localcloud.services.pubsub.models import (
    PubsubMessage,
    PushConfig,
    Subscription,
    Topic,
    duration,
    subscription_of,
)
from localcloud.services.wire import merge, parse, resource_exists, resource_missing
from localcloud.store import AlreadyExists, Json

TOPIC = "pubsub.topic"
SUBSCRIPTION = "pubsub.subscription"
_BACKLOG = "pubsub.backlog"
_COUNTER = "pubsub.counter"
_DELETED_TOPIC = "_deleted-topic_"
_ID = re.compile(r"(?!goog)[A-Za-z][A-Za-z0-9._~+%-]{2,254}")
_LARGEST_MESSAGE = 10_000_000


@dataclass(frozen=True)
class Waiting:
    """A message in a subscription: not to be delivered before `due`."""

    key: str
    message: Json
    due: datetime
    attempts: int

    @property
    def sequence(self) -> str:
        return self.key.rsplit("/", 1)[1]


class Broker:
    """The topics and subscriptions of all projects."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._store = context.store
        self.listeners: list[Callable[[], None]] = []
        """Called whenever something new may be due."""

    # Topics

    def create_topic(self, name: str, body: Json) -> Json:
        topic = {"name": _checked(name)} | parse(Topic, body, "topic").model_copy(
            update={"name": name}
        ).wire()
        try:
            self._store.insert(TOPIC, name, topic)
        except AlreadyExists as error:
            raise resource_exists(name) from error
        return topic

    def topic(self, name: str) -> Json:
        found = self._store.get(TOPIC, name)
        if found is None:
            raise resource_missing(name)
        return found

    def update_topic(self, name: str, body: Json, mask: str) -> Json:
        with self._store.transaction():
            new = parse(Topic, body, "topic").wire()
            topic = merge(Topic, self.topic(name), new, mask) | {"name": name}
            self._store.put(TOPIC, name, topic)
        return topic

    def delete_topic(self, name: str) -> None:
        """The subscriptions stay and keep what they have."""
        with self._store.transaction():
            if not self._store.delete(TOPIC, name):
                raise resource_missing(name)
            for key, body in self._store.list(SUBSCRIPTION):
                if body["topic"] == name:
                    self._store.put(SUBSCRIPTION, key, body | {"topic": _DELETED_TOPIC})

    def subscriptions_of(self, topic: str) -> list[str]:
        self.topic(topic)
        return [key for key, body in self._store.list(SUBSCRIPTION) if body["topic"] == topic]

    def publish(self, topic: str, messages: list[PubsubMessage]) -> list[str]:
        """Accept messages for every subscription that the topic has now; returns their ids."""
        if not messages:
            raise invalid("The value for messages is too small. You passed 0 in the request.")
        now = self._context.clock.now()
        with self._store.transaction():
            readers = self.subscriptions_of(topic)
            sent = [self._stamped(message, now) for message in messages]
            for reader in readers:
                for message in sent:
                    self._enqueue(reader, message, now)
        self._announce()
        return [message["messageId"] for message in sent]

    def _enqueue(self, reader: str, message: Json, now: datetime) -> None:
        number, name = int(message["messageId"]), reader.rpartition("/")[2]
        due = now + timedelta(seconds=self._context.faults.held_back(name) if number % 2 else 0)
        body = {"message": message, "due": due.isoformat(), "attempts": 0}
        key = f"{reader}/{number:020d}"
        self._store.insert(_BACKLOG, key, body)
        for copy in range(self._context.faults.copies(name)):
            self._store.insert(_BACKLOG, f"{key}-{copy}", body)

    def _stamped(self, message: PubsubMessage, now: datetime) -> Json:
        if not message.data and not message.attributes:
            raise invalid("One or more messages in the publish request is empty.")
        if len(message.data or "") > _LARGEST_MESSAGE:
            raise invalid("The value for message is too large.")
        count = (self._store.get(_COUNTER, "message") or {"value": 0})["value"] + 1
        self._store.put(_COUNTER, "message", {"value": count})
        return message.wire() | {"messageId": str(count), "publishTime": rfc3339(now)}

    # Subscriptions

    def create_subscription(self, name: str, body: Json) -> Json:
        given = subscription_of(body)
        subscription = given.model_copy(update={"name": _checked(name)}).wire()
        _check_push(given.push_config)
        with self._store.transaction():
            self.topic(given.topic)
            try:
                self._store.insert(SUBSCRIPTION, name, subscription)
            except AlreadyExists as error:
                raise resource_exists(name) from error
        return show(subscription)

    def subscription(self, name: str) -> Json:
        found = self._store.get(SUBSCRIPTION, name)
        if found is None:
            raise resource_missing(name)
        return found

    def update_subscription(self, name: str, body: Json, mask: str) -> Json:
        if not mask:
            raise invalid("The update_mask in the UpdateSubscriptionRequest must be set")
        new = parse(Subscription, body, "subscription")
        _check_push(new.push_config)
        with self._store.transaction():
            before = self.subscription(name)
            after = merge(Subscription, before, new.wire(), mask)
            fixed = {"name": name, "topic": before["topic"]}
            self._store.put(SUBSCRIPTION, name, subscription_of(after | fixed).wire())
        self._announce()
        return show(self.subscription(name))

    def delete_subscription(self, name: str) -> None:
        with self._store.transaction():
            if not self._store.delete(SUBSCRIPTION, name):
                raise resource_missing(name)
            for key, _ in self._store.list(_BACKLOG, f"{name}/"):
                self._store.delete(_BACKLOG, key)

    # Messages

    def pull(self, name: str, most: int) -> list[Json]:
        """Lease messages that are due; they come back unless they are acknowledged before the deadline."""
        now = self._context.clock.now()
        with self._store.transaction():
            subscription = self.subscription(name)
            if (subscription.get("pushConfig") or {}).get("pushEndpoint"):
                raise invalid("A subscription with a push endpoint cannot be pulled")
            due = [waiting for waiting in self.backlog(name, subscription) if waiting.due <= now][:most]
            for waiting in due:
                self.postpone(waiting, now + timedelta(seconds=subscription["ackDeadlineSeconds"]))
        return [{"ackId": waiting.sequence, "message": waiting.message} for waiting in due]

    def backlog(self, name: str, subscription: Json) -> list[Waiting]:
        """What waits, oldest first. What is older than the subscription keeps it is dropped here."""
        retention = timedelta(seconds=duration(subscription["messageRetentionDuration"]))
        oldest = self._context.clock.now() - retention
        kept: list[Waiting] = []
        for key, body in self._store.list(_BACKLOG, f"{name}/"):
            if parse_rfc3339(body["message"]["publishTime"]) < oldest:
                self._store.delete(_BACKLOG, key)
                continue
            kept.append(Waiting(key, body["message"], datetime.fromisoformat(body["due"]), body["attempts"]))
        return kept

    def postpone(self, waiting: Waiting, due: datetime) -> None:
        """Note one more attempt, and when the next one may be made. Nothing if it was settled meanwhile."""
        with self._store.transaction():
            if self._store.get(_BACKLOG, waiting.key) is not None:
                body = {"message": waiting.message, "due": due.isoformat(), "attempts": waiting.attempts + 1}
                self._store.put(_BACKLOG, waiting.key, body)

    def settle(self, waiting: Waiting) -> None:
        """The message was delivered."""
        self._store.delete(_BACKLOG, waiting.key)

    def acknowledge(self, name: str, ack_ids: list[str]) -> None:
        """Unknown and repeated ids are fine: acknowledgements may come late or twice."""
        self.subscription(name)
        for ack_id in ack_ids:
            self._store.delete(_BACKLOG, f"{name}/{ack_id}")

    def modify_deadline(self, name: str, ack_ids: list[str], seconds: int) -> None:
        self.subscription(name)
        due = (self._context.clock.now() + timedelta(seconds=seconds)).isoformat()
        with self._store.transaction():
            for ack_id in ack_ids:
                key = f"{name}/{ack_id}"
                body = self._store.get(_BACKLOG, key)
                if body is not None:
                    self._store.put(_BACKLOG, key, body | {"due": due})
        self._announce()

    def push_subscriptions(self) -> list[tuple[str, Json]]:
        return [
            (name, body)
            for name, body in self._store.list(SUBSCRIPTION)
            if (body.get("pushConfig") or {}).get("pushEndpoint")
        ]

    def _announce(self) -> None:
        for listener in self.listeners:
            listener()


def show(subscription: Json) -> Json:
    """A subscription as clients see it."""
    return subscription | {"state": "ACTIVE"}


def _checked(name: str) -> str:
    short = name.rsplit("/", 1)[1]
    if not _ID.fullmatch(short):
        raise invalid(
            f"Invalid resource name given (name={name}): 3 to 255 characters that begin with a letter."
        )
    return name


def _check_push(push: PushConfig | None) -> None:
    endpoint = push.push_endpoint if push else None
    if endpoint and not endpoint.startswith(("http://", "https://")):
        raise invalid(f"Invalid push endpoint given (endpoint={endpoint}): it must be a URL.")
