"""How a Pub/Sub push becomes the CloudEvent that a function receives. Pure.

As on Google Cloud, the trigger is a push subscription on the function's own URL; a parameter of that URL says
which event the body stands for, and whoever runs the function turns the body into one.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from urllib.parse import quote

from localcloud.services.functions.models import PUBLISHED
from localcloud.store import Json

MODE = "__GCP_CloudEventsMode"
_CUSTOM = "CUSTOM_PUBSUB_"


class BadPushError(ValueError):
    """The body is not that of a push."""


@dataclass(frozen=True)
class Event:
    """A CloudEvent in its binary form."""

    headers: dict[str, str]
    body: bytes


def push_endpoint(uri: str, topic: str) -> str:
    """Where the trigger's subscription pushes to."""
    return f"{uri}?{MODE}={_CUSTOM}{quote(topic, safe='')}"


def topic_of(mode: str) -> str:
    """The topic in the parameter of a push endpoint."""
    return mode.removeprefix(_CUSTOM)


def trigger_names(function: str) -> tuple[str, str]:
    """Trigger and subscription of a function; the digits look random but are the name's own."""
    _, project, _, location, _, short = function.split("/")
    digits = f"{int(hashlib.sha256(function.encode()).hexdigest(), 16) % 10**9:09d}"
    trigger = f"{short}-{digits[:6]}"
    subscription = f"eventarc-{location}-{trigger}-sub-{digits[6:]}"
    return (
        f"projects/{project}/locations/{location}/triggers/{trigger}",
        f"projects/{project}/subscriptions/{subscription}",
    )


def from_push(mode: str, body: bytes) -> Event:
    """Read a push and write it as an event of its topic."""
    try:
        push: Json = json.loads(body)
        message = push["message"]
        headers = {
            "ce-id": str(message["messageId"]),
            "ce-time": str(message["publishTime"]),
            "ce-source": f"//pubsub.googleapis.com/{topic_of(mode)}",
            "ce-type": PUBLISHED,
            "ce-specversion": "1.0",
            "content-type": "application/json",
        }
    except (ValueError, KeyError, TypeError) as error:
        raise BadPushError(f"not the body of a push: {error!r}") from error
    return Event(
        headers, json.dumps({"message": message, "subscription": push.get("subscription", "")}).encode()
    )
