"""Google's default credentials, for a process that outlives them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from budget_operator.cloud.wiring import gateways
from budget_operator.core.errors import PermissionDenied
from budget_operator.core.gateways import Cloud
from budget_operator.core.settings import Settings
from localcloud.accounts import new_key
from tests.simulation.roles import account, bind, bound

PROJECT, BUCKET = "p1", "budgetml-p1"


@pytest.fixture
def give(cloud: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Put an account's key in the place of the last one, in one step as the kubelet does it."""
    bind(cloud.context.iam, bound(PROJECT, BUCKET), PROJECT)
    place = tmp_path / "key.json"
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(place))

    def put(name: str) -> None:
        fresh = tmp_path / "fresh"
        fresh.write_text(json.dumps(new_key(account(name, PROJECT), cloud.url)))
        fresh.replace(place)

    return put


@pytest.fixture
def reached(cloud: Any, give: Callable[[str], None]) -> Cloud:
    """Through a key of an account that may not do what the operator does."""
    give("vm")
    place = Settings(
        project=PROJECT, zones=("us-central1-a",), bucket=BUCKET, image="i", api_endpoint=cloud.url
    )
    return gateways(place)


LOOKS: list[Callable[[Cloud], object]] = [
    lambda cloud: cloud.pubsub.topic("ticks"),
    lambda cloud: cloud.scheduler.job("ticks"),
    lambda cloud: cloud.functions.function("starts"),
    lambda cloud: cloud.compute.address("us-central1", "iris"),
    lambda cloud: cloud.compute.firewall("doors"),
]


def test_a_key_that_is_replaced_is_that_of_the_next_call(reached: Cloud, give: Callable[[str], None]) -> None:
    for look in LOOKS:
        with pytest.raises(PermissionDenied):
            look(reached)
    give("operator")
    assert [look(reached) for look in LOOKS] == [None] * len(LOOKS)


def test_without_a_change_one_token_serves_all(reached: Cloud, cloud: Any) -> None:
    for look in LOOKS:
        with pytest.raises(PermissionDenied):
            look(reached)
    entries = cloud.context.journal.entries(limit=1000)
    assert sum(each.path.startswith("/token") for each in entries) == 1


def test_a_file_that_is_half_replaced_is_told_and_does_no_harm(
    reached: Cloud, give: Callable[[str], None]
) -> None:
    place = Path(os.environ["GOOGLE_APPLICATION_CREDENTIALS"])
    give("operator")
    assert LOOKS[0](reached) is None
    for broken in (lambda: place.write_text("{"), place.unlink):
        broken()
        with pytest.raises(PermissionDenied, match="no Google credentials were found"):
            LOOKS[0](reached)
    give("operator")
    assert LOOKS[0](reached) is None
