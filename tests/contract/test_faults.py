"""What goes wrong on purpose, as the operator's own gateways and the lives of VMs show it."""

from typing import Any

import pytest

from dev.conformance.server import ZONE

SOLD_OUT = "ZONE_RESOURCE_POOL_EXHAUSTED"
INSTANCES = f"zones/{ZONE}/instances"


@pytest.fixture
def status(cloud: Any) -> Any:
    return lambda name="vm1": cloud.compute("GET", f"{INSTANCES}/{name}").json().get("status", "GONE")


@pytest.mark.parametrize(
    "code", ["ZONE_RESOURCE_POOL_EXHAUSTED", "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS"]
)
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
