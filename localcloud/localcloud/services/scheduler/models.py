"""The fields of a job."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from localcloud.services.pubsub.models import Bytes, Duration
from localcloud.services.wire import Message


class PubsubTarget(Message):
    """What a tick publishes, and where."""

    topic_name: str = ""
    data: Bytes | None = None
    attributes: dict[str, str] | None = None


class RetryConfig(Message):
    """What is tried again before the next tick, by `retries`."""

    retry_count: Annotated[int, Field(ge=0, le=5)] | None = None
    max_retry_duration: Duration | None = None
    min_backoff_duration: Duration | None = None
    max_backoff_duration: Duration | None = None
    max_doublings: int | None = None


class Job(Message):
    """A schedule and its target."""

    output_only: ClassVar[frozenset[str]] = frozenset(
        {"state", "status", "userUpdateTime", "scheduleTime", "lastAttemptTime", "satisfiesPzs"}
    )
    not_offered: ClassVar[frozenset[str]] = frozenset({"httpTarget", "appEngineHttpTarget"})

    name: str = ""
    description: str | None = None
    schedule: str = ""
    time_zone: str | None = None
    pubsub_target: PubsubTarget | None = None
    retry_config: RetryConfig | None = None
    attempt_deadline: Duration | None = None
