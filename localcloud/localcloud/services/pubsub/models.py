"""Topics, subscriptions and the requests upon them."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, ClassVar

from pydantic import AfterValidator, BeforeValidator, Field

from localcloud.services.wire import Message, parse
from localcloud.store import Json


def _base64(value: str) -> str:
    """Both alphabets are read; the standard one is kept."""
    text = value.replace("-", "+").replace("_", "/")
    try:
        return base64.b64encode(base64.b64decode(text + "=" * (-len(text) % 4), validate=True)).decode()
    except binascii.Error as error:
        raise ValueError("not base64") from error


def _seconds(value: object) -> float:
    """`3600s` and `0.5s`."""
    if isinstance(value, str) and value.endswith("s"):
        return float(value[:-1])
    raise ValueError(f"{value!r} is not a duration such as '10s'")


def duration(text: str) -> float:
    """Seconds of a duration that was validated before."""
    return _seconds(text)


def _duration(value: object) -> object:
    _seconds(value)
    return value


Bytes = Annotated[str, AfterValidator(_base64)]
Duration = Annotated[str, BeforeValidator(_duration)]


class Topic(Message):
    """Where messages are published."""

    output_only: ClassVar[frozenset[str]] = frozenset({"state", "satisfiesPzs"})
    not_offered: ClassVar[frozenset[str]] = frozenset(
        {"schemaSettings", "ingestionDataSourceSettings", "messageTransforms", "messageRetentionDuration"}
    )

    name: str | None = None
    labels: dict[str, str] | None = None
    message_storage_policy: Json | None = None
    kms_key_name: str | None = None


class OidcToken(Message):
    """Kept, never sent: the local cloud has no accounts to vouch for."""

    service_account_email: str | None = None
    audience: str | None = None


class PushConfig(Message):
    """An empty endpoint means that the subscription is pulled."""

    not_offered: ClassVar[frozenset[str]] = frozenset({"noWrapper"})

    push_endpoint: str | None = None
    attributes: dict[str, str] | None = None
    oidc_token: OidcToken | None = None
    pubsub_wrapper: Json | None = None


class RetryPolicy(Message):
    """How long to wait before a message is delivered again; grows from the minimum to the maximum."""

    minimum_backoff: Duration | None = None
    maximum_backoff: Duration | None = None


class ExpirationPolicy(Message):
    """Kept; an unused subscription does not expire here."""

    ttl: Duration | None = None


class Subscription(Message):
    """One reader of a topic."""

    output_only: ClassVar[frozenset[str]] = frozenset(
        {"state", "detached", "topicMessageRetentionDuration", "analyticsHubSubscriptionInfo"}
    )
    not_offered: ClassVar[frozenset[str]] = frozenset(
        {
            "filter", "deadLetterPolicy", "bigqueryConfig", "cloudStorageConfig", "bigtableConfig",
            "messageTransforms", "retainAckedMessages", "enableMessageOrdering", "enableExactlyOnceDelivery",
        }
    )  # fmt: skip

    name: str | None = None
    topic: str = ""
    labels: dict[str, str] | None = None
    push_config: PushConfig | None = None
    ack_deadline_seconds: Annotated[int, Field(ge=0, le=600)] | None = None
    retry_policy: RetryPolicy | None = None
    expiration_policy: ExpirationPolicy | None = None
    message_retention_duration: Duration | None = None


class PubsubMessage(Message):
    """What a publisher sends."""

    output_only: ClassVar[frozenset[str]] = frozenset({"messageId", "publishTime"})

    data: Bytes | None = None
    attributes: dict[str, str] | None = None
    ordering_key: str | None = None


class PublishRequest(Message):
    messages: list[PubsubMessage] = Field(default_factory=list)


class PullRequest(Message):
    max_messages: Annotated[int, Field(ge=1)]
    return_immediately: bool | None = None


class AcknowledgeRequest(Message):
    ack_ids: list[str] = Field(default_factory=list)


class ModifyAckDeadlineRequest(Message):
    ack_ids: list[str] = Field(default_factory=list)
    ack_deadline_seconds: Annotated[int, Field(ge=0, le=600)] = 0


class ModifyPushConfigRequest(Message):
    push_config: PushConfig = Field(default_factory=PushConfig)


class UpdateSubscriptionRequest(Message):
    subscription: Json
    update_mask: str = ""


def subscription_of(body: Json) -> Subscription:
    """A subscription with Google's defaults filled in."""
    given = parse(Subscription, body, "subscription")
    return given.model_copy(
        update={
            "ack_deadline_seconds": given.ack_deadline_seconds or 10,
            "message_retention_duration": given.message_retention_duration or "604800s",
            "push_config": given.push_config or PushConfig(),
        }
    )
