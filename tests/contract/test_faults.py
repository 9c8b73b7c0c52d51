"""What goes wrong on purpose, as the operator's own gateways and the lives of VMs show it."""

import uuid
from typing import Any

import pytest

from dev.conformance.bodies import ZONE

SOLD_OUT = "ZONE_RESOURCE_POOL_EXHAUSTED"
INSTANCES = f"zones/{ZONE}/instances"


@pytest.fixture
def status(cloud: Any) -> Any:
    return lambda name="vm1": cloud.compute("GET", f"{INSTANCES}/{name}").json().get("status", "GONE")


@pytest.fixture
def becomes(status: Any, wait_until: Any) -> Any:
    return lambda wanted, name="vm1": wait_until(lambda: status(name) == wanted, f"{name} to be {wanted}")


@pytest.mark.parametrize("code", [SOLD_OUT, f"{SOLD_OUT}_WITH_DETAILS"])
@pytest.mark.parametrize("when", ["request", "operation"])
def test_a_spot_stock_out_leaves_standard_machines(
    cloud: Any, spot_body: Any, status: Any, wait_until: Any, code: str, when: str
) -> None:
    standard = spot_body("vm2", scheduling={"provisioningModel": "STANDARD"})
    with cloud.fault(kind="stock-out", zone=ZONE, model="SPOT", code=code, when=when):
        refused = cloud.compute("POST", INSTANCES, spot_body())
        assert refused.status_code == (503 if when == "request" else 200)
        cloud.compute("POST", INSTANCES, standard)
        wait_until(lambda: status("vm2") == "RUNNING", "the standard machine")
        wait_until(lambda: status() == "GONE", "nothing is left of the other")
    if when == "operation":
        done = cloud.compute("GET", refused.json()["selfLink"].partition("/projects/p1/")[2]).json()
        assert [error["code"] for error in done["error"]["errors"]] == [code]


@pytest.mark.parametrize("code", [SOLD_OUT, f"{SOLD_OUT}_WITH_DETAILS"])
@pytest.mark.parametrize("when", ["request", "operation"])
@pytest.mark.parametrize(("before", "verb"), [("TERMINATED", "start"), ("SUSPENDED", "resume")])
def test_a_stock_out_leaves_what_is_off_as_it_is(
    cloud: Any, spot_body: Any, becomes: Any, code: str, when: str, before: str, verb: str
) -> None:
    cloud.compute("POST", INSTANCES, spot_body())
    becomes("RUNNING")
    cloud.compute("POST", f"{INSTANCES}/vm1/{'stop' if verb == 'start' else 'suspend'}")
    becomes(before)
    cloud.control("POST", "/faults", {"kind": "stock-out", "zone": ZONE, "code": code, "when": when})
    cloud.turn()
    refused = cloud.compute("POST", f"{INSTANCES}/vm1/{verb}")
    assert errors_of(cloud, refused) == (503, [code]), "the fault outlives a restart of the server"
    becomes(before)
    cloud.control("DELETE", "/faults")
    cloud.compute("POST", f"{INSTANCES}/vm1/{verb}")
    becomes("RUNNING")


def errors_of(cloud: Any, answer: Any) -> tuple[int, list[str]]:
    """The status and the codes of a refused request, or of the operation that was asked for."""
    body = answer.json()
    if "error" in body and not answer.is_success:
        return answer.status_code, [error["reason"] for error in body["error"]["errors"]]
    done = cloud.compute("POST", f"{body['selfLink'].partition('/projects/p1/')[2]}/wait").json()
    return done["httpErrorStatusCode"], [error["code"] for error in done["error"]["errors"]]


@pytest.mark.parametrize(
    ("metric", "counted", "other"),
    [("PREEMPTIBLE_CPUS", "SPOT", "STANDARD"), ("CPUS", "STANDARD", "SPOT")],
)
@pytest.mark.parametrize("when", ["request", "operation"])
def test_a_quota_counts_the_processors_that_run_in_a_region(
    cloud: Any, spot_body: Any, becomes: Any, metric: str, counted: str, other: str, when: str
) -> None:
    def insert(name: str, model: str, zone: str = ZONE) -> Any:
        machine = f"zones/{zone}/machineTypes/e2-medium"
        body = spot_body(name, machineType=machine, scheduling={"provisioningModel": model})
        return cloud.compute("POST", f"zones/{zone}/instances", body)

    quota = {"kind": "quota", "region": "us-central1", "metric": metric, "limit": 3, "when": when}
    cloud.control("POST", "/faults", quota)
    insert("vm1", counted)
    becomes("RUNNING")
    code = "quotaExceeded" if when == "request" else "QUOTA_EXCEEDED"
    assert errors_of(cloud, insert("vm2", counted, "us-central1-b")) == (403, [code])
    for name, model, zone in (("vm3", other, ZONE), ("vm4", counted, "us-east1-b")):
        link = insert(name, model, zone).json()["selfLink"]
        assert "error" not in cloud.compute("POST", f"{link.partition('/projects/p1/')[2]}/wait").json()
    cloud.compute("POST", f"{INSTANCES}/vm1/stop")
    becomes("TERMINATED")
    insert("vm5", counted)
    becomes("RUNNING", "vm5")


@pytest.mark.parametrize("noun", ["instances", "disks"])
def test_a_silent_zone_is_missing_from_aggregated_lists_only(
    cloud: Any, spot_body: Any, becomes: Any, noun: str
) -> None:
    cloud.compute("POST", INSTANCES, spot_body())
    becomes("RUNNING")
    with cloud.fault(kind="silent-zone", zone=ZONE):
        listed = cloud.compute("GET", f"aggregated/{noun}").json()
        assert listed["items"][f"zones/{ZONE}"]["warning"]["code"] == "UNREACHABLE"
        assert listed["unreachables"] == [f"{cloud.url}/compute/v1/projects/p1/zones/{ZONE}"]
        assert len(cloud.compute("GET", f"zones/{ZONE}/{noun}").json()["items"]) == 1
    listed = cloud.compute("GET", f"aggregated/{noun}").json()
    assert len(listed["items"][f"zones/{ZONE}"][noun]) == 1
    assert "unreachables" not in listed


def test_a_boot_takes_longer(cloud: Any, spot_body: Any, status: Any, wait_until: Any) -> None:
    with cloud.fault(kind="slow-boot", instance="vm*", seconds=3600):
        cloud.compute("POST", INSTANCES, spot_body())
        wait_until(lambda: status() == "STAGING", "the long part of the boot")
    assert status() == "STAGING"


def test_a_vm_crashes_after_each_start(cloud: Any, spot_body: Any, status: Any, wait_until: Any) -> None:
    def crashes() -> int:
        operations = cloud.compute("GET", f"zones/{ZONE}/operations").json()["items"]
        return sum(each["operationType"] == "compute.instances.guestTerminate" for each in operations)

    with cloud.fault(kind="crashing-vm", instance="vm1"):
        cloud.compute("POST", INSTANCES, spot_body())
        wait_until(lambda: crashes() == 1, "the crash")
        assert status() == "TERMINATED"
        cloud.compute("POST", f"{INSTANCES}/vm1/start")
        wait_until(lambda: crashes() == 2, "the next crash")
    cloud.compute("POST", f"{INSTANCES}/vm1/start")
    wait_until(lambda: status() == "RUNNING", "the start")


def test_a_call_without_an_answer_is_counted_by_its_effect(
    cloud: Any, spot_body: Any, wait_until: Any
) -> None:
    with cloud.fault(path="/instances$", method="POST", when="after", count=0):
        assert cloud.compute("POST", INSTANCES, spot_body()).status_code == 503
        assert cloud.compute("POST", INSTANCES, spot_body()).status_code == 503
    query = "permission=compute.instances.create&effective=true"
    (entry,) = cloud.control("GET", f"/journal?{query}")["entries"]
    assert (entry["status"], entry["took_effect"]) == (503, True), "the second one met the first one's VM"


def test_a_call_that_is_sent_again_took_effect_once(cloud: Any, spot_body: Any) -> None:
    again = {"requestId": str(uuid.uuid4())}
    cloud.control("POST", "/faults", {"path": "/instances$", "method": "POST", "when": "after"})
    assert cloud.compute("POST", INSTANCES, spot_body(), **again).status_code == 503
    assert cloud.compute("POST", INSTANCES, spot_body(), **again).status_code == 200
    query = "permission=compute.instances.create"
    assert cloud.control("GET", f"/journal/count?{query}") == {"count": 2}
    assert cloud.control("GET", f"/journal/count?{query}&effective=true") == {"count": 1}
