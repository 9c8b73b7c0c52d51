"""Raw calls to Compute; every successful answer is checked against the discovery document."""

from __future__ import annotations

import threading
import time
import uuid
from dataclasses import replace
from typing import Any

import httpx
import pytest

from dev.conformance import discovery
from dev.conformance.clock import HeldClock
from dev.conformance.server import until
from localcloud.services.compute.schema import check, extract

INSTANCES = "zones/us-central1-a/instances"
OPERATIONS = "zones/us-central1-a/operations"
ADDRESSES = "regions/us-central1/addresses"


@pytest.fixture
def run(cloud: Any) -> Any:
    """Call, and wait for the operation that is the answer."""

    def call(method: str, path: str, body: Any = None, **query: Any) -> dict[str, Any]:
        answer = cloud.compute(method, path, body, **query)
        assert answer.status_code == 200, answer.text
        operation = answer.json()
        scope = operation["selfLink"].split("/projects/p1/")[1]
        done: dict[str, Any] = cloud.compute("POST", f"{scope}/wait").json()
        assert done["status"] == "DONE"
        return done

    return call


@pytest.fixture
def status(cloud: Any) -> Any:
    def get(name: str = "vm1") -> str:
        found = cloud.compute("GET", f"{INSTANCES}/{name}")
        return found.json()["status"] if found.is_success else "GONE"

    return get


def error_of(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["errors"][0]["reason"]


def test_the_schemas_are_an_extract_of_the_discovery_document() -> None:
    from localcloud.services.compute import schema

    assert schema._schemas() == extract(discovery.document("compute.v1"))


def test_an_instance_goes_through_its_life(cloud: Any, run: Any, status: Any, spot_body: Any) -> None:
    pending = cloud.compute("POST", INSTANCES, spot_body()).json()
    assert pending["status"] == "PENDING"
    assert status() in ("PROVISIONING", "STAGING", "RUNNING")
    assert "error" not in cloud.compute("POST", f"{OPERATIONS}/{pending['name']}/wait").json()
    body = cloud.compute("GET", f"{INSTANCES}/vm1").json()
    access = body["networkInterfaces"][0]["accessConfigs"][0]
    assert body["status"] == "RUNNING"
    assert access["natIP"] == "127.0.77.10"
    assert body["scheduling"]["preemptible"] is True
    assert body["selfLink"] == f"{cloud.url}/compute/v1/projects/p1/{INSTANCES}/vm1"

    run("POST", f"{INSTANCES}/vm1/stop")
    stopped = cloud.compute("GET", f"{INSTANCES}/vm1").json()
    assert stopped["status"] == "TERMINATED"
    assert "natIP" not in stopped["networkInterfaces"][0]["accessConfigs"][0]
    assert [d["name"] for d in cloud.compute("GET", "zones/us-central1-a/disks").json()["items"]] == ["vm1"]

    run("POST", f"{INSTANCES}/vm1/start")
    assert status() == "RUNNING"
    run("DELETE", f"{INSTANCES}/vm1")
    assert status() == "GONE"
    assert cloud.compute("GET", "zones/us-central1-a/disks").json()["items"] == []
    assert cloud.control("GET", "/resources") == {"resources": []}


def test_a_request_id_makes_one_operation(cloud: Any, run: Any, spot_body: Any) -> None:
    request_id = str(uuid.uuid4())
    first = run("POST", INSTANCES, spot_body(), requestId=request_id)
    again = cloud.compute("POST", INSTANCES, spot_body(), requestId=request_id).json()
    assert again["name"] == first["name"]
    assert error_of(cloud.compute("POST", INSTANCES, spot_body())) == (409, "alreadyExists")
    zero = cloud.compute("POST", INSTANCES, spot_body("vm2"), requestId=str(uuid.UUID(int=0)))
    assert error_of(zero) == (400, "invalid")


def test_a_request_id_counts_for_every_mutation(cloud: Any, spot_body: Any) -> None:
    """Each is made three times, before and after it is done, and takes effect once."""
    vm, firewall = f"{INSTANCES}/vm1", "global/firewalls/fw"
    disks = [spot_body()["disks"][0] | {"autoDelete": False}]
    small = {"machineType": "zones/us-central1-a/machineTypes/e2-small"}
    rule = {"name": "fw", "allowed": [{"IPProtocol": "tcp"}]}

    def now(field: str, of: str) -> Any:
        found: Any = cloud.compute("GET", vm).json()
        return found.get(field, found)[of]

    calls: list[tuple[str, str, Any]] = [
        ("POST", INSTANCES, lambda: spot_body(disks=disks)),
        ("POST", f"{vm}/setMetadata", lambda: {"fingerprint": now("metadata", "fingerprint")}),
        ("POST", f"{vm}/setTags", lambda: {"fingerprint": now("tags", "fingerprint")}),
        ("POST", f"{vm}/setLabels", lambda: {"labelFingerprint": now("", "labelFingerprint")}),
        *(("POST", f"{vm}/{verb}", dict) for verb in ("reset", "suspend", "resume", "stop")),
        ("POST", f"{vm}/setMachineType", lambda: small),
        ("POST", "zones/us-central1-a/disks/vm1/resize", lambda: {"sizeGb": "30"}),
        *(("POST", f"{vm}/{verb}", dict) for verb in ("start", "simulateMaintenanceEvent")),
        ("DELETE", vm, lambda: None),
        ("DELETE", "zones/us-central1-a/disks/vm1", lambda: None),
        ("POST", ADDRESSES, lambda: {"name": "ip1"}),
        ("DELETE", f"{ADDRESSES}/ip1", lambda: None),
        ("POST", "global/firewalls", lambda: rule),
        ("PATCH", firewall, lambda: {"description": "d"}),
        ("DELETE", firewall, lambda: None),
    ]
    for method, path, body in calls:
        given, request_id = body(), str(uuid.uuid4())
        zero = cloud.compute(method, path, given, requestId=str(uuid.UUID(int=0)))
        assert error_of(zero) == (400, "invalid"), path
        first = cloud.compute(method, path, given, requestId=request_id).json()
        again = cloud.compute(method, path, given, requestId=request_id).json()
        scope = first["selfLink"].split("/projects/p1/")[1]
        assert "error" not in cloud.compute("POST", f"{scope}/wait").json(), path
        late = cloud.compute(method, path, given, requestId=request_id).json()
        assert {first["name"], again["name"], late["name"]} == {first["name"]}, path
        assert late["clientOperationId"] == request_id
    assert [
        len(cloud.context.journal.entries(permission=f"compute.{verb}", effective=True))
        for verb in ("instances.create", "instances.start", "firewalls.delete")
    ] == [1, 1, 1]
    assert cloud.control("GET", "/resources") == {"resources": []}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"colour": "red"}, 'Unknown name "colour"'),
        ({"scheduling": {"spot": True}}, "Unknown name \"spot\" at 'scheduling'"),
        ({"scheduling": {"provisioningModel": "CHEAP"}}, "resource.scheduling.provisioningModel"),
        ({"scheduling": {"provisioningModel": "SPOT", "automaticRestart": True}}, "automaticRestart"),
        ({"scheduling": {"instanceTerminationAction": "STOP"}}, "Only for Spot"),
        ({"scheduling": {"maxRunDuration": {"seconds": "60"}}}, "resource.scheduling.maxRunDuration"),
        ({"scheduling": {"skipGuestOsShutdown": True}}, "ignores nothing silently"),
        ({"name": "Vm1"}, "resource.name"),
        ({"name": "v" * 64}, "resource.name"),
        ({"labels": {"Bad": "x"}}, "Label keys"),
        ({"labels": {"a": "x" * 64}}, "Label values"),
        ({"machineType": "zones/us-central1-a/machineTypes/e9-huge"}, "does not exist in zone"),
        ({"machineType": "zones/us-east1-b/machineTypes/e2-small"}, "does not exist in zone"),
        ({"metadata": {"items": [{"key": "a", "value": "ä" * (128 * 1024) + "b"}]}}, "262145 bytes"),
        ({"metadata": {"items": [{"key": f"k{n}", "value": "x" * 2**18} for n in (1, 2)]}}, "524292 bytes"),
        ({"metadata": {"items": [{"key": "a"}, {"key": "b c"}]}}, "resource.metadata.items[1].key"),
        ({"tags": {"items": ["good", "Bad"]}}, "resource.tags.items[1]"),
        ({"labels": {f"k{n}": "" for n in range(65)}}, "At most 64 labels"),
        ({"disks": []}, "resource.disks"),
        ({"networkInterfaces": []}, "resource.networkInterfaces"),
    ],
)
def test_a_wrong_body_is_refused_and_leaves_nothing(
    cloud: Any, spot_body: Any, fields: dict[str, Any], words: str
) -> None:
    answer = cloud.compute("POST", INSTANCES, spot_body(**fields))
    assert answer.status_code == 400
    assert words in answer.json()["error"]["message"]
    assert cloud.control("GET", "/resources") == {"resources": []}


def test_metadata_up_to_the_limit_in_bytes_is_kept(cloud: Any, run: Any, spot_body: Any) -> None:
    value = "ä" * (128 * 1024)
    run("POST", INSTANCES, spot_body(metadata={"items": [{"key": "a", "value": value}]}))
    kept = cloud.compute("GET", f"{INSTANCES}/vm1").json()["metadata"]["items"]
    assert kept == [{"key": "a", "value": value}]


def test_unknown_places_are_not_found(cloud: Any, spot_body: Any) -> None:
    assert error_of(cloud.compute("GET", f"{INSTANCES}/nope")) == (404, "notFound")
    assert error_of(cloud.compute("POST", "zones/mars1-a/instances", spot_body())) == (404, "notFound")
    assert error_of(cloud.compute("GET", "regions/mars1/addresses")) == (404, "notFound")


def test_a_static_address_is_honoured_and_given_back(cloud: Any, run: Any, spot_body: Any) -> None:
    run("POST", ADDRESSES, {"name": "ip1", "labels": {"a": "b"}})
    address = cloud.compute("GET", f"{ADDRESSES}/ip1").json()
    assert (address["status"], address["labels"]) == ("RESERVED", {"a": "b"})
    nic = [{"accessConfigs": [{"type": "ONE_TO_ONE_NAT", "natIP": address["address"]}]}]
    run("POST", INSTANCES, spot_body(networkInterfaces=nic))
    used = cloud.compute("GET", f"{ADDRESSES}/ip1").json()
    assert used["status"] == "IN_USE"
    assert used["users"] == [f"{cloud.url}/compute/v1/projects/p1/{INSTANCES}/vm1"]

    taken = cloud.compute("POST", INSTANCES, spot_body("vm2", networkInterfaces=nic))
    assert error_of(taken) == (400, "resourceInUseByAnotherResource")
    refused = cloud.compute("DELETE", f"{ADDRESSES}/ip1")
    assert error_of(refused) == (400, "resourceInUseByAnotherResource")

    run("POST", f"{INSTANCES}/vm1/stop")
    kept = cloud.compute("GET", f"{INSTANCES}/vm1").json()["networkInterfaces"][0]["accessConfigs"][0]
    assert kept["natIP"] == address["address"], "a stopped VM keeps its static address"
    run("DELETE", f"{INSTANCES}/vm1")
    assert cloud.compute("GET", f"{ADDRESSES}/ip1").json()["status"] == "RESERVED"
    run("DELETE", f"{ADDRESSES}/ip1")
    assert cloud.control("GET", "/resources") == {"resources": []}


def test_a_static_address_follows_its_vm_to_any_zone_of_its_region(
    cloud: Any, run: Any, spot_body: Any
) -> None:
    run("POST", ADDRESSES, {"name": "ip1"})
    ip = cloud.compute("GET", f"{ADDRESSES}/ip1").json()["address"]
    nic = [{"accessConfigs": [{"type": "ONE_TO_ONE_NAT", "natIP": ip}]}]
    for zone in ("us-central1-a", "us-central1-f"):
        small = f"zones/{zone}/machineTypes/e2-small"
        run("POST", f"zones/{zone}/instances", spot_body(machineType=small, networkInterfaces=nic))
        made = cloud.compute("GET", f"zones/{zone}/instances/vm1").json()
        assert made["networkInterfaces"][0]["accessConfigs"][0]["natIP"] == ip
        run("DELETE", f"zones/{zone}/instances/vm1")
    small = "zones/us-east1-b/machineTypes/e2-small"
    body = spot_body(machineType=small, networkInterfaces=nic)
    refused = cloud.compute("POST", "zones/us-east1-b/instances", body)
    assert error_of(refused) == (400, "invalid")
    assert "not reserved in region 'us-east1'" in refused.json()["error"]["message"]


def test_an_ephemeral_address_is_another_one_after_each_start(cloud: Any, run: Any, spot_body: Any) -> None:
    run("POST", INSTANCES, spot_body())
    seen = []
    for _ in range(3):
        found = cloud.compute("GET", f"{INSTANCES}/vm1").json()
        seen.append(found["networkInterfaces"][0]["accessConfigs"][0]["natIP"])
        run("POST", f"{INSTANCES}/vm1/stop")
        run("POST", f"{INSTANCES}/vm1/start")
    assert len(set(seen)) == 3


def test_what_is_there_costs_also_while_nobody_uses_it(cloud: Any, run: Any, spot_body: Any) -> None:
    def hourly() -> dict[str, Any]:
        lines = cloud.control("GET", "/resources")["resources"]
        return {line["kind"]: pytest.approx(line["hourly"]) for line in lines}

    run("POST", ADDRESSES, {"name": "ip1"})
    assert hourly() == {"address": 0.01}
    ip = cloud.compute("GET", f"{ADDRESSES}/ip1").json()["address"]
    nic = [{"accessConfigs": [{"type": "ONE_TO_ONE_NAT", "natIP": ip}]}]
    disk = spot_body()["disks"][0] | {"autoDelete": False}
    disk["initializeParams"] |= {"diskType": "zones/us-central1-a/diskTypes/pd-balanced"}
    run("POST", INSTANCES, spot_body(networkInterfaces=nic, disks=[disk]))
    kept = {"disk": 20 * 0.1 / 730}
    assert hourly() == kept | {"address": 0.0, "instance": 0.020106 + 0.0025}
    run("POST", f"{INSTANCES}/vm1/stop")
    assert hourly() == kept | {"address": 0.01, "instance": 0.0}
    run("DELETE", f"{INSTANCES}/vm1")
    assert hourly() == kept | {"address": 0.01}
    run("DELETE", "zones/us-central1-a/disks/vm1")
    run("POST", INSTANCES, spot_body(networkInterfaces=[{}]))
    assert hourly() == {"address": 0.01, "disk": 20 * 0.04 / 730, "instance": 0.020106}


def test_an_address_that_is_not_reserved_is_refused(cloud: Any, spot_body: Any) -> None:
    nic = [{"accessConfigs": [{"type": "ONE_TO_ONE_NAT", "natIP": "127.0.77.99"}]}]
    assert error_of(cloud.compute("POST", INSTANCES, spot_body(networkInterfaces=nic))) == (400, "invalid")


def test_two_vms_never_share_an_address(cloud: Any, run: Any, spot_body: Any) -> None:
    for name in ("vm1", "vm2"):
        run("POST", INSTANCES, spot_body(name))
    run("POST", ADDRESSES, {"name": "ip1"})
    run("POST", f"{INSTANCES}/vm1/stop")
    run("POST", INSTANCES, spot_body("vm3"))
    run("POST", f"{INSTANCES}/vm1/start")
    items = cloud.compute("GET", INSTANCES).json()["items"]
    addresses = [item["networkInterfaces"][0]["accessConfigs"][0]["natIP"] for item in items]
    addresses.append(cloud.compute("GET", f"{ADDRESSES}/ip1").json()["address"])
    assert len(set(addresses)) == 4


@pytest.mark.parametrize("how", ["simulateMaintenanceEvent", "control"])
def test_a_preemption_is_an_operation_of_the_system(
    cloud: Any, run: Any, status: Any, spot_body: Any, wait_until: Any, how: str
) -> None:
    run("POST", INSTANCES, spot_body())
    if how == "control":
        cloud.control("POST", "/preempt/vm1")
    else:
        run("POST", f"{INSTANCES}/vm1/simulateMaintenanceEvent")
    wait_until(lambda: status() == "TERMINATED", "the preempted VM to be off")
    query = {"filter": 'operationType="compute.instances.preempted"'}
    [event] = cloud.compute("GET", OPERATIONS, **query).json()["items"]
    assert event["name"].startswith("systemevent-")
    assert (event["user"], event["status"]) == ("system", "DONE")
    assert event["statusMessage"] == "Instance was preempted."
    assert event["targetLink"].endswith("/instances/vm1")
    found = cloud.compute("GET", "aggregated/operations", **query).json()["items"]
    assert [op["name"] for op in found["zones/us-central1-a"]["operations"]] == [event["name"]]


def with_notice(spot_body: Any, seconds: int, **more: Any) -> dict[str, Any]:
    """An instance that asks for this much notice."""
    asked = {"preemptionNoticeDuration": {"seconds": str(seconds)}} | more
    body: dict[str, Any] = spot_body(scheduling=spot_body()["scheduling"] | asked)
    return body


def set_durations(cloud: Any, **changes: float) -> None:
    """The local cloud again, with other durations."""
    cloud.durations = replace(cloud.durations, **changes)
    cloud.turn()


def passes(held: HeldClock, seconds: float) -> bool:
    """As a step of a wait for what happens in a held time."""
    held.advance(seconds)
    return True


@pytest.mark.parametrize(("asked", "given"), [(None, 0.0), (0, 0.0), (1, 1.0), (120, 1.5)])
def test_a_notice_comes_before_the_soft_off(
    cloud: Any, held: HeldClock, run: Any, status: Any, spot_body: Any, asked: int | None, given: float
) -> None:
    set_durations(cloud, notice=1.5)
    run("POST", INSTANCES, spot_body() if asked is None else with_notice(spot_body, asked))
    held.hold()
    cloud.control("POST", "/preempt/vm1")
    if given:
        held.advance(given - 0.01)
        assert status() == "RUNNING"
        held.advance(0.02)
    until(lambda: status() == "TERMINATED", "the preempted VM to be off")
    console = cloud.compute("GET", f"{INSTANCES}/vm1/serialPort").json()["contents"]
    assert console.endswith("off within 0.5 s\n")


@pytest.mark.parametrize("seconds", ["121", "-1"])
def test_a_notice_lasts_at_most_two_minutes(cloud: Any, spot_body: Any, seconds: str) -> None:
    assert error_of(cloud.compute("POST", INSTANCES, with_notice(spot_body, int(seconds)))) == (
        400,
        "invalid",
    )


def test_a_project_may_refuse_a_field(cloud: Any, run: Any, spot_body: Any) -> None:
    cloud.control(
        "POST", "/faults", {"kind": "refused-field", "field": "scheduling.preemptionNoticeDuration"}
    )
    refused = cloud.compute("POST", INSTANCES, with_notice(spot_body, 120))
    assert error_of(refused) == (400, "invalid")
    assert "'resource.scheduling.preemptionNoticeDuration'" in refused.json()["error"]["message"]
    run("POST", INSTANCES, spot_body())


@pytest.mark.parametrize(
    ("method", "verb", "then"), [("POST", "/stop", "TERMINATED"), ("DELETE", "", "GONE")]
)
def test_during_the_notice_a_stop_or_delete_acts_at_once(
    cloud: Any, run: Any, status: Any, spot_body: Any, method: str, verb: str, then: str
) -> None:
    set_durations(cloud, notice=30.0)
    run("POST", INSTANCES, with_notice(spot_body, 120))
    cloud.control("POST", "/preempt/vm1")
    before = time.monotonic()
    assert "error" not in run(method, f"{INSTANCES}/vm1{verb}")
    assert status() == then
    assert time.monotonic() - before < 30


def test_a_restart_of_the_server_does_not_make_the_notice_longer(
    cloud: Any, held: HeldClock, run: Any, status: Any, spot_body: Any, wait_until: Any
) -> None:
    set_durations(cloud, notice=3.0)
    run("POST", INSTANCES, with_notice(spot_body, 120))
    held.hold()
    cloud.control("POST", "/preempt/vm1")
    held.advance(1.5)
    cloud.turn()
    assert status() == "RUNNING"
    held.advance(1.6)
    wait_until(lambda: status() == "TERMINATED", "the preempted VM to be off")


@pytest.mark.parametrize("phase", ["provisioning", "staging"])
def test_a_preemption_before_the_vm_runs_ends_its_creation_and_leaves_it_stopped(
    cloud: Any, held: HeldClock, run: Any, status: Any, spot_body: Any, wait_until: Any, phase: str
) -> None:
    """There is no guest yet to give notice to."""
    set_durations(cloud, provisioning=0.5, staging=0.5)
    held.hold()
    inserted = cloud.compute("POST", INSTANCES, with_notice(spot_body, 120)).json()
    wait_until(lambda: passes(held, 0.1) and status() == phase.upper(), "the phase")
    cloud.control("POST", "/preempt/vm1")
    held.release()
    done = cloud.compute("POST", f"{OPERATIONS}/{inserted['name']}/wait").json()
    (error,) = done["error"]["errors"]
    assert error["code"] == "UNSUPPORTED_OPERATION"
    assert error["message"] == "Instance 'vm1' failed to start due to preemption."
    wait_until(lambda: status() == "TERMINATED", "the preempted VM to be off")
    assert error_of(cloud.compute("POST", INSTANCES, spot_body())) == (409, "alreadyExists")
    assert "error" not in run("POST", f"{INSTANCES}/vm1/start")
    assert status() == "RUNNING"


@pytest.mark.parametrize("phase", ["STAGING", "RUNNING"])
def test_a_preemption_with_action_delete_leaves_nothing(
    cloud: Any, held: HeldClock, status: Any, spot_body: Any, wait_until: Any, phase: str
) -> None:
    set_durations(cloud, staging=0.5)
    held.hold()
    cloud.compute("POST", INSTANCES, with_notice(spot_body, 120, instanceTerminationAction="DELETE"))
    wait_until(lambda: passes(held, 0.1) and status() == phase, "the phase")
    cloud.control("POST", "/preempt/vm1")
    assert status() == ("RUNNING" if phase == "RUNNING" else "STOPPING")
    with pytest.raises(httpx.HTTPStatusError):
        cloud.control("POST", "/preempt/vm1")
    held.release()
    wait_until(lambda: status() == "GONE", "the preempted VM to be deleted")
    assert cloud.control("GET", "/resources") == {"resources": []}


def test_a_standard_vm_is_never_preempted(cloud: Any, run: Any, status: Any, spot_body: Any) -> None:
    run("POST", INSTANCES, spot_body(scheduling={"provisioningModel": "STANDARD"}))
    run("POST", f"{INSTANCES}/vm1/simulateMaintenanceEvent")
    assert status() == "RUNNING"


def test_a_stock_out_fails_insert_and_start(cloud: Any, run: Any, status: Any, spot_body: Any) -> None:
    run("POST", INSTANCES, spot_body())
    run("POST", f"{INSTANCES}/vm1/stop")
    cloud.control(
        "POST", "/faults", {"kind": "stock-out", "zone": "us-central1-a", "machineType": "e2-medium"}
    )
    failed = [
        run("POST", f"{INSTANCES}/vm1/start"),
        run("POST", INSTANCES, spot_body("vm2")),
    ]
    for operation in failed:
        assert operation["error"]["errors"][0]["code"] == "ZONE_RESOURCE_POOL_EXHAUSTED"
        assert operation["httpErrorStatusCode"] == 503
    assert (status("vm1"), status("vm2")) == ("TERMINATED", "GONE")
    run("POST", INSTANCES, spot_body("vm3", machineType="zones/us-central1-a/machineTypes/e2-small"))
    assert status("vm3") == "RUNNING"
    cloud.control("DELETE", "/faults")
    run("POST", f"{INSTANCES}/vm1/start")
    assert status("vm1") == "RUNNING"


def test_a_start_while_stopping_is_not_ready(cloud: Any, run: Any, spot_body: Any, monkeypatch: Any) -> None:
    run("POST", INSTANCES, spot_body())
    may_stop = threading.Event()
    monkeypatch.setattr(cloud.context.vms, "stop", lambda name, timeout_s: may_stop.wait(10))
    stopping = cloud.compute("POST", f"{INSTANCES}/vm1/stop").json()
    refused = run("POST", f"{INSTANCES}/vm1/start")
    assert refused["error"]["errors"][0]["code"] == "RESOURCE_NOT_READY"
    may_stop.set()
    assert "error" not in cloud.compute("POST", f"{OPERATIONS}/{stopping['name']}/wait").json()


def test_a_vm_is_suspended_and_resumed(cloud: Any, run: Any, status: Any, spot_body: Any) -> None:
    run("POST", INSTANCES, spot_body())
    booted = cloud.vms.serial_output("vm1").count("booted")
    assert "error" not in run("POST", f"{INSTANCES}/vm1/suspend")
    assert status() == "SUSPENDED"
    assert cloud.vms.state("vm1") == "suspended"
    for verb in ("suspend", "reset"):
        refused = run("POST", f"{INSTANCES}/vm1/{verb}")
        assert refused["error"]["errors"][0]["code"] == "RESOURCE_NOT_READY"
    assert "error" not in run("POST", f"{INSTANCES}/vm1/resume")
    assert (status(), cloud.vms.state("vm1")) == ("RUNNING", "running")
    assert cloud.vms.serial_output("vm1").count("booted") == booted, "it goes on where it was"
    run("POST", f"{INSTANCES}/vm1/suspend")
    assert "error" not in run("DELETE", f"{INSTANCES}/vm1")
    assert status() == "GONE"


def test_a_resumption_overtaken_by_a_deletion_is_reported(
    cloud: Any, run: Any, status: Any, spot_body: Any, monkeypatch: Any
) -> None:
    run("POST", INSTANCES, spot_body())
    run("POST", f"{INSTANCES}/vm1/suspend")
    may_resume = threading.Event()
    monkeypatch.setattr(cloud.context.vms, "resume", lambda name: may_resume.wait(10))
    resumed = cloud.compute("POST", f"{INSTANCES}/vm1/resume").json()
    deleted = cloud.compute("DELETE", f"{INSTANCES}/vm1").json()
    may_resume.set()
    assert "error" not in cloud.compute("POST", f"{OPERATIONS}/{deleted['name']}/wait").json()
    first = cloud.compute("GET", f"{OPERATIONS}/{resumed['name']}").json()
    assert first["error"]["errors"][0]["code"] == "UNSUPPORTED_OPERATION"
    assert status() == "GONE"


def test_a_boot_overtaken_by_a_deletion_is_reported(
    cloud: Any, status: Any, spot_body: Any, monkeypatch: Any
) -> None:
    may_boot = threading.Event()
    monkeypatch.setattr(cloud.context.vms, "start", lambda spec: may_boot.wait(10))
    inserted = cloud.compute("POST", INSTANCES, spot_body()).json()
    deleted = cloud.compute("DELETE", f"{INSTANCES}/vm1").json()
    may_boot.set()
    assert "error" not in cloud.compute("POST", f"{OPERATIONS}/{deleted['name']}/wait").json()
    first = cloud.compute("GET", f"{OPERATIONS}/{inserted['name']}").json()
    assert first["error"]["errors"][0]["code"] == "UNSUPPORTED_OPERATION"
    assert status() == "GONE"


def test_a_guest_that_powers_itself_off_is_terminated(
    cloud: Any, run: Any, status: Any, spot_body: Any, wait_until: Any
) -> None:
    run("POST", INSTANCES, spot_body())
    cloud.vms.crash("vm1")
    wait_until(lambda: status() == "TERMINATED", "the watcher to see it")


def test_fingerprints_guard_metadata_and_labels(cloud: Any, run: Any, spot_body: Any) -> None:
    run("POST", INSTANCES, spot_body())
    before = cloud.compute("GET", f"{INSTANCES}/vm1").json()
    items = [{"key": "budget-config", "value": "{}"}]
    for fingerprint in ({}, {"fingerprint": "AAAA"}):
        stale = cloud.compute("POST", f"{INSTANCES}/vm1/setMetadata", {"items": items} | fingerprint)
        assert error_of(stale) == (412, "conditionNotMet")
    fresh = {"items": items, "fingerprint": before["metadata"]["fingerprint"]}
    run("POST", f"{INSTANCES}/vm1/setMetadata", fresh)
    again = cloud.compute("POST", f"{INSTANCES}/vm1/setMetadata", fresh)
    assert error_of(again) == (412, "conditionNotMet"), "the fingerprint has changed with the metadata"

    tags = {"items": ["web"], "fingerprint": before["tags"]["fingerprint"]}
    run("POST", f"{INSTANCES}/vm1/setTags", tags)
    assert error_of(cloud.compute("POST", f"{INSTANCES}/vm1/setTags", tags)) == (412, "conditionNotMet")
    large = fresh | {"items": [{"key": "a", "value": "x" * (2**18 + 1)}]}
    large["fingerprint"] = cloud.compute("GET", f"{INSTANCES}/vm1").json()["metadata"]["fingerprint"]
    assert error_of(cloud.compute("POST", f"{INSTANCES}/vm1/setMetadata", large)) == (400, "invalid")

    labels = {"labels": {"x": "y"}, "labelFingerprint": before["labelFingerprint"]}
    run("POST", f"{INSTANCES}/vm1/setLabels", labels)
    assert error_of(cloud.compute("POST", f"{INSTANCES}/vm1/setLabels", labels)) == (412, "conditionNotMet")
    after = cloud.compute("GET", f"{INSTANCES}/vm1").json()
    assert (after["labels"], after["metadata"]["items"]) == ({"x": "y"}, items)
    assert after["tags"]["items"] == ["web"]


def test_the_machine_type_changes_only_while_stopped(cloud: Any, run: Any, spot_body: Any) -> None:
    run("POST", INSTANCES, spot_body())
    body = {"machineType": "zones/us-central1-a/machineTypes/e2-small"}
    assert cloud.compute("POST", f"{INSTANCES}/vm1/setMachineType", body).status_code == 400
    run("POST", f"{INSTANCES}/vm1/stop")
    run("POST", f"{INSTANCES}/vm1/setMachineType", body)
    assert cloud.compute("GET", f"{INSTANCES}/vm1").json()["machineType"].endswith("/e2-small")


def test_a_disk_is_kept_where_somebody_says_so(cloud: Any, run: Any, spot_body: Any) -> None:
    run("POST", INSTANCES, spot_body())
    disk = cloud.compute("GET", f"{INSTANCES}/vm1").json()["disks"][0]
    assert disk["autoDelete"] is True
    keep = {"autoDelete": "false", "deviceName": disk["deviceName"]}
    for change in ({"autoDelete": "no"}, {"deviceName": "other"}):
        refused = cloud.compute("POST", f"{INSTANCES}/vm1/setDiskAutoDelete", **(keep | change))
        assert error_of(refused) == (400, "invalid")
    run("POST", f"{INSTANCES}/vm1/setDiskAutoDelete", **keep)
    run("DELETE", f"{INSTANCES}/vm1")
    assert not cloud.compute("GET", "zones/us-central1-a/disks/vm1").json().get("users")
    assert error_of(cloud.compute("POST", INSTANCES, spot_body())) == (409, "alreadyExists")


@pytest.mark.parametrize("status", ["RUNNING", "TERMINATED"])
def test_a_disk_grows_and_never_shrinks(cloud: Any, run: Any, spot_body: Any, status: str) -> None:
    run("POST", INSTANCES, spot_body())
    if status == "TERMINATED":
        run("POST", f"{INSTANCES}/vm1/stop")
    disk = "zones/us-central1-a/disks/vm1"

    def sizes() -> tuple[str, str]:
        shown = cloud.compute("GET", f"{INSTANCES}/vm1").json()["disks"][0]["diskSizeGb"]
        return cloud.compute("GET", disk).json()["sizeGb"], shown

    for size in ("20", "10", "65537"):
        refused = cloud.compute("POST", f"{disk}/resize", {"sizeGb": size})
        assert error_of(refused) == (400, "invalid")
        assert "'sizeGb'" in refused.json()["error"]["message"]
    assert sizes() == ("20", "20")
    run("POST", f"{disk}/resize", {"sizeGb": "30"})
    assert sizes() == ("30", "30")
    assert cloud.compute("GET", f"{INSTANCES}/vm1").json()["status"] == status
    assert error_of(cloud.compute("POST", f"{disk}x/resize", {"sizeGb": "30"})) == (404, "notFound")


def test_a_disk_without_auto_delete_stays_behind(cloud: Any, run: Any, spot_body: Any) -> None:
    disk = spot_body()["disks"][0] | {"autoDelete": False}
    run("POST", INSTANCES, spot_body(disks=[disk]))
    refused = cloud.compute("DELETE", "zones/us-central1-a/disks/vm1")
    assert error_of(refused) == (400, "resourceInUseByAnotherResource")
    assert refused.json()["error"]["message"].startswith("The disk resource 'projects/p1/zones/")
    run("DELETE", f"{INSTANCES}/vm1")
    [left] = cloud.control("GET", "/resources")["resources"]
    assert (left["kind"], left["name"]) == ("disk", "vm1")
    run("DELETE", "zones/us-central1-a/disks/vm1")
    assert cloud.control("GET", "/resources") == {"resources": []}


def test_lists_filter_and_page(cloud: Any, run: Any, spot_body: Any) -> None:
    for name in ("vm1", "vm2", "vm3"):
        run("POST", INSTANCES, spot_body(name, labels={"who": name, "all": "yes"}))

    def names(**query: Any) -> list[str]:
        return [item["name"] for item in cloud.compute("GET", INSTANCES, **query).json()["items"]]

    assert names(filter="labels.who=vm2") == ["vm2"]
    assert names(filter='(labels.all:yes) AND (name="vm3")') == ["vm3"]
    assert names(filter="labels.all=yes status=TERMINATED") == []
    assert cloud.compute("GET", INSTANCES, filter="name <> 3").status_code == 400
    first = cloud.compute("GET", INSTANCES, maxResults=2).json()
    assert [item["name"] for item in first["items"]] == ["vm1", "vm2"]
    assert names(maxResults=2, pageToken=first["nextPageToken"]) == ["vm3"]

    found = cloud.compute("GET", "aggregated/instances", filter="labels.who=vm1", returnPartialSuccess=True)
    scopes = found.json()["items"]
    assert [item["name"] for item in scopes["zones/us-central1-a"]["instances"]] == ["vm1"]
    assert scopes["zones/us-east1-b"]["warning"]["code"] == "NO_RESULTS_ON_PAGE"


def test_firewalls(cloud: Any, run: Any) -> None:
    body = {
        "name": "budget-https-abc",
        "description": '{"installation":"default"}',
        "allowed": [{"IPProtocol": "tcp", "ports": ["80", "443"]}],
        "targetTags": ["budget-abc"],
    }
    run("POST", "global/firewalls", body)
    made = cloud.compute("GET", "global/firewalls/budget-https-abc").json()
    assert (made["sourceRanges"], made["direction"]) == (["0.0.0.0/0"], "INGRESS")
    run("PATCH", "global/firewalls/budget-https-abc", {"allowed": [{"IPProtocol": "tcp", "ports": ["443"]}]})
    [found] = cloud.compute("GET", "global/firewalls").json()["items"]
    assert found["allowed"] == [{"IPProtocol": "tcp", "ports": ["443"]}]
    assert found["targetTags"] == ["budget-abc"], "a patch leaves the rest"
    both = body | {"name": "x", "denied": [{"IPProtocol": "udp"}]}
    assert cloud.compute("POST", "global/firewalls", both).status_code == 400
    run("DELETE", "global/firewalls/budget-https-abc")
    assert cloud.compute("GET", "global/firewalls").json()["items"] == []


def test_what_is_simply_there(cloud: Any) -> None:
    assert cloud.compute("GET", "").json()["id"].isdigit()
    assert cloud.compute("GET", "zones/us-central1-a").json()["status"] == "UP"
    assert len(cloud.compute("GET", "zones").json()["items"]) > 10
    assert cloud.compute("GET", "regions/us-central1").json()["zones"]
    medium = cloud.compute("GET", "zones/us-central1-a/machineTypes/e2-medium").json()
    assert (medium["guestCpus"], medium["memoryMb"]) == (2, 4096)
    assert cloud.compute("GET", "zones/us-central1-a/machineTypes").json()["items"]
    assert cloud.compute("GET", "global/images/family/cos-stable").json()["family"] == "cos-stable"


def test_wait_is_a_long_poll(cloud: Any, spot_body: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(cloud.context.vms, "start", lambda spec: time.sleep(0.4))
    operation = cloud.compute("POST", INSTANCES, spot_body()).json()
    before = time.monotonic()
    done = cloud.compute("POST", f"{OPERATIONS}/{operation['name']}/wait").json()
    assert done["status"] == "DONE"
    assert time.monotonic() - before > 0.3


def test_wait_gives_up_after_two_minutes(cloud: Any, spot_body: Any, monkeypatch: Any) -> None:
    from localcloud.services.compute import operations

    assert operations._LONGEST_WAIT == 120
    monkeypatch.setattr(operations, "_LONGEST_WAIT", 0.2)
    may_start = threading.Event()
    monkeypatch.setattr(cloud.context.vms, "start", lambda spec: may_start.wait(10))
    operation = cloud.compute("POST", INSTANCES, spot_body()).json()
    waited = cloud.compute("POST", f"{OPERATIONS}/{operation['name']}/wait")
    may_start.set()
    assert waited.elapsed.total_seconds() >= 0.2
    assert (waited.status_code, waited.json()["status"]) == (200, "RUNNING")


def test_the_serial_port_goes_on_where_it_was_left(cloud: Any, run: Any, spot_body: Any) -> None:
    run("POST", INSTANCES, spot_body())
    first = cloud.compute("GET", f"{INSTANCES}/vm1/serialPort").json()
    assert "booted" in first["contents"]
    run("POST", f"{INSTANCES}/vm1/reset")
    later = cloud.compute("GET", f"{INSTANCES}/vm1/serialPort", start=first["next"]).json()
    assert "off within 0 s" in later["contents"]
    assert later["contents"].startswith("vm1: off"), "what was read before does not come again"
    assert error_of(cloud.compute("GET", f"{INSTANCES}/vm1/serialPort", start="x")) == (400, "invalid")


def test_unfinished_operations_go_on_after_a_restart(
    cloud: Any, status: Any, spot_body: Any, wait_until: Any, monkeypatch: Any
) -> None:
    from dataclasses import replace

    cloud.stop()
    cloud.durations, fast = replace(cloud.durations, provisioning=60.0), cloud.durations
    cloud.start()
    operation = cloud.compute("POST", INSTANCES, spot_body()).json()
    wait_until(
        lambda: cloud.compute("GET", f"{OPERATIONS}/{operation['name']}").json()["status"] == "RUNNING",
        "the operation to run",
    )
    cloud.stop()
    cloud.durations = fast
    cloud.start()
    done = cloud.compute("POST", f"{OPERATIONS}/{operation['name']}/wait").json()
    assert (done["status"], "error" in done, status()) == ("DONE", False, "RUNNING")
    cloud.turn()
    assert status() == "RUNNING", "a restart forgets nothing"


def test_a_broken_backend_is_an_operation_error(
    cloud: Any, run: Any, status: Any, spot_body: Any, monkeypatch: Any
) -> None:
    from localcloud.vm import VmError

    def broken(spec: Any) -> None:
        raise VmError("no engine")

    monkeypatch.setattr(cloud.context.vms, "start", broken)
    failed = run("POST", INSTANCES, spot_body())
    assert "no engine" in failed["error"]["errors"][0]["message"]
    assert status() == "GONE"
    assert cloud.control("GET", "/resources") == {"resources": []}


def test_check_accepts_int64_as_number_or_text() -> None:
    for size in (20, "20"):
        check({"disks": [{"initializeParams": {"diskSizeGb": size}}]}, "Instance")
