"""Settings lead to clients of the right endpoint."""

from typing import Any

from budget_operator.cloud.connection import Connection
from budget_operator.cloud.wiring import gateways
from budget_operator.core.settings import Settings


def test_every_service_is_asked_where_the_settings_say(google: Any) -> None:
    settings = Settings(
        project="p1",
        zones=("r1-a", "r1-b"),
        bucket="b1",
        image="server:1",
        api_endpoint=f"{google.endpoint}/",
        credentials="anonymous",
    )
    for service in ("instances", "addresses", "operations"):
        google.answer(f"GET /compute/v1/projects/p1/aggregated/{service}", (200, {"items": {}}))
    cloud = gateways(settings)
    assert google.requests == [], "wiring makes no call"
    assert cloud.snapshots.snapshot().unknown == frozenset()
    paths = [sent.path for sent in google.requests]
    assert len(paths) == 9
    assert "/storage/v1/b/b1" in paths
    assert any(path.startswith("/v1/projects/p1/locations/r1/jobs/") for path in paths)
    assert any(path.startswith("/v2/projects/p1/locations/r1/functions/") for path in paths)


def test_without_an_endpoint_it_is_googles_own() -> None:
    assert Connection("p1").options().api_endpoint is None
