"""Pub/Sub: the keep-alive topic. Cloud Scheduler publishes to it, never the operator."""

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING

from budget_operator.cloud.connection import CALL, Connection
from budget_operator.cloud.failures import translated
from budget_operator.core.errors import NotFound
from budget_operator.core.observed import Topic

if TYPE_CHECKING:
    from google.pubsub_v1 import PublisherClient


class PubSubGateway:
    """`core.gateways.PubSub` on the generated client (not the batching one, which starts threads)."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @cached_property
    def _client(self) -> "PublisherClient":
        from google.pubsub_v1 import PublisherClient

        return self._connection.client(PublisherClient, transport="rest")

    def topic(self, name: str) -> Topic | None:
        try:
            with translated(f"get topic {name}"):
                found = self._client.get_topic(request={"topic": self._path(name)}, **CALL)
            with translated(f"list subscriptions of topic {name}"):
                listed = self._client.list_topic_subscriptions(request={"topic": self._path(name)}, **CALL)
        except NotFound:
            return None
        return Topic(name=name, labels=dict(found.labels), subscribed=any(True for _ in listed))

    def create_topic(self, name: str, labels: Mapping[str, str]) -> None:
        with translated(f"create topic {name}"):
            self._client.create_topic(request={"name": self._path(name), "labels": dict(labels)}, **CALL)

    def delete_topic(self, name: str) -> None:
        try:
            with translated(f"delete topic {name}"):
                self._client.delete_topic(request={"topic": self._path(name)}, **CALL)
        except NotFound:
            return

    def _path(self, name: str) -> str:
        return f"projects/{self._connection.project}/topics/{name}"
