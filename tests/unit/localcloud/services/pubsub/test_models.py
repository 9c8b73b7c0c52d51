"""Durations, bytes, and what is refused."""

from __future__ import annotations

import pytest

from localcloud.errors import ApiError
from localcloud.services.pubsub.models import (
    PublishRequest,
    Subscription,
    check_durations,
    subscription_of,
)
from localcloud.services.wire import parse


def test_defaults_of_a_subscription() -> None:
    made = subscription_of(
        {"topic": "projects/p/topics/t", "retryPolicy": {"minimumBackoff": "1.50s"}}
    ).wire()
    assert made == {
        "topic": "projects/p/topics/t",
        "ackDeadlineSeconds": 10,
        "messageRetentionDuration": "604800s",
        "expirationPolicy": {"ttl": "2678400s"},
        "retryPolicy": {"minimumBackoff": "1.500s", "maximumBackoff": "600s"},
        "pushConfig": {},
    }


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("ackDeadlineSeconds", 9),
        ("ackDeadlineSeconds", 601),
        ("messageRetentionDuration", "7 days"),
        ("messageRetentionDuration", "599.999s"),
        ("messageRetentionDuration", "2678401s"),
        ("expirationPolicy", {"ttl": "86399s"}),
        ("filter", "attributes.a"),
        ("pushConfg", {}),
        ("retryPolicy", {"minimumBackoff": ""}),
    ],
)
def test_bad_fields_are_named(field: str, value: object) -> None:
    with pytest.raises(ApiError, match=field) as caught:
        check_durations(subscription_of({"topic": "t", field: value}))
    assert caught.value.code == 400


@pytest.mark.parametrize(
    ("shortest", "longest"), [("-1s", "600s"), ("0s", "601s"), ("30s", "20s"), ("601s", "602s")]
)
def test_bounds_of_retries(shortest: str, longest: str) -> None:
    policy = {"minimumBackoff": shortest, "maximumBackoff": longest}
    with pytest.raises(ApiError, match="retryPolicy"):
        check_durations(subscription_of({"topic": "t", "retryPolicy": policy}))


def test_what_is_empty_is_left_out() -> None:
    made = parse(Subscription, {"labels": {}, "pushConfig": {"pushEndpoint": ""}}, "s")
    assert made.wire() == {"topic": "", "pushConfig": {}}


def test_what_asks_for_nothing_is_accepted() -> None:
    assert "filter" not in parse(Subscription, {"filter": "", "enableMessageOrdering": False}, "s").wire()


@pytest.mark.parametrize(("data", "kept"), [("aGk=", "aGk="), ("aGk", "aGk="), ("_-8=", "/+8=")])
def test_both_alphabets_of_base64(data: str, kept: str) -> None:
    assert parse(PublishRequest, {"messages": [{"data": data}]}, "request").messages[0].data == kept


def test_what_is_not_base64_is_refused() -> None:
    with pytest.raises(ApiError, match=r"messages\.0\.data"):
        parse(PublishRequest, {"messages": [{"data": "!"}]}, "request")
