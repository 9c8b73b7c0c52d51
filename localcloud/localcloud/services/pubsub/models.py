"""Topics, subscriptions and the requests upon them."""

from __future__ import annotations

import base64
import binascii
import math
import re
from typing import Annotated, ClassVar, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field

from localcloud.errors import invalid
from localcloud.services.wire import Message, parse
from localcloud.store import Json

T = TypeVar("T")
DAY = 86_400.0
_DURATION = re.compile(r"(-?\d{1,12})(?:\.(\d{1,9}))?s")


def _base64(value: str) -> str:
    """Both alphabets are read; the standard one is kept."""
    text = value.replace("-", "+").replace("_", "/")
    try:
        return base64.b64encode(base64.b64decode(text + "=" * (-len(text) % 4), validate=True)).decode()
    except binascii.Error as error:
        raise ValueError("not base64") from error


def duration(text: str) -> float:
    """Seconds of a duration that was validated before."""
    return float(text.removesuffix("s"))


def _duration(value: object) -> str:
    """`3600s` and `0.500s`: as Google writes them, with 0, 3, 6 or 9 digits."""
    found = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError(f"{value!r} is not a duration such as '10s'")
    digits = (found[2] or "").rstrip("0")
    padded = digits.ljust(-(-len(digits) // 3) * 3, "0")
    return f"{found[1]}.{padded}s" if digits else f"{found[1]}s"


def _filled(value: T | None) -> T | None:
    """Google's JSON does not tell an empty text or map from none."""
    return value or None


Bytes = Annotated[str, AfterValidator(_base64)]
Duration = Annotated[str, BeforeValidator(_duration)]
Text = Annotated[str | None, AfterValidator(_filled)]
Texts = Annotated[dict[str, str] | None, AfterValidator(_filled)]


class Topic(Message):
    """Where messages are published."""

    output_only: ClassVar[frozenset[str]] = frozenset({"state", "satisfiesPzs"})
    not_offered: ClassVar[frozenset[str]] = frozenset(
        {"schemaSettings", "ingestionDataSourceSettings", "messageTransforms", "messageRetentionDuration"}
    )

    name: str | None = None
    labels: Texts = None
    message_storage_policy: Json | None = None
    kms_key_name: Text = None


class OidcToken(Message):
    """Kept, never sent: the local cloud has no accounts to vouch for."""

    service_account_email: Text = None
    audience: Text = None


class PushConfig(Message):
    """An empty endpoint means that the subscription is pulled."""

    not_offered: ClassVar[frozenset[str]] = frozenset({"noWrapper"})

    push_endpoint: Text = None
    attributes: Texts = None
    oidc_token: OidcToken | None = None
    pubsub_wrapper: Json | None = None


class RetryPolicy(Message):
    """How long to wait before a message is delivered again; grows from the minimum to the maximum."""

    minimum_backoff: Duration = "10s"
    maximum_backoff: Duration = "600s"


class ExpirationPolicy(Message):
    """Kept; an unused subscription does not expire here. Without a time it never does."""

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
    labels: Texts = None
    push_config: PushConfig | None = None
    ack_deadline_seconds: int | None = None
    retry_policy: RetryPolicy | None = None
    expiration_policy: ExpirationPolicy | None = None
    message_retention_duration: Duration | None = None


class PubsubMessage(Message):
    """What a publisher sends."""

    output_only: ClassVar[frozenset[str]] = frozenset({"messageId", "publishTime"})

    data: Annotated[Bytes | None, AfterValidator(_filled)] = None
    attributes: Texts = None
    ordering_key: Text = None


class PublishRequest(Message):
    messages: list[PubsubMessage] = Field(default_factory=list)


class PullRequest(Message):
    max_messages: int = 0
    return_immediately: bool | None = None


class AcknowledgeRequest(Message):
    ack_ids: list[str] = Field(default_factory=list)


class ModifyAckDeadlineRequest(Message):
    ack_ids: list[str] = Field(default_factory=list)
    ack_deadline_seconds: int = 0


class ModifyPushConfigRequest(Message):
    push_config: PushConfig = Field(default_factory=PushConfig)


class UpdateTopicRequest(Message):
    topic: Json = Field(default_factory=dict)
    update_mask: str = ""


class UpdateSubscriptionRequest(Message):
    subscription: Json = Field(default_factory=dict)
    update_mask: str = ""


def subscription_of(body: Json) -> Subscription:
    """A subscription with Google's defaults filled in."""
    given = parse(Subscription, body, "subscription")
    made = given.model_copy(
        update={
            "ack_deadline_seconds": given.ack_deadline_seconds or 10,
            "message_retention_duration": given.message_retention_duration or "604800s",
            "expiration_policy": given.expiration_policy or ExpirationPolicy(ttl="2678400s"),
            "push_config": given.push_config or PushConfig(),
        }
    )
    check_endpoint(made.push_config)
    _check("ackDeadlineSeconds", made.ack_deadline_seconds or 0, 10, 600)
    return made


def check_endpoint(push: PushConfig | None) -> None:
    endpoint = push.push_endpoint if push else None
    if endpoint and not endpoint.startswith(("http://", "https://")):
        raise invalid(f"Invalid push endpoint given (endpoint={endpoint}): it must be a URL.")


def check_durations(made: Subscription) -> None:
    """Google looks at these after everything else."""
    if made.message_retention_duration is not None:
        kept = duration(made.message_retention_duration)
        _check("messageRetentionDuration", kept, 600, 31 * DAY)
    if made.expiration_policy is not None and made.expiration_policy.ttl is not None:
        _check("expirationPolicy.ttl", duration(made.expiration_policy.ttl), DAY, math.inf)
    if made.retry_policy is not None:
        shortest = duration(made.retry_policy.minimum_backoff)
        _check("retryPolicy.minimumBackoff", shortest, 0, 600)
        _check("retryPolicy.maximumBackoff", duration(made.retry_policy.maximum_backoff), shortest, 600)


def _check(field: str, seconds: float, least: float, most: float) -> None:
    if not least <= seconds <= most:
        raise invalid(f"The value for {field} is out of bounds: {seconds:g} s, not {least:g} to {most:g} s.")
