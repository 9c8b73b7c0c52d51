"""The keep-alive function as it is deployed, in its own process, against the local cloud."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Any

import httpx
import pytest

from dev import plain
from dev.conformance.clock import HeldClock
from localcloud.clock import rfc3339
from localcloud.ports import free_port
from localcloud.services.compute.records import Records

ZONE = "us-central1-a"
SOURCE = Path(__file__).parents[2] / "restart_function" / "main.py"


def labels(**changes: str) -> dict[str, str]:
    ours = {
        "budgetml-installation": "abc",
        "budgetml-wanted": "running",
        "budgetml-schedule": "s1",
    }
    return ours | {f"budgetml-{key}": value for key, value in changes.items()}


@pytest.fixture
def make(cloud: Any, spot_body: Any, wait_until: Any) -> Callable[..., None]:
    def make_vm(name: str, stopped: bool = True, notice: bool = False, **changes: str) -> None:
        body = spot_body(name, labels=labels(**changes))
        if notice:
            body["scheduling"]["preemptionNoticeDuration"] = {"seconds": "120"}
        assert cloud.compute("POST", f"zones/{ZONE}/instances", body).is_success
        wait_until(lambda: status(cloud, name) == "RUNNING", f"{name} to run")
        if stopped:
            assert cloud.compute("POST", f"zones/{ZONE}/instances/{name}/stop").is_success
            wait_until(lambda: status(cloud, name) == "TERMINATED", f"{name} to stop")

    return make_vm


def status(cloud: Any, name: str) -> str:
    return str(cloud.compute("GET", f"zones/{ZONE}/instances/{name}").json()["status"])


class Function:
    def __init__(self, url: str, log: Path) -> None:
        self.url = url
        self.log = log

    def post(self, body: Any, headers: dict[str, str] | None = None) -> int:
        return plain.post(self.url, json=body, headers=headers, timeout=90, trust_env=False).status_code

    def deliver(self, message: Any, identity: str = "") -> int:
        """One message as Eventarc delivers it: a CloudEvent in binary mode."""
        headers = {
            "ce-specversion": "1.0",
            "ce-id": identity or uuid.uuid4().hex,
            "ce-source": "//pubsub.googleapis.com/projects/p1/topics/t",
            "ce-type": "google.cloud.pubsub.topic.v1.messagePublished",
            "Content-Type": "application/json",
        }
        return self.post(message, headers)

    def tick(self, schedule: str = "s1", identity: str = "") -> int:
        data = base64.b64encode(json.dumps({"schedule": schedule}).encode()).decode()
        return self.deliver({"message": {"data": data, "messageId": "1"}, "subscription": "s"}, identity)

    def leaving(self, name: str) -> int:
        """What the VM of this name sends at its soft-off."""
        data = base64.b64encode(json.dumps({"schedule": "s1", "instance": name}).encode()).decode()
        return self.deliver({"message": {"data": data, "messageId": "1"}}, identity="78")

    def said(self) -> list[dict[str, str]]:
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]


@pytest.fixture
def function(cloud: Any, tmp_path: Path, wait_until: Any) -> Iterator[Function]:
    port = cloud.port
    while port == cloud.port:
        port = free_port()
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONUNBUFFERED": "1",
        "BUDGET_PROJECT": "p1",
        "BUDGET_INSTALLATION": "abc",
        "BUDGET_API_ENDPOINT": cloud.url,
        "BUDGET_CREDENTIALS": "anonymous",
    }
    command = [sys.executable, "-m", "functions_framework", "--target=restart", f"--source={SOURCE}"]
    command += ["--signature-type=cloudevent", "--host=127.0.0.1", f"--port={port}"]
    log = tmp_path / "function.log"
    with log.open("wb") as out:
        process = subprocess.Popen(command, env=environment, stdout=out, stderr=out, cwd=tmp_path)
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: process.poll() is not None or _answers(url), "the function to listen", 30)
        assert process.poll() is None, log.read_text()
        yield Function(url, log)
    finally:
        process.terminate()
        process.wait(20)


def _answers(url: str) -> bool:
    try:
        plain.get(url, timeout=5, trust_env=False)
    except httpx.TransportError:
        return False
    return True


def test_a_tick_starts_what_is_due_and_nothing_else(
    cloud: Any, function: Function, make: Any, wait_until: Any
) -> None:
    make("due")
    make("unwanted", wanted="stopped")
    make("another-schedule", schedule="s2")
    make("another-installation", installation="xyz")
    assert function.tick() < 300
    wait_until(lambda: status(cloud, "due") == "RUNNING", "the VM to run again")
    for name in ("unwanted", "another-schedule", "another-installation"):
        assert status(cloud, name) == "TERMINATED"
    about = [line["instance"] for line in function.said() if "instance" in line]
    assert sorted(about) == ["another-schedule", "due", "unwanted"], "one line per VM of the installation"


ODD = [
    {"message": {"messageId": "1", "data": "e30="}},
    {"message": {"messageId": "1"}},
    {"message": {"data": "%%%"}},
    {"message": {"data": base64.b64encode(b"null").decode()}},
    {"message": None},
    {},
    None,
    [],
    7,
]


def test_odd_messages_start_what_is_due_anyway(
    cloud: Any, function: Function, make: Any, wait_until: Any
) -> None:
    make("due", schedule="s2")
    make("unwanted", wanted="stopped")
    for deliver, message in product((function.deliver, function.post), ODD):
        assert deliver(message) == 200, message
        wait_until(lambda: status(cloud, "due") == "RUNNING", f"the VM to run after {message}")
        assert status(cloud, "unwanted") == "TERMINATED"
        assert cloud.compute("POST", f"zones/{ZONE}/instances/due/stop").is_success
        wait_until(lambda: status(cloud, "due") == "TERMINATED", "the VM to stop")


def test_the_same_tick_twice_starts_once(cloud: Any, function: Function, make: Any, wait_until: Any) -> None:
    make("due")
    assert [function.tick(identity="77"), function.tick(identity="77")] == [200, 200]
    wait_until(lambda: status(cloud, "due") == "RUNNING", "the VM to run again")
    assert function.tick(identity="78") == 200
    starts = cloud.compute("GET", f"zones/{ZONE}/operations", filter='operationType="start"').json()
    assert len(starts["items"]) == 1


def test_a_sold_out_zone_is_no_reason_to_fail(
    cloud: Any, function: Function, make: Any, wait_until: Any
) -> None:
    make("due")
    cloud.control("POST", "/faults", {"kind": "stock-out", "zone": ZONE})
    assert function.tick() == 200
    cloud.control("DELETE", "/faults")

    def started() -> bool:
        return function.tick() == 200 and status(cloud, "due") == "RUNNING"

    wait_until(started, "a later tick to start it")


def test_one_refused_start_holds_nobody_back(
    cloud: Any, function: Function, make: Any, wait_until: Any
) -> None:
    make("a")
    make("b")
    cloud.control("POST", "/faults", {"path": "/instances/a/start", "code": 403, "reason": "quotaExceeded"})
    assert function.tick() == 200
    wait_until(lambda: status(cloud, "b") == "RUNNING", "the other VM to run")
    assert status(cloud, "a") == "TERMINATED"
    (error,) = [line for line in function.said() if line["severity"] == "ERROR"]
    assert error["instance"] == "a"


def test_a_list_that_fails_ends_well_and_the_next_tick_works(
    cloud: Any, function: Function, make: Any, wait_until: Any
) -> None:
    make("due")
    cloud.control("POST", "/faults", {"path": "/aggregated/instances", "code": 503})
    assert function.tick() == 200
    assert status(cloud, "due") == "TERMINATED"
    assert function.tick() == 200
    wait_until(lambda: status(cloud, "due") == "RUNNING", "the VM to run again")


def test_a_vm_going_down_is_waited_for(cloud: Any, function: Function, make: Any, wait_until: Any) -> None:
    make("due", stopped=False)
    cloud.control("POST", "/preempt/due")
    assert function.tick() == 200
    wait_until(lambda: status(cloud, "due") == "RUNNING", "the VM to run again")
    stops = cloud.compute("GET", f"zones/{ZONE}/operations", filter='operationType="start"').json()
    assert len(stops["items"]) == 1


def test_a_vm_that_says_it_leaves_is_started_once_it_is_off(
    cloud: Any, held: HeldClock, function: Function, make: Any, wait_until: Any
) -> None:
    """Also while the API still shows it as running, and when the message comes twice."""
    make("due", stopped=False, notice=True)
    make("other")
    assert function.leaving("due") == 200
    assert "next tick" in function.said()[-1]["message"], "nothing serves that soon after its start"
    grow_older(cloud, "due")
    held.hold()
    cloud.control("POST", "/preempt/due")
    assert status(cloud, "due") == "RUNNING"
    held.release()
    with ThreadPoolExecutor() as pool:
        assert list(pool.map(function.leaving, ["due", "due"])) == [200, 200]
    wait_until(lambda: status(cloud, "due") == "RUNNING", "the VM to run again")
    operations = cloud.compute("GET", f"zones/{ZONE}/operations", filter='operationType="start"').json()
    assert [each["targetLink"].rpartition("/")[2] for each in operations["items"]] == ["due"]
    assert status(cloud, "other") == "TERMINATED"


def grow_older(cloud: Any, name: str) -> None:
    """It was started a minute ago."""
    records = Records(cloud.context.store)
    path = f"projects/p1/zones/{ZONE}/instances/{name}"
    record = records.require(path)
    record.body["lastStartTimestamp"] = rfc3339(datetime.now(UTC) - timedelta(minutes=1))
    records.put(path, record)


def test_a_suspended_vm_is_resumed(cloud: Any, function: Function, make: Any, wait_until: Any) -> None:
    make("due", stopped=False)
    assert cloud.compute("POST", f"zones/{ZONE}/instances/due/suspend").is_success
    wait_until(lambda: status(cloud, "due") == "SUSPENDED", "the VM to be suspended")
    assert function.tick() == 200
    wait_until(lambda: status(cloud, "due") == "RUNNING", "the VM to go on")
