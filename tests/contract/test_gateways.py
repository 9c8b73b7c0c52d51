"""The operator's gateways against the local cloud: the same code and clients that speak to Google."""

from __future__ import annotations

import io
import uuid
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.cloud.storage import Blob

from budget_operator.cloud.compute import ComputeGateway
from budget_operator.cloud.connection import Connection
from budget_operator.cloud.functions import FunctionsGateway
from budget_operator.cloud.inventory import Gateways, Inventories
from budget_operator.cloud.pubsub import PubSubGateway
from budget_operator.cloud.scheduler import SchedulerGateway
from budget_operator.cloud.storage import StorageGateway
from budget_operator.core import artifact, errors
from budget_operator.core.clocks import steady_clock, wall_clock
from budget_operator.core.gateways import FunctionRequest, InstanceRequest
from budget_operator.core.names import LABEL_INSTALLATION, Owner, Shared
from budget_operator.core.observed import GuestReport, InstanceStatus, OperationRef, PowerKind, Stored
from budget_operator.core.operations import operation_error
from dev import plain
from localcloud.services.storage.blobs import crc32c, md5

REGION, ZONE, OTHER_ZONE = "us-central1", "us-central1-a", "us-central1-b"
OWNER = Owner("default", "ml", "sentiment")
SHARED = Shared("default")
NAME = OWNER.cloud_name


def request_id() -> str:
    return str(uuid.uuid4())


@pytest.fixture
def connection(cloud: Any) -> Connection:
    return Connection("p1", cloud.url, "anonymous")


@pytest.fixture
def compute(connection: Connection) -> ComputeGateway:
    return ComputeGateway(connection)


@pytest.fixture
def gateways(connection: Connection, compute: ComputeGateway) -> Gateways:
    return Gateways(
        compute=compute,
        storage=StorageGateway(connection, "artifacts"),
        pubsub=PubSubGateway(connection),
        scheduler=SchedulerGateway(connection, REGION),
        functions=FunctionsGateway(connection, REGION),
    )


@pytest.fixture
def done(compute: ComputeGateway, wait_until: Callable[..., Any]) -> Callable[[OperationRef], Any]:
    """Polls an operation to its end; returns its error or None."""

    def finish(ref: OperationRef) -> errors.BudgetError | None:
        def ended() -> Any:
            state = compute.operation(ref)
            assert state is not None
            return state if state.done else None

        return operation_error(wait_until(ended, ref.name))

    return finish


def request(address: str = "", **changes: Any) -> InstanceRequest:
    fields: dict[str, Any] = {
        "name": NAME,
        "zone": ZONE,
        "machine_type": "e2-medium",
        "provisioning_model": "SPOT",
        "disk_gib": 20,
        "source_image": "projects/cos-cloud/global/images/family/cos-stable",
        "network": "global/networks/default",
        "network_tag": SHARED.network_tag,
        "address": address,
        "service_account": "",
        "labels": {**OWNER.labels, "budgetml-wanted": "running"},
        "metadata": {"enable-guest-attributes": "TRUE", "budget-owner": OWNER.document},
    }
    return InstanceRequest(**{**fields, **changes})


@pytest.fixture
def vm(compute: ComputeGateway, done: Callable[..., Any]) -> str:
    assert done(compute.insert_instance(request(), request_id())) is None
    return NAME


def test_a_vm_tells_when_it_ran_and_its_operations_tell_the_rest(
    compute: ComputeGateway, done: Callable[..., Any], vm: str
) -> None:
    found = compute.instance(ZONE, vm)
    assert found is not None
    assert found.created is not None and found.started_at is not None
    assert found.created <= found.started_at
    assert found.stopped_at is None
    assert done(compute.stop_instance(ZONE, vm, request_id())) is None
    off = compute.instance(ZONE, vm)
    assert off is not None
    assert off.stopped_at is not None and off.stopped_at >= found.started_at
    assert done(compute.start_instance(ZONE, vm, request_id())) is None
    assert done(compute.set_labels(ZONE, vm, {"a": "b"}, request_id())) is None
    assert done(compute.delete_instance(ZONE, vm, request_id())) is None
    told = compute.power_events(found.id)
    kinds = [each.kind for each in sorted(told.items, key=lambda each: each.at)]
    assert kinds == [PowerKind.ON, PowerKind.OFF, PowerKind.ON, PowerKind.GONE]
    assert told.unknown == frozenset()
    assert compute.power_events("1").items == ()


def test_an_instance_on_its_static_address(compute: ComputeGateway, done: Callable[..., Any]) -> None:
    assert compute.address(REGION, NAME) is None
    assert done(compute.reserve_address(REGION, NAME, OWNER.labels, request_id())) is None
    address = compute.address(REGION, NAME)
    assert address is not None
    assert (address.status, address.region, dict(address.labels)) == ("RESERVED", REGION, OWNER.labels)

    assert done(compute.insert_instance(request(address.address), request_id())) is None
    found = compute.instance(ZONE, NAME)
    assert found is not None
    assert found.external_ip == address.address
    assert (found.status, found.zone, found.machine_type) == (InstanceStatus.RUNNING, ZONE, "e2-medium")
    assert (found.provisioning_model, found.disk_gib) == ("SPOT", 20)
    assert found.metadata["budget-owner"] == OWNER.document
    assert OWNER.owns(found.labels)

    with pytest.raises(errors.ResourceNotReady):
        compute.release_address(REGION, NAME, request_id())
    assert done(compute.delete_instance(ZONE, NAME, request_id())) is None
    assert compute.instance(ZONE, NAME) is None
    assert done(compute.release_address(REGION, NAME, request_id())) is None
    assert compute.address(REGION, NAME) is None


def test_what_there_is_to_be_had(compute: ComputeGateway) -> None:
    assert compute.zone(ZONE)
    assert not compute.zone("us-central1-x")
    assert compute.machine_type(ZONE, "e2-medium")
    assert not compute.machine_type(ZONE, "e2-mediun")
    assert not compute.machine_type("us-central1-x", "e2-medium")


def test_the_zones_that_offer_a_machine_type(compute: ComputeGateway) -> None:
    found = compute.zones_with("e2-medium")
    assert found.unknown == frozenset()
    assert {ZONE, OTHER_ZONE, "europe-west1-b"} <= set(found.items)
    assert len(set(found.items)) == len(found.items)
    assert compute.zones_with("e2-mediun").items == ()


def test_the_same_request_twice_makes_one_instance(compute: ComputeGateway, done: Callable[..., Any]) -> None:
    same = request_id()
    first = compute.insert_instance(request(), same)
    assert compute.insert_instance(request(), same) == first
    assert done(first) is None
    with pytest.raises(errors.AlreadyExists):
        compute.insert_instance(request(), request_id())


def test_a_lost_answer_is_found_again(cloud: Any, compute: ComputeGateway, done: Callable[..., Any]) -> None:
    cloud.control("POST", "/faults", {"path": "/instances$", "method": "POST", "when": "after"})
    same = request_id()
    with pytest.raises(errors.Unavailable):
        compute.insert_instance(request(), same)
    assert done(compute.insert_instance(request(), same)) is None
    assert len(compute.instances(LABEL_INSTALLATION, SHARED.hash).items) == 1


def test_lists_see_only_our_installation(compute: ComputeGateway, vm: str, done: Callable[..., Any]) -> None:
    foreign = request(name="foreign", labels={LABEL_INSTALLATION: "another"})
    assert done(compute.insert_instance(foreign, request_id())) is None
    scan = compute.instances(LABEL_INSTALLATION, SHARED.hash)
    assert [item.name for item in scan.items] == [vm]
    assert scan.unknown == frozenset()


def test_where_the_notice_is_refused_vms_are_made_without(
    cloud: Any, compute: ComputeGateway, done: Callable[..., Any]
) -> None:
    cloud.control(
        "POST", "/faults", {"kind": "refused-field", "field": "scheduling.preemptionNoticeDuration"}
    )
    for name in (NAME, f"{NAME}-2"):
        assert done(compute.insert_instance(request(name=name), request_id())) is None
        scheduling = cloud.compute("GET", f"zones/{ZONE}/instances/{name}").json()["scheduling"]
        assert "preemptionNoticeDuration" not in scheduling
    entries = cloud.context.journal.entries()
    inserts = [each for each in entries if each.method == "POST" and "/instances?" in each.path]
    assert [each.status for each in inserts] == [400, 200, 200], "it is asked for once"


def test_stop_start_and_a_change_of_type(
    compute: ComputeGateway, vm: str, done: Callable[..., Any], wait_until: Callable[..., Any]
) -> None:
    stopping = compute.stop_instance(ZONE, vm, request_id())
    assert done(stopping) is None
    assert done(compute.set_machine_type(ZONE, vm, "e2-small", request_id())) is None
    assert done(compute.start_instance(ZONE, vm, request_id())) is None
    found = compute.instance(ZONE, vm)
    assert found is not None
    assert (found.status, found.machine_type) == (InstanceStatus.RUNNING, "e2-small")


def test_a_disk_bears_the_mark_of_its_vm(compute: ComputeGateway, vm: str, done: Callable[..., Any]) -> None:
    (disk,) = compute.disks(LABEL_INSTALLATION, SHARED.hash).items
    assert (disk.name, disk.zone, disk.gib, disk.kind, disk.users) == (vm, ZONE, 20, "pd-balanced", (vm,))
    assert disk.labels == OWNER.labels
    assert compute.disk(ZONE, vm) == disk
    with pytest.raises(errors.ResourceNotReady):
        compute.delete_disk(ZONE, vm, request_id())
    assert done(compute.delete_instance(ZONE, vm, request_id())) is None
    assert compute.disk(ZONE, vm) is None


def test_a_disk_grows_under_its_running_vm(
    compute: ComputeGateway, vm: str, done: Callable[..., Any]
) -> None:
    before = compute.instance(ZONE, vm)
    assert before is not None
    asked = request_id()
    first = compute.resize_disk(ZONE, before.disk, 30, asked)
    assert compute.resize_disk(ZONE, before.disk, 30, asked) == first, "a lost answer changes nothing"
    assert done(first) is None
    after = compute.instance(ZONE, vm)
    assert after is not None
    assert (after.id, after.status, after.disk, after.disk_gib) == (
        before.id,
        InstanceStatus.RUNNING,
        before.disk,
        30,
    )
    for size in (30, 20):
        with pytest.raises(errors.InvalidSpec, match="sizeGb"):
            compute.resize_disk(ZONE, before.disk, size, request_id())


def test_a_suspended_vm_is_resumed(
    cloud: Any, compute: ComputeGateway, vm: str, done: Callable[..., Any], wait_until: Callable[..., Any]
) -> None:
    def is_suspended() -> bool:
        found = compute.instance(ZONE, vm)
        return found is not None and found.status is InstanceStatus.SUSPENDED

    assert cloud.compute("POST", f"zones/{ZONE}/instances/{vm}/suspend").is_success
    wait_until(is_suspended, "the VM to be suspended")
    cloud.control("POST", "/faults", {"kind": "stock-out", "zone": ZONE})
    failed = done(compute.resume_instance(ZONE, vm, request_id()))
    assert isinstance(failed, errors.CapacityExhausted)
    wait_until(is_suspended, "the VM to be suspended still")
    cloud.control("DELETE", "/faults")
    assert done(compute.resume_instance(ZONE, vm, request_id())) is None
    found = compute.instance(ZONE, vm)
    assert found is not None
    assert found.status is InstanceStatus.RUNNING
    refused = done(compute.resume_instance(ZONE, vm, request_id()))
    assert isinstance(refused, errors.ResourceNotReady)


def test_an_address_moves_from_one_zone_to_another(compute: ComputeGateway, done: Callable[..., Any]) -> None:
    assert done(compute.reserve_address(REGION, NAME, OWNER.labels, request_id())) is None
    address = compute.address(REGION, NAME)
    assert address is not None
    assert done(compute.insert_instance(request(address.address), request_id())) is None
    assert done(compute.stop_instance(ZONE, NAME, request_id())) is None
    assert done(compute.set_labels(ZONE, NAME, {"budget-move": OTHER_ZONE}, request_id())) is None
    there = request(address.address, zone=OTHER_ZONE)
    with pytest.raises(errors.ResourceNotReady):
        compute.insert_instance(there, request_id())
    old = compute.instance(ZONE, NAME)
    assert old is not None
    assert done(compute.delete_access_config(ZONE, NAME, old.access_config, request_id())) is None
    old = compute.instance(ZONE, NAME)
    assert old is not None
    assert (old.is_cut_off, old.destination) == (True, OTHER_ZONE)
    assert done(compute.insert_instance(there, request_id())) is None
    with pytest.raises(errors.ResourceNotReady):
        compute.add_access_config(ZONE, NAME, address.address, request_id())
    assert done(compute.delete_instance(OTHER_ZONE, NAME, request_id())) is None
    assert done(compute.add_access_config(ZONE, NAME, address.address, request_id())) is None
    assert done(compute.set_labels(ZONE, NAME, {"budget-move": None}, request_id())) is None
    assert done(compute.start_instance(ZONE, NAME, request_id())) is None
    with pytest.raises(errors.AlreadyExists):
        compute.add_access_config(ZONE, NAME, address.address, request_id())
    (found,) = compute.instances(LABEL_INSTALLATION, SHARED.hash).items
    assert (found.external_ip, found.destination) == (address.address, "")


def test_a_stock_out(cloud: Any, compute: ComputeGateway, vm: str, done: Callable[..., Any]) -> None:
    done(compute.stop_instance(ZONE, vm, request_id()))
    cloud.control("POST", "/faults", {"kind": "stock-out", "zone": ZONE})
    failed = done(compute.start_instance(ZONE, vm, request_id()))
    assert isinstance(failed, errors.CapacityExhausted)


def test_a_preemption_is_found(
    cloud: Any, compute: ComputeGateway, vm: str, wait_until: Callable[..., Any]
) -> None:
    cloud.control("POST", f"/preempt/{vm}")

    def seen() -> Any:
        return compute.power_changes(datetime.now(UTC) - timedelta(hours=1)).items

    (preemption,) = wait_until(seen, "the preemption")
    assert (preemption.instance, preemption.zone) == (vm, ZONE)
    assert abs(datetime.now(UTC) - preemption.at) < timedelta(minutes=1)
    assert compute.power_changes(datetime.now(UTC) + timedelta(hours=1)).items == ()


def test_metadata_and_labels_are_merged(compute: ComputeGateway, vm: str, done: Callable[..., Any]) -> None:
    assert done(compute.set_metadata(ZONE, vm, {"budget-config": "{}"}, request_id())) is None
    assert done(compute.set_labels(ZONE, vm, {"budgetml-wanted": "stopped"}, request_id())) is None
    found = compute.instance(ZONE, vm)
    assert found is not None
    assert found.metadata == {
        "enable-guest-attributes": "TRUE",
        "budget-owner": OWNER.document,
        "budget-config": "{}",
    }
    assert found.labels == {**OWNER.labels, "budgetml-wanted": "stopped"}


def test_a_vm_that_has_said_nothing(compute: ComputeGateway, vm: str) -> None:
    assert compute.guest_report(ZONE, vm) == GuestReport()


def test_firewall(compute: ComputeGateway, done: Callable[..., Any]) -> None:
    made = compute.insert_firewall(
        SHARED.firewall, "global/networks/default", SHARED.network_tag, SHARED.mark, request_id()
    )
    assert done(made) is None
    found = compute.firewall(SHARED.firewall)
    assert found is not None
    assert found.network == "projects/p1/global/networks/default"
    assert found is not None
    assert (found.description, found.target_tags) == (SHARED.mark, (SHARED.network_tag,))
    assert found.allowed == ("tcp:443", "tcp:80")
    assert done(compute.delete_firewall(SHARED.firewall, request_id())) is None
    assert compute.firewall(SHARED.firewall) is None


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ({"code": 503}, errors.Unavailable),
        ({"code": 403, "reason": "rateLimitExceeded"}, errors.RateLimited),
        ({"code": 403, "reason": "quotaExceeded"}, errors.QuotaExceeded),
        ({"code": 403, "reason": "forbidden"}, errors.PermissionDenied),
        ({"code": 400, "reason": "resourceNotReady"}, errors.ResourceNotReady),
    ],
)
def test_faults_are_told_apart(
    cloud: Any, compute: ComputeGateway, fault: dict[str, Any], expected: type[errors.BudgetError]
) -> None:
    cloud.control("POST", "/faults", {"path": "/instances/", **fault})
    with pytest.raises(expected):
        compute.instance(ZONE, "any")
    assert compute.instance(ZONE, "any") is None


def test_mutations_of_what_is_not_there(compute: ComputeGateway) -> None:
    with pytest.raises(errors.NotFound):
        compute.start_instance(ZONE, "any", request_id())
    with pytest.raises(errors.NotFound):
        compute.delete_firewall("any", request_id())


def test_a_machine_type_that_is_none(compute: ComputeGateway, done: Callable[..., Any]) -> None:
    with pytest.raises(errors.BudgetError, match="e9-huge"):
        compute.insert_instance(request(machine_type="e9-huge"), request_id())
    assert compute.instance(ZONE, NAME) is None


def test_bucket(gateways: Gateways) -> None:
    storage = gateways.storage
    assert storage.bucket() is None
    assert storage.contents("") == ()
    storage.create_bucket(REGION, SHARED.labels)
    found = storage.bucket()
    assert found is not None
    assert (found.labels, found.region) == (SHARED.labels, REGION)
    with pytest.raises(errors.AlreadyExists):
        storage.create_bucket(REGION, SHARED.labels)
    storage.upload("code/a/bundle.zip", b"\x00" * 1000, "application/zip")
    storage.upload("code/a/bundle.zip", b"\x01", "application/zip")
    storage.upload("function/1.zip", b"x", "application/zip")
    bundle = artifact.Blob("code/a/bundle.zip", b"\x01", "")
    assert storage.objects("code/") == {bundle.name: bundle.content}
    storage.delete_object("function/1.zip")
    storage.delete_object("function/1.zip")
    assert set(storage.objects("")) == {bundle.name}
    (one,) = storage.contents("code/")
    assert (one.name, one.size) == ("code/a/bundle.zip", 1)
    assert abs(datetime.now(UTC) - one.created) < timedelta(minutes=1)
    storage.upload("code/a/bundle.zip", b"\x01", "application/zip")
    assert storage.contents("")[0].generation > one.generation
    assert storage.contents("none/") == ()
    storage.delete_bucket()
    assert storage.bucket() is None


def test_an_object_that_has_one_owner(gateways: Gateways) -> None:
    storage = gateways.storage
    assert storage.read("owner") is None, "there is no bucket"
    storage.create_bucket(REGION, SHARED.labels)
    assert storage.read("owner") is None
    first = storage.write("owner", b"a", "application/json", 0)
    assert storage.read("owner") == Stored(b"a", first)
    with pytest.raises(errors.PreconditionFailed):
        storage.write("owner", b"b", "application/json", 0)
    second = storage.write("owner", b"b", "application/json", first)
    with pytest.raises(errors.PreconditionFailed):
        storage.write("owner", b"c", "application/json", first)
    assert storage.read("owner") == Stored(b"b", second)
    storage.delete_bucket()


def test_topic(gateways: Gateways) -> None:
    gateways.pubsub.create_topic(SHARED.keep_alive, SHARED.labels)
    found = gateways.pubsub.topic(SHARED.keep_alive)
    assert found is not None
    assert found.labels == SHARED.labels
    with pytest.raises(errors.AlreadyExists):
        gateways.pubsub.create_topic(SHARED.keep_alive, SHARED.labels)
    gateways.pubsub.delete_topic(SHARED.keep_alive)
    assert gateways.pubsub.topic(SHARED.keep_alive) is None


def test_job(gateways: Gateways) -> None:
    gateways.pubsub.create_topic(SHARED.keep_alive, SHARED.labels)
    job = ("0 0 1 1 *", "Etc/UTC", SHARED.keep_alive, b'{"schedule":"h"}', SHARED.mark)
    gateways.scheduler.create_job(SHARED.keep_alive, *job)
    found = gateways.scheduler.job(SHARED.keep_alive)
    assert found is not None
    assert (found.state, found.topic, found.description) == ("ENABLED", SHARED.keep_alive, SHARED.mark)
    with pytest.raises(errors.AlreadyExists):
        gateways.scheduler.create_job(SHARED.keep_alive, *job)
    gateways.scheduler.update_job(SHARED.keep_alive, "0 0 2 1 *", *job[1:])
    changed = gateways.scheduler.job(SHARED.keep_alive)
    assert changed is not None
    assert (changed.schedule, changed.time_zone) == ("0 0 2 1 *", "Etc/UTC")
    gateways.scheduler.delete_job(SHARED.keep_alive)
    assert gateways.scheduler.job(SHARED.keep_alive) is None


@pytest.mark.parametrize(
    ("fault", "kind", "remedy"),
    [
        (
            {"kind": "scheduler-bound", "location": "europe-west1"},
            errors.InvalidSpec,
            "set BUDGET_SCHEDULER_LOCATION=europe-west1",
        ),
        (
            {"kind": "no-scheduler", "location": REGION},
            errors.PermissionDenied,
            f"{REGION} has no Cloud Scheduler: set BUDGET_SCHEDULER_LOCATION",
        ),
    ],
)
def test_where_there_can_be_no_job_the_setting_is_named(
    cloud: Any, gateways: Gateways, fault: dict[str, str], kind: type[errors.BudgetError], remedy: str
) -> None:
    job = ("0 0 1 1 *", "Etc/UTC", SHARED.keep_alive, b"{}", SHARED.mark)
    asks: tuple[Callable[[], object], ...] = (
        lambda: gateways.scheduler.job(SHARED.keep_alive),
        lambda: gateways.scheduler.create_job(SHARED.keep_alive, *job),
        lambda: gateways.scheduler.delete_job(SHARED.keep_alive),
    )
    with cloud.fault(**fault):
        for ask in asks:
            with pytest.raises(kind) as caught:
                ask()
            assert remedy in caught.value.sentence


def test_a_schedule_that_is_none(gateways: Gateways) -> None:
    with pytest.raises(errors.InvalidSpec):
        gateways.scheduler.create_job(SHARED.keep_alive, "never", "Etc/UTC", "topic", b"{}", SHARED.mark)


def empty_zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("readme.txt", "no function here")
    return buffer.getvalue()


def test_a_function_that_does_not_build(gateways: Gateways, wait_until: Callable[..., Any]) -> None:
    gateways.storage.create_bucket(REGION, SHARED.labels)
    gateways.storage.upload("function/1.zip", empty_zip(), "application/zip")
    gateways.pubsub.create_topic(SHARED.keep_alive, SHARED.labels)
    request = FunctionRequest(
        name=SHARED.keep_alive,
        region=REGION,
        runtime="python311",
        bucket="artifacts",
        source_object="function/1.zip",
        topic=SHARED.keep_alive,
        environment={"BUDGET_PROJECT": "p1"},
        labels=SHARED.labels,
    )
    functions = gateways.functions
    functions.create_function(request)

    def failed() -> Any:
        found = functions.function(SHARED.keep_alive)
        return found if found is not None and found.state == "FAILED" else None

    found = wait_until(failed, "the build to fail")
    assert "main.py" in found.message
    assert (found.source_object, found.topic) == ("function/1.zip", SHARED.keep_alive)
    assert (found.environment, found.labels) == ({"BUDGET_PROJECT": "p1"}, SHARED.labels)
    with pytest.raises(errors.AlreadyExists):
        functions.create_function(request)
    functions.delete_function(SHARED.keep_alive)
    wait_until(lambda: functions.function(SHARED.keep_alive) is None, "the function to go")


def test_the_inventory_takes_a_fixed_number_of_calls(
    cloud: Any, gateways: Gateways, compute: ComputeGateway, vm: str
) -> None:
    gateways.storage.create_bucket(REGION, SHARED.labels)
    gateways.storage.write("owner", b"{}", "application/json", 0)
    inventories = Inventories(gateways, "default", steady_clock, wall_clock)
    inventories.snapshot()  # a new VM is looked at twice
    inventories.forget()
    before = len(cloud.control("GET", "/journal")["entries"])
    first = inventories.snapshot()
    assert inventories.snapshot() is first
    calls = len(cloud.control("GET", "/journal")["entries"]) - before
    assert calls == 9
    assert [item.name for item in first.instances] == [vm]
    assert first.bucket is not None
    assert (first.topic, first.function, first.job, first.firewall) == (None, None, None, None)


def test_an_inventory_with_a_hole_says_so(cloud: Any, gateways: Gateways) -> None:
    cloud.control("POST", "/faults", {"path": "/topics/", "code": 503})
    inventories = Inventories(gateways, "default", steady_clock, wall_clock)
    taken = inventories.snapshot()
    assert taken.unknown == {"topic"}
    assert isinstance(taken.problems["topic"], errors.Unavailable)
    inventories.forget()
    assert inventories.snapshot().unknown == frozenset()


def test_without_instances_there_is_no_inventory(cloud: Any, gateways: Gateways) -> None:
    cloud.control("POST", "/faults", {"path": "/aggregated/instances", "code": 503})
    inventories = Inventories(gateways, "default", steady_clock, wall_clock)
    with pytest.raises(errors.Unavailable):
        inventories.snapshot()


def test_a_list_tells_objects_that_were_written_over(gateways: Gateways, cloud: Any) -> None:
    storage = gateways.storage
    storage.create_bucket(REGION, SHARED.labels)
    ours = [artifact.Blob(f"code/{number:04}", str(number).encode(), "text/plain") for number in range(3)]
    for blob in ours:
        storage.upload(blob.name, blob.data, blob.content_type)
    assert storage.objects("code/") == {blob.name: blob.content for blob in ours}
    upload = f"{cloud.url}/upload/storage/v1/b/artifacts/o"
    query = {"uploadType": "media", "name": ours[1].name}
    plain.post(upload, params=query, content=b"x").raise_for_status()
    held = storage.objects("code/")
    assert [artifact.lies_in(held, blob) for blob in ours] == [True, False, True]
    storage.upload(ours[1].name, ours[1].data, ours[1].content_type)
    assert all(artifact.lies_in(storage.objects("code/"), blob) for blob in ours)
    storage.delete_bucket()


@pytest.fixture
def models(cloud: Any) -> Callable[[str, bytes], None]:
    """Puts an object into a bucket of a user's."""
    made = plain.post(f"{cloud.url}/storage/v1/b", params={"project": "p2"}, json={"name": "models"})
    made.raise_for_status()

    def put(name: str, content: bytes) -> None:
        query = {"uploadType": "media", "name": name}
        plain.post(
            f"{cloud.url}/upload/storage/v1/b/models/o", params=query, content=content
        ).raise_for_status()

    return put


def test_what_lies_in_another_bucket_is_listed(
    gateways: Gateways, models: Callable[[str, bytes], None]
) -> None:
    storage = gateways.storage
    for name in ("iris/b", "iris/a/c d", "iris.zip", "other/a"):
        models(name, name.encode())
    first, second = storage.listed("spec.f", "models", "iris/", 10)
    assert (first.name, first.size, second.name) == ("iris/a/c d", 10, "iris/b")
    assert first.generation > 0
    assert (first.crc32c, first.md5) == (crc32c(b"iris/a/c d"), md5(b"iris/a/c d"))
    assert [each.name for each in storage.listed("spec.f", "models", "", 2)] == ["iris.zip", "iris/a/c d"]
    with pytest.raises(errors.NotFound, match=r"^spec\.f: list gs://absent/"):
        storage.listed("spec.f", "absent", "", 2)


def test_an_object_is_copied_as_it_was_seen(gateways: Gateways, models: Callable[[str, bytes], None]) -> None:
    storage = gateways.storage
    storage.create_bucket(REGION, SHARED.labels)
    models("iris/a b", b"first")
    (seen,) = storage.listed("spec.f", "models", "iris/", 10)
    storage.copy("spec.f", "models", seen, "code/x/files/1")
    held = storage.read("code/x/files/1")
    assert held is not None
    assert held.data == b"first"
    models("iris/a b", b"second")
    with pytest.raises(errors.NotFound, match=r"^spec\.f: copy gs://models/iris/a b to bucket artifacts"):
        storage.copy("spec.f", "models", seen, "code/x/files/2")
    assert storage.objects("code/") == {"code/x/files/1": artifact.Copy("", "models", seen).content}
    storage.delete_bucket()


def test_a_copy_that_takes_several_requests_goes_on(
    gateways: Gateways, models: Callable[[str, bytes], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = gateways.storage
    storage.create_bucket(REGION, SHARED.labels)
    models("a", b"x")
    (seen,) = storage.listed("spec.f", "models", "a", 1)
    tokens = []
    rewrite = Blob.rewrite

    def in_parts(self: Blob, source: Blob, token: str | None = None, **more: Any) -> Any:
        tokens.append(token)
        return ("t", 1, 2) if len(tokens) < 3 else rewrite(self, source, **more)

    monkeypatch.setattr(Blob, "rewrite", in_parts)
    storage.copy("spec.f", "models", seen, "code/x/files/1")
    assert tokens == [None, "t", "t"]
    assert set(storage.objects("code/")) == {"code/x/files/1"}
    storage.delete_bucket()
