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
from localcloud.errors import failed_precondition, invalid
from localcloud.services.pubsub.leases import Lease
from localcloud.services.pubsub.models import (
    PubsubMessage,
    Subscription,
    Topic,
    check_durations,
    duration,
    subscription_of,
)
from localcloud.services.wire import Message, merge, parse, resource_exists, resource_missing
from localcloud.store import AlreadyExists, Json

TOPIC = "pubsub.topic"
SUBSCRIPTION = "pubsub.subscription"
_BACKLOG = "pubsub.backlog"
_COUNTER = "pubsub.counter"
_DELETED_TOPIC = "_deleted-topic_"
_NAME = re.compile(r"projects/[^/]+/(?:topics|subscriptions)/(?!goog)[A-Za-z][A-Za-z0-9._~+%-]{2,254}")
_IMMUTABLE = frozenset({"name", "topic"})
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

    @property
    def place(self) -> tuple[datetime, str]:
        """What has been due for longest is delivered first."""
        return self.due, self.key


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
        found = self._store.get(TOPIC, _checked(name))
        if found is None:
            raise resource_missing(name)
        return found

    def update_topic(self, name: str, body: Json, mask: str) -> Json:
        with self._store.transaction():
            before = self.topic(name)
            _check_mask(Topic, mask)
            topic = merge(Topic, before, parse(Topic, body, "topic").wire(), mask)
            self._store.put(TOPIC, name, topic)
        return topic

    def delete_topic(self, name: str) -> None:
        """The subscriptions stay and keep what they have."""
        with self._store.transaction():
            self.topic(name)
            self._store.delete(TOPIC, name)
            for key, body in self._store.list(SUBSCRIPTION):
                if body["topic"] == name:
                    self._store.put(SUBSCRIPTION, key, body | {"topic": _DELETED_TOPIC})

    def subscriptions_of(self, topic: str) -> list[str]:
        self.topic(topic)
        return [key for key, body in self._store.list(SUBSCRIPTION) if body["topic"] == topic]

    def publish(self, topic: str, messages: list[PubsubMessage]) -> list[str]:
        """Accept messages for every subscription that the topic has now; returns their ids."""
        now = self._context.clock.now()
        with self._store.transaction():
            readers = self.subscriptions_of(topic)
            if not messages:
                raise invalid("The value for messages is too small. You passed 0 in the request.")
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
        topic = _checked(parse(Subscription, body, "subscription").topic)
        made = subscription_of(body | {"name": _checked(name)})
        with self._store.transaction():
            if self._store.get(SUBSCRIPTION, name) is not None:
                raise resource_exists(name)
            self.topic(topic)
            check_durations(made)
            self._store.insert(SUBSCRIPTION, name, made.wire())
        return show(made.wire())

    def subscription(self, name: str) -> Json:
        found = self._store.get(SUBSCRIPTION, _checked(name))
        if found is None:
            raise resource_missing(name)
        return found

    def update_subscription(self, name: str, body: Json, mask: str) -> Json:
        new = parse(Subscription, body, "subscription").wire()
        with self._store.transaction():
            before = self.subscription(name)
            _check_mask(Subscription, mask)
            after = subscription_of(merge(Subscription, before, new, mask))
            check_durations(after)
            self._store.put(SUBSCRIPTION, name, after.wire())
        self._announce()
        return show(after.wire())

    def delete_subscription(self, name: str) -> None:
        with self._store.transaction():
            self.subscription(name)
            self._store.delete(SUBSCRIPTION, name)
            for key, _ in self._store.list(_BACKLOG, f"{name}/"):
                self._store.delete(_BACKLOG, key)

    # Messages

    def pull(self, name: str, most: int) -> list[Json]:
        """Lease messages that are due; they come back unless they are acknowledged before the deadline."""
        now = self._context.clock.now()
        with self._store.transaction():
            subscription = self.subscription(name)
            if most < 1:
                raise invalid(f"The value for max_messages is too small. You passed {most} in the request.")
            if (subscription.get("pushConfig") or {}).get("pushEndpoint"):
                raise failed_precondition("This method is not supported for this subscription type.")
            due = [waiting for waiting in self.backlog(name, subscription) if waiting.due <= now]
            until = now + timedelta(seconds=subscription["ackDeadlineSeconds"])
            return [
                {"ackId": self._lease(name, waiting, until), "message": waiting.message}
                for waiting in sorted(due, key=lambda waiting: waiting.place)[:most]
            ]

    def _lease(self, name: str, waiting: Waiting, until: datetime) -> str:
        """Hand the message out; the id that settles it holds for this delivery only."""
        lease = Lease(name, waiting.sequence, waiting.attempts + 1)
        self.postpone(waiting, until, lease.number)
        return lease.ack_id

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

    def postpone(self, waiting: Waiting, due: datetime, lease: int = 0) -> None:
        """Note one more attempt, and when the next one may be made. Nothing if it was settled meanwhile."""
        with self._store.transaction():
            if self._store.get(_BACKLOG, waiting.key) is not None:
                body = {"message": waiting.message, "due": due.isoformat(), "attempts": waiting.attempts + 1}
                self._store.put(_BACKLOG, waiting.key, body | {"lease": lease})

    def settle(self, waiting: Waiting) -> None:
        """The message was delivered."""
        self._store.delete(_BACKLOG, waiting.key)

    def acknowledge(self, name: str, ack_ids: list[str]) -> None:
        """Ids of messages that are settled or were given back are fine: acknowledgements may come late."""
        with self._store.transaction():
            for key, _ in self._leased(name, ack_ids):
                self._store.delete(_BACKLOG, key)

    def modify_deadline(self, name: str, ack_ids: list[str], seconds: int) -> None:
        """Zero gives the messages back."""
        due = (self._context.clock.now() + timedelta(seconds=seconds)).isoformat()
        with self._store.transaction():
            leased = self._leased(name, ack_ids)
            if not 0 <= seconds <= 600:
                raise invalid(f"The value for ack_deadline_seconds is out of bounds. You passed {seconds}.")
            for key, body in leased:
                change = {"due": due} if seconds else {"due": due, "lease": 0}
                self._store.put(_BACKLOG, key, body | change)
        self._announce()

    def _leased(self, name: str, ack_ids: list[str]) -> list[tuple[str, Json]]:
        """What these ids still hold. One that this subscription cannot have given out spoils the request."""
        self.subscription(name)
        if not ack_ids:
            raise invalid("You have not specified an ack ID in the request.")
        leases = [Lease.read(name, ack_id) for ack_id in ack_ids]
        found = [(lease, self._store.get(_BACKLOG, lease.key)) for lease in leases]
        return [(lease.key, body) for lease, body in found if body and body.get("lease") == lease.number]

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
    if not _NAME.fullmatch(name):
        raise invalid(
            f"Invalid resource name given (name={name}): 3 to 255 characters that begin with a letter."
        )
    return name


def _check_mask(model: type[Message], mask: str) -> None:
    """A mask has to be there, and to leave alone what only the service or nobody may change."""
    kind = model.__name__
    if not mask:
        raise invalid(f"The update_mask in the Update{kind}Request must be set")
    for path in mask.split(","):
        if path.strip() in _IMMUTABLE | model.output_only:
            raise invalid(f"Invalid update_mask: the {path.strip()} field in the {kind} is not mutable.")
