"""The local cloud in this process, under the sessions of real clients, in a time that jumps."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from google.api_core.exceptions import NotFound
from google.cloud import compute_v1
from google.cloud.storage import Client

from dev.conformance import bodies, clients
from dev.simulation.function import InProcess
from dev.simulation.sessions import mounted
from localcloud.faults import parse
from localcloud.jumping import JumpingClock
from localcloud.mounted import Answer, Mounted
from localcloud.settings import Settings

AT: dict[str, Any] = {"project": "p1", "zone": "us-central1-a"}


def _spot(name: str) -> Any:
    return compute_v1.Instance.from_json(json.dumps(bodies.spot_instance(name)))


@pytest.fixture
def clock() -> JumpingClock:
    return JumpingClock()


@pytest.fixture
def cloud(tmp_path: Path, clock: JumpingClock) -> Iterator[Mounted]:
    made = Mounted(
        Settings(tmp_path / "home", host="cloud.simulated", port=80),
        clock,
        InProcess(tmp_path / "function", clock),
    )
    made.start()
    with mounted(made):
        yield made
    made.stop()


@pytest.fixture
def options(cloud: Mounted) -> dict[str, Any]:
    return clients.options(cloud.context.settings.base_url)


def test_an_instance_lives_in_the_clocks_time(clock: JumpingClock, options: dict[str, Any]) -> None:
    api = compute_v1.InstancesClient(**options)
    api.insert_unary(instance_resource=_spot("vm1"), **AT)
    assert api.get(instance="vm1", **AT).status == "PROVISIONING"
    clock.sleep(1)
    assert api.get(instance="vm1", **AT).status == "RUNNING"
    api.simulate_maintenance_event_unary(instance="vm1", **AT)
    clock.sleep(60)
    stopped = api.get(instance="vm1", **AT)
    assert stopped.status == "TERMINATED"
    assert stopped.last_stop_timestamp > stopped.last_start_timestamp


def test_a_long_poll_waits_in_the_clocks_time(clock: JumpingClock, options: dict[str, Any]) -> None:
    started = compute_v1.InstancesClient(**options).insert_unary(instance_resource=_spot("vm1"), **AT)
    ended = compute_v1.ZoneOperationsClient(**options).wait(operation=started.name, **AT)
    assert ended.status == compute_v1.Operation.Status.DONE
    assert 0 < clock.monotonic() < 5


def test_bytes_go_through_as_they_are(options: dict[str, Any]) -> None:
    client = Client(project="p1", **options)
    blob = client.create_bucket("mounted-bucket").blob("a/ä b%2F?.bin")
    content = bytes(range(256)) * 3000
    blob.upload_from_string(content, content_type="application/octet-stream")
    assert [each.name for each in client.list_blobs("mounted-bucket")] == ["a/ä b%2F?.bin"]
    assert client.bucket("mounted-bucket").blob(blob.name).download_as_bytes() == content


def test_errors_come_as_the_clients_know_them(options: dict[str, Any]) -> None:
    with pytest.raises(NotFound, match="was not found"):
        compute_v1.InstancesClient(**options).get(instance="nobody", **AT)


def test_a_late_answer_is_a_timeout(cloud: Mounted, options: dict[str, Any]) -> None:
    late = parse({"kind": "call", "path": ".*/instances/.*", "code": 0, "latency": 30})
    cloud.context.faults.add(late, cloud.context.clock.now())
    with pytest.raises(requests.ReadTimeout):
        compute_v1.InstancesClient(**options).get(instance="vm1", timeout=20, retry=None, **AT)
    assert cloud.context.clock.monotonic() == 30


def test_a_carrier_may_lose_an_answer(cloud: Mounted, options: dict[str, Any]) -> None:
    def losing(request: requests.PreparedRequest, carry: Callable[[], Answer]) -> Answer:
        carry()
        raise requests.ConnectionError("lost", request=request)

    api = compute_v1.InstancesClient(**options)
    with mounted(cloud, losing), pytest.raises(requests.ConnectionError):
        api.insert_unary(instance_resource=_spot("vm1"), **AT)
    assert api.get(instance="vm1", **AT).name == "vm1"


def test_other_addresses_are_not_the_clouds(cloud: Mounted) -> None:
    with pytest.raises(requests.ConnectionError):
        requests.get("http://127.0.0.1:9/compute/v1/projects/p1", timeout=1)
