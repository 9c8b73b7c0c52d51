"""Durations, bytes, and what is refused."""

from __future__ import annotations

import pytest

from localcloud.errors import ApiError
from localcloud.services.pubsub.models import PublishRequest, Subscription, subscription_of
from localcloud.services.wire import parse


def test_defaults_of_a_subscription() -> None:
    made = subscription_of({"topic": "projects/p/topics/t"}).wire()
    assert made["ackDeadlineSeconds"] == 10
    assert made["messageRetentionDuration"] == "604800s"
    assert made["pushConfig"] == {}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("ackDeadlineSeconds", 601),
        ("messageRetentionDuration", "7 days"),
        ("filter", "attributes.a"),
        ("pushConfg", {}),
        ("retryPolicy", {"minimumBackoff": ""}),
    ],
)
def test_bad_fields_are_named(field: str, value: object) -> None:
    with pytest.raises(ApiError, match=field) as caught:
        parse(Subscription, {"topic": "t", field: value}, "subscription")
    assert caught.value.code == 400


def test_what_asks_for_nothing_is_accepted() -> None:
    assert "filter" not in parse(Subscription, {"filter": "", "enableMessageOrdering": False}, "s").wire()


@pytest.mark.parametrize(("data", "kept"), [("aGk=", "aGk="), ("aGk", "aGk="), ("_-8=", "/+8=")])
def test_both_alphabets_of_base64(data: str, kept: str) -> None:
    assert parse(PublishRequest, {"messages": [{"data": data}]}, "request").messages[0].data == kept


def test_what_is_not_base64_is_refused() -> None:
    with pytest.raises(ApiError, match=r"messages\.0\.data"):
        parse(PublishRequest, {"messages": [{"data": "!"}]}, "request")
