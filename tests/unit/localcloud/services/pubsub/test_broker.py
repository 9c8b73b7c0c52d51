"""Messages are leased, kept and dropped on a clock that is turned by hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from localcloud.app import ground
from localcloud.clock import ManualClock
from localcloud.errors import ApiError
from localcloud.services.pubsub.broker import Broker
from localcloud.services.pubsub.models import PubsubMessage
from localcloud.settings import Settings
from localcloud.store import Json

TOPIC = "projects/p/topics/ttt"
ONE, TWO = "projects/p/subscriptions/one", "projects/p/subscriptions/two"


class World:
    def __init__(self, home: Path) -> None:
        self.home = home
        self.clock = ManualClock()
        self.open()

    def open(self) -> None:
        self.context = ground(Settings(self.home), self.clock)
        self.broker = Broker(self.context)

    def publish(self, text: str) -> None:
        self.broker.publish(TOPIC, [PubsubMessage(attributes={"text": text})])

    def pull(self, name: str = ONE, most: int = 10) -> list[str]:
        return [found["message"]["attributes"]["text"] for found in self.broker.pull(name, most)]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    made.broker.create_topic(TOPIC, {})
    made.broker.create_subscription(ONE, {"topic": TOPIC})
    yield made
    made.context.store.close()


def test_every_subscription_gets_what_is_published_after_it_was_made(world: World) -> None:
    world.publish("a")
    world.broker.create_subscription(TWO, {"topic": TOPIC})
    world.publish("b")
    assert (world.pull(ONE), world.pull(TWO)) == (["a", "b"], ["b"])


def test_a_message_comes_back_after_its_deadline_until_it_is_acknowledged(world: World) -> None:
    world.publish("a")
    assert (world.pull(), world.pull()) == (["a"], [])
    world.clock.advance(10)
    (leased,) = world.broker.pull(ONE, 1)
    world.clock.advance(10)
    for _ in range(2):
        world.broker.acknowledge(ONE, [leased["ackId"]])
    assert world.pull() == []


def test_a_deadline_can_be_moved(world: World) -> None:
    world.publish("a")
    (leased,) = world.broker.pull(ONE, 1)
    world.broker.modify_deadline(ONE, [leased["ackId"]], 60)
    world.clock.advance(59)
    assert world.pull() == []
    world.broker.modify_deadline(ONE, [leased["ackId"]], 0)
    assert world.pull() == ["a"]


def test_an_ack_id_is_worth_nothing_once_the_message_was_given_back(world: World) -> None:
    world.publish("a")
    (first,) = world.broker.pull(ONE, 1)
    world.broker.modify_deadline(ONE, [first["ackId"]], 0)
    world.broker.acknowledge(ONE, [first["ackId"]])
    (second,) = world.broker.pull(ONE, 1)
    world.broker.modify_deadline(ONE, [first["ackId"]], 0)
    assert world.pull() == []
    world.broker.acknowledge(ONE, [second["ackId"]])
    world.clock.advance(10)
    assert world.pull() == []


def test_a_strange_ack_id_spoils_the_whole_request(world: World) -> None:
    world.publish("a")
    (leased,) = world.broker.pull(ONE, 1)
    world.broker.create_subscription(TWO, {"topic": TOPIC})
    for name, strange in ((ONE, "0"), (ONE, f"{ONE}:x"), (TWO, leased["ackId"])):
        with pytest.raises(ApiError, match="invalid ack ID"):
            world.broker.acknowledge(name, [leased["ackId"], strange])
    world.clock.advance(10)
    assert world.pull() == ["a"]


def test_what_was_given_back_waits_behind_the_others(world: World) -> None:
    for text in ("a", "b"):
        world.publish(text)
        world.clock.advance(1)
    (leased,) = world.broker.pull(ONE, 1)
    world.broker.modify_deadline(ONE, [leased["ackId"]], 0)
    assert world.pull(most=1) == ["b"]


def test_a_restart_forgets_nothing(world: World) -> None:
    world.publish("a")
    world.context.store.close()
    world.open()
    world.publish("b")
    assert world.pull() == ["a", "b"]


def test_what_is_too_old_is_dropped(world: World) -> None:
    world.publish("a")
    world.clock.advance(604_800)
    world.publish("b")
    world.clock.advance(1)
    assert world.pull() == ["b"]


def test_a_deleted_topic_leaves_its_subscriptions_with_what_they_have(world: World) -> None:
    world.publish("a")
    world.broker.delete_topic(TOPIC)
    assert world.pull() == ["a"]
    assert world.broker.subscription(ONE)["topic"] == "_deleted-topic_"
    world.broker.create_topic(TOPIC, {})
    world.publish("b")
    assert world.pull() == []


def test_a_deleted_subscription_takes_its_messages_along(world: World) -> None:
    world.publish("a")
    world.broker.delete_subscription(ONE)
    world.broker.create_subscription(ONE, {"topic": TOPIC})
    assert world.pull() == []


@pytest.mark.parametrize("name", ["t1", "1abc", "goog-abc", "a b c"])
def test_bad_names_are_refused(world: World, name: str) -> None:
    topic = f"projects/p/topics/{name}"
    for wrong in (
        lambda: world.broker.create_topic(topic, {}),
        lambda: world.broker.delete_topic(topic),
        lambda: world.broker.subscription(f"projects/p/subscriptions/{name}"),
        lambda: world.broker.create_subscription(TWO, {"topic": topic}),
    ):
        with pytest.raises(ApiError, match="Invalid resource name"):
            wrong()


@pytest.mark.parametrize(
    ("mask", "body"),
    [
        ("", {"ackDeadlineSeconds": 20}),
        ("topic", {"topic": TOPIC}),
        ("ackDeadlineSeconds,state", {"ackDeadlineSeconds": 20}),
        ("ackDeadlineSeconds", {"ackDeadlineSeconds": 9}),
        ("retryPolicy", {"retryPolicy": {"minimumBackoff": "30s", "maximumBackoff": "20s"}}),
    ],
)
def test_bad_changes_are_refused(world: World, mask: str, body: Json) -> None:
    before = world.broker.subscription(ONE)
    with pytest.raises(ApiError) as caught:
        world.broker.update_subscription(ONE, body, mask)
    assert (caught.value.code, world.broker.subscription(ONE)) == (400, before)


def test_only_what_the_mask_names_is_looked_at(world: World) -> None:
    body = {"ackDeadlineSeconds": 9, "labels": {"a": "b"}}
    changed = world.broker.update_subscription(ONE, body, "labels")
    assert (changed["ackDeadlineSeconds"], changed["labels"]) == (10, {"a": "b"})
