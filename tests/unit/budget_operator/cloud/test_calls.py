"""Calls are counted by Google's name of the method and by code."""

from typing import Any

import pytest
from prometheus_client import REGISTRY

from budget_operator.cloud.calls import named
from budget_operator.cloud.compute import ComputeGateway
from budget_operator.cloud.connection import Connection
from budget_operator.cloud.storage import StorageGateway
from budget_operator.core.errors import Unavailable

COMPUTE = "https://compute.googleapis.com/compute/v1/projects/p"


@pytest.mark.parametrize(
    ("verb", "url", "method"),
    [
        ("GET", f"{COMPUTE}/aggregated/instances?filter=x", "compute instances.aggregatedList"),
        ("POST", f"{COMPUTE}/zones/z/instances?requestId=1", "compute instances.insert"),
        ("GET", f"{COMPUTE}/zones/z/instances/v", "compute instances.get"),
        ("DELETE", f"{COMPUTE}/zones/z/instances/v", "compute instances.delete"),
        ("POST", f"{COMPUTE}/zones/z/instances/v/setMetadata", "compute instances.setMetadata"),
        ("GET", f"{COMPUTE}/zones/z", "compute zones.get"),
        ("GET", f"{COMPUTE}/global/firewalls/f", "compute firewalls.get"),
        ("GET", f"{COMPUTE}/zones/z/operations/o", "compute operations.get"),
        ("GET", "http://c:1/storage/v1/b/bucket?projection=noAcl", "storage buckets.get"),
        ("POST", "http://c:1/storage/v1/b?project=p", "storage buckets.insert"),
        ("GET", "http://c:1/storage/v1/b/bucket/o?prefix=x", "storage objects.list"),
        ("POST", "http://c:1/storage/v1/b/a/o/x%2Fy/rewriteTo/b/c/o/z", "storage objects.rewrite"),
        ("POST", "http://c:1/upload/storage/v1/b/bucket/o?uploadType=media", "storage objects.insert"),
        ("GET", "http://c:1/download/storage/v1/b/bucket/o/a%2Fb?alt=media", "storage objects.get"),
        ("PUT", "https://pubsub.googleapis.com/v1/projects/p/topics/t", "pubsub topics.create"),
        (
            "GET",
            "https://pubsub.googleapis.com/v1/projects/p/topics/t/subscriptions",
            "pubsub topics.subscriptions",
        ),
        ("POST", "http://c:1/v1/projects/p/locations/l/jobs", "cloudscheduler jobs.create"),
        ("POST", "http://c:1/v1/projects/p/locations/l/jobs/j:resume", "cloudscheduler jobs.resume"),
        (
            "PATCH",
            "http://c:1/v2/projects/p/locations/l/functions/f?updateMask=x",
            "cloudfunctions functions.patch",
        ),
        ("GET", "http://c:1/anything/else", "other other"),
    ],
)
def test_a_call_has_the_name_in_googles_references(verb: str, url: str, method: str) -> None:
    assert " ".join(named(verb, url)) == method


def count(service: str, method: str, code: str) -> float:
    labels = {"service": service, "method": method, "code": code}
    return REGISTRY.get_sample_value("budget_operator_cloud_calls_total", labels) or 0.0


def test_what_the_gateways_call_is_counted(google: Any, google_error: Any) -> None:
    zone = "/compute/v1/projects/p1/zones/z"
    google.answer(f"GET {zone}", (200, {"name": "z"}))
    before = count("compute", "zones.get", "200"), count("storage", "buckets.get", "404")
    assert ComputeGateway(google.connection).zone("z")
    assert StorageGateway(google.connection, "nothing").bucket() is None
    google.answer("GET /compute/v1/projects/p1/aggregated/instances", (200, {"items": {}}))
    lists = count("compute", "instances.aggregatedList", "200")
    ComputeGateway(google.connection).instances("a", "b")
    assert count("compute", "instances.aggregatedList", "200") == lists + 1
    assert count("compute", "zones.get", "200") == before[0] + 1
    assert count("storage", "buckets.get", "404") == before[1] + 1


def test_a_call_without_an_answer_is_counted_too() -> None:
    before = count("compute", "zones.get", "none")
    nobody = Connection("p1", "http://127.0.0.1:1", "anonymous")
    with pytest.raises(Unavailable):
        ComputeGateway(nobody).zone("z")
    assert count("compute", "zones.get", "none") == before + 1
