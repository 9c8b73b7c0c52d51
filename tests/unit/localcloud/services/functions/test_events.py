"""A push becomes the event of its topic."""

from __future__ import annotations

import json
from urllib.parse import parse_qs, urlsplit

import pytest

from localcloud.services.functions.events import MODE, BadPushError, from_push, push_endpoint, trigger_names

TOPIC = "projects/p/topics/t"


def test_the_endpoint_tells_the_topic_of_the_event() -> None:
    endpoint = push_endpoint("http://h:1/functions/p/l/f", TOPIC)
    (mode,) = parse_qs(urlsplit(endpoint).query)[MODE]
    message = {"messageId": "7", "publishTime": "2026-01-01T00:00:00.000Z", "data": "aGk="}
    event = from_push(mode, json.dumps({"message": message, "subscription": "s"}).encode())
    assert event.headers["ce-source"] == "//pubsub.googleapis.com/projects/p/topics/t"
    assert event.headers["ce-type"] == "google.cloud.pubsub.topic.v1.messagePublished"
    assert event.headers["ce-id"] == "7"
    assert json.loads(event.body) == {"message": message, "subscription": "s"}


@pytest.mark.parametrize("body", [b"", b"[]", b'{"message": {}}', b'{"message": 1}'])
def test_other_bodies_are_refused(body: bytes) -> None:
    with pytest.raises(BadPushError):
        from_push("CUSTOM_PUBSUB_x", body)


def test_names_are_stable_and_differ_by_place() -> None:
    here = trigger_names("projects/p/locations/us-central1/functions/f")
    there = trigger_names("projects/p/locations/europe-west1/functions/f")
    assert here == trigger_names("projects/p/locations/us-central1/functions/f")
    assert here[0].startswith("projects/p/locations/us-central1/triggers/f-")
    assert here[1].startswith("projects/p/subscriptions/eventarc-us-central1-f-")
    assert len({*here, *there}) == 4
