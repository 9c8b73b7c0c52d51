"""Requests of the compute gateway, as they leave the real client."""

import re
import threading
from datetime import UTC, datetime
from typing import Any

import pytest

from budget_operator.cloud.compute import ComputeGateway
from budget_operator.core import errors
from budget_operator.core.gateways import InstanceRequest
from budget_operator.core.observed import (
    DOWN,
    PREEMPTED,
    UP,
    Firewall,
    GuestReport,
    InstanceStatus,
    OperationRef,
    OperationState,
    PowerKind,
)

P = "/compute/v1/projects/p1"
VM = f"{P}/zones/z1-a/instances/vm"
ID = "11111111-2222-3333-4444-555555555555"
OPERATION = (200, {"name": "operation-1", "status": "RUNNING"})


def instance(**more: Any) -> dict[str, Any]:
    return {
        "name": "vm",
        "id": "42",
        "zone": "https://www.googleapis.com/compute/v1/projects/p1/zones/z1-a",
        "machineType": "zones/z1-a/machineTypes/e2-medium",
        "status": "RUNNING",
        "labels": {"a": "1"},
        "labelFingerprint": "bGFiZWw=",
        "metadata": {"fingerprint": "bWV0YQ==", "items": [{"key": "k", "value": "v"}]},
        "scheduling": {"provisioningModel": "SPOT"},
        "disks": [
            {"boot": False, "diskSizeGb": "7", "source": f"{P}/zones/z1-a/disks/other"},
            {"boot": True, "diskSizeGb": "20", "source": f"{P}/zones/z1-a/disks/vm-disk"},
        ],
        "networkInterfaces": [{"accessConfigs": [{"name": "NAT", "natIP": "10.0.0.9"}]}],
        **more,
    }


def request(**changes: Any) -> InstanceRequest:
    fields: dict[str, Any] = {
        "name": "vm",
        "zone": "z1-a",
        "machine_type": "e2-medium",
        "provisioning_model": "SPOT",
        "disk_gib": 20,
        "source_image": "projects/cos-cloud/global/images/family/cos-stable",
        "network": "global/networks/default",
        "network_tag": "budget-x",
        "address": "10.0.0.9",
        "service_account": "vm@p1.iam.gserviceaccount.com",
        "labels": {"a": "1"},
        "metadata": {"k": "v"},
    }
    return InstanceRequest(**{**fields, **changes})


@pytest.fixture
def compute(google: Any) -> ComputeGateway:
    return ComputeGateway(google.connection)


def test_instance(google: Any, compute: ComputeGateway) -> None:
    google.answer(f"GET {VM}", (200, instance()))
    found = compute.instance("z1-a", "vm")
    assert found is not None
    assert (found.zone, found.machine_type, found.external_ip) == ("z1-a", "e2-medium", "10.0.0.9")
    assert (found.status, found.provisioning_model) == (InstanceStatus.RUNNING, "SPOT")
    assert (found.disk, found.disk_gib) == ("vm-disk", 20)
    assert (found.access_config, found.is_cut_off, found.destination) == ("NAT", False, "")
    assert (dict(found.metadata), found.metadata_fingerprint) == ({"k": "v"}, "bWV0YQ==")


def test_an_instance_tells_its_times(google: Any, compute: ComputeGateway) -> None:
    times = {
        "creationTimestamp": "2026-11-24T04:00:00.000-08:00",
        "lastStartTimestamp": "2026-11-24T12:00:10.500Z",
        "lastStopTimestamp": "nonsense",
    }
    google.answer(f"GET {VM}", (200, instance(**times)))
    found = compute.instance("z1-a", "vm")
    assert found is not None
    assert found.created == datetime(2026, 11, 24, 12, tzinfo=UTC)
    assert found.started_at == datetime(2026, 11, 24, 12, 0, 10, 500_000, tzinfo=UTC)
    assert found.stopped_at is None


def test_operations_tell_when_a_vm_went_on_and_off(google: Any, compute: ComputeGateway) -> None:
    def operation(kind: str, minute: int, **more: Any) -> dict[str, Any]:
        end = f"2026-11-24T12:{minute:02}:00Z"
        return {"operationType": kind, "status": "DONE", "endTime": end, **more}

    failed = {"errors": [{"code": "ZONE_RESOURCE_POOL_EXHAUSTED"}]}
    found = [
        operation("insert", 1),
        operation("setLabels", 2),
        operation("compute.instances.preempted", 3),
        operation("start", 4, error=failed),
        operation("start", 5),
        operation("stop", 6, status="RUNNING"),
        operation("delete", 7),
        {"operationType": "stop", "status": "DONE"},
    ]
    google.answer(f"GET {P}/aggregated/operations", (200, {"items": {"zones/z1-a": {"operations": found}}}))
    told = compute.power_events("42")
    assert [(each.at.minute, each.kind) for each in told.items] == [
        (1, PowerKind.ON),
        (3, PowerKind.TAKEN),
        (5, PowerKind.ON),
        (7, PowerKind.GONE),
    ]
    assert google.requests[-1].query["filter"] == "targetId=42"


def test_a_state_we_do_not_know_is_one_nobody_acts_on(google: Any, compute: ComputeGateway) -> None:
    google.answer(f"GET {VM}", (200, instance(status="TELEPORTING")))
    found = compute.instance("z1-a", "vm")
    assert found is not None
    assert found.status is InstanceStatus.REPAIRING


def test_look_ups_of_nothing_are_none(compute: ComputeGateway) -> None:
    assert compute.instance("z1-a", "vm") is None
    assert compute.address("r1", "ip") is None
    assert compute.firewall("fw") is None
    assert compute.operation(OperationRef("o", "zones/z1-a")) is None
    assert compute.guest_report("z1-a", "vm") == GuestReport()


def test_zones_and_machine_types(google: Any, compute: ComputeGateway, google_error: Any) -> None:
    google.answer(f"GET {P}/zones/z1-a", (200, {"name": "z1-a"}))
    google.answer(f"GET {P}/zones/z1-a/machineTypes/e2-medium", (200, {"name": "e2-medium"}))
    unknown = google_error(400, "invalid", "Invalid value for field 'zone': 'z1-x'. Unknown zone.")
    google.answer(f"GET {P}/zones/z1-x/machineTypes/e2-medium", unknown)
    google.answer(f"GET {P}/zones/z1-z", google_error(503, "backendError", "later"))
    assert (compute.zone("z1-a"), compute.zone("z1-x")) == (True, False)
    assert compute.machine_type("z1-a", "e2-medium")
    assert not compute.machine_type("z1-a", "e2-mediun")
    assert not compute.machine_type("z1-x", "e2-medium")
    with pytest.raises(errors.Unavailable):
        compute.zone("z1-z")


def test_a_look_up_that_failed_is_not_none(google: Any, compute: ComputeGateway, google_error: Any) -> None:
    google.answer(f"GET {VM}", google_error(503, "backendError", "try later"))
    with pytest.raises(errors.Unavailable):
        compute.instance("z1-a", "vm")
    assert len(google.requests) == 1, "the queue backs off, not the client"


def test_lists_tell_which_scopes_were_silent(google: Any, compute: ComputeGateway) -> None:
    pages = [
        {
            "nextPageToken": "2",
            "items": {
                "zones/z1-a": {"instances": [instance()]},
                "zones/z1-b": {"warning": {"code": "NO_RESULTS_ON_PAGE"}},
                "zones/z1-c": {"warning": {"code": "UNREACHABLE"}},
            },
        },
        {
            "items": {"zones/z2-a": {"instances": [instance(name="other", id="43")]}},
            "unreachables": ["https://www.googleapis.com/compute/v1/projects/p1/zones/z3-a"],
            "warning": {"code": "PARTIAL_SUCCESS"},
        },
    ]
    both = {"items": {"zones/z1-a": {"instances": [instance(), instance(name="other", id="43")]}}}
    google.answer(f"GET {P}/aggregated/instances", *[(200, page) for page in (*pages, both)])
    scan = compute.instances("budgetml-installation", "h1")
    assert [item.name for item in scan.items] == ["vm", "other"]
    assert scan.unknown == {"zones/z1-c", "zones/z3-a"}
    assert google.requests[0].query["filter"] == "labels.budgetml-installation=h1"


def all_in(zone: str, *found: dict[str, Any]) -> tuple[int, Any]:
    return 200, {"items": {f"zones/{zone}": {"instances": list(found)}}}


def test_metadata_are_read_again_only_when_they_have_changed(google: Any, compute: ComputeGateway) -> None:
    def listed(fingerprint: str, **more: Any) -> dict[str, Any]:
        return instance(metadata={"fingerprint": fingerprint}, **more)

    def whole(fingerprint: str, value: str) -> dict[str, Any]:
        return instance(metadata={"fingerprint": fingerprint, "items": [{"key": "k", "value": value}]})

    google.answer(
        f"GET {P}/aggregated/instances",
        all_in("z1-a", listed("one")),
        all_in("z1-a", whole("one", "1")),
        all_in("z1-a", listed("one", status="STOPPING")),
        all_in("z1-a", listed("two")),
        all_in("z1-a", whole("two", "2"), instance(id="99", name="vm")),
    )
    seen = [compute.instances("a", "b").items for _ in range(3)]
    assert [(vm.status, dict(vm.metadata)) for (vm,) in seen] == [
        ("RUNNING", {"k": "1"}),
        ("STOPPING", {"k": "1"}),
        ("RUNNING", {"k": "2"}),
    ]
    filters = [request.query["filter"] for request in google.requests]
    assert filters == ["labels.a=b", 'name eq "(vm)"', "labels.a=b", "labels.a=b", 'name eq "(vm)"']
    asked = [request.query["fields"] for request in google.requests]
    assert ["metadata(fingerprint,items)" in fields for fields in asked] == [False, True, False, False, True]
    assert all(request.query["maxResults"] == "500" for request in google.requests)


def test_an_instance_that_is_lost_between_two_looks_is_unknown(google: Any, compute: ComputeGateway) -> None:
    google.answer(
        f"GET {P}/aggregated/instances",
        all_in("z1-a", instance(metadata={"fingerprint": "one"})),
        all_in("z1-a"),
        all_in("z1-a", instance(metadata={"fingerprint": "one"})),
        all_in("z1-a", instance()),
    )
    scan = compute.instances("a", "b")
    assert (list(scan.items), set(scan.unknown)) == ([], {"zones/z1-a"})
    scan = compute.instances("a", "b")
    assert [dict(vm.metadata) for vm in scan.items] == [{"k": "v"}]


def test_many_new_instances_are_looked_at_together(google: Any, compute: ComputeGateway) -> None:
    found = [instance(name=f"vm{number}", id=str(number)) for number in range(120)]
    light = [each | {"metadata": {"fingerprint": "bWV0YQ=="}} for each in found]
    google.answer(
        f"GET {P}/aggregated/instances",
        all_in("z1-a", *light),
        *[all_in("z1-a", *found[start : start + 50]) for start in (0, 50, 100)],
    )
    scan = compute.instances("a", "b")
    assert len(scan.items) == 120
    scripts = {id(vm.metadata["k"]) for vm in scan.items}
    assert len(scripts) == 1, "what all have is held once"
    assert len(google.requests) == 4


def test_a_list_incomplete_nobody_knows_where_is_no_list(google: Any, compute: ComputeGateway) -> None:
    google.answer(f"GET {P}/aggregated/addresses", (200, {"items": {}, "warning": {"code": "UNREACHABLE"}}))
    with pytest.raises(errors.Unavailable):
        compute.addresses("a", "b")


def test_what_stopped_vms_and_started_them(google: Any, compute: ComputeGateway) -> None:
    def change(name: str, at: str, kind: str = PREEMPTED, **more: Any) -> dict[str, Any]:
        link = f"https://www.googleapis.com{P}/zones/z1-a/instances/{name}"
        return {"name": name, "targetLink": link, "insertTime": at, "operationType": kind, **more}

    failed = {"errors": [{"code": "ZONE_RESOURCE_POOL_EXHAUSTED"}]}
    operations = [
        change("new", "2026-11-24T01:00:00.000-08:00"),
        change("old", "2026-11-24T00:59:00.000-08:00"),
        change("odd", "yesterday"),
        change("up", "2026-11-24T09:01:00Z", "start", endTime="2026-11-24T09:02:00Z"),
        change("failed", "2026-11-24T09:01:00Z", "start", endTime="2026-11-24T09:02:00Z", error=failed),
    ]
    google.answer(
        f"GET {P}/aggregated/operations", (200, {"items": {"zones/z1-a": {"operations": operations}}})
    )
    scan = compute.power_changes(datetime(2026, 11, 24, 9, tzinfo=UTC))
    new, up = scan.items
    assert (new.instance, new.zone, new.at.hour, new.kind, new.ended) == ("new", "z1-a", 9, PREEMPTED, None)
    assert (up.instance, up.kind, up.ended) == ("up", "start", datetime(2026, 11, 24, 9, 2, tzinfo=UTC))
    pattern = google.requests[0].query["filter"].removeprefix('operationType eq "').removesuffix('"')
    for kind in (*DOWN, *UP):
        assert re.fullmatch(pattern, kind)
    assert not re.fullmatch(pattern, "setMetadata")


@pytest.mark.parametrize("scope", ["zones/z1-a", "regions/r1", "global"])
def test_operations_are_polled_where_they_were_started(
    google: Any, compute: ComputeGateway, scope: str
) -> None:
    failed = {"errors": [{"code": "QUOTA_EXCEEDED", "message": "CPUS"}, {"code": "OTHER"}]}
    google.answer(
        f"GET {P}/{scope}/operations/o",
        (200, {"name": "o", "status": "RUNNING"}),
        (200, {"name": "o", "status": "DONE", "error": failed}),
        (200, {"name": "o", "status": "DONE"}),
    )
    ref = OperationRef("o", scope)
    assert compute.operation(ref) == OperationState(ref, False)
    assert compute.operation(ref) == OperationState(ref, True, "QUOTA_EXCEEDED", "CPUS")
    assert compute.operation(ref) == OperationState(ref, True)


def test_guest_report(google: Any, compute: ComputeGateway) -> None:
    items = [
        {"namespace": "budgetml", "key": "state", "value": '{"phase":"serving"}'},
        {"namespace": "elsewhere", "key": "state", "value": '{"phase":"failed"}'},
    ]
    google.answer(f"GET {VM}/getGuestAttributes", (200, {"queryValue": {"items": items}}))
    assert compute.guest_report("z1-a", "vm") == GuestReport(phase="serving")
    assert google.requests[0].query["queryPath"] == "budgetml/"


def test_insert_a_spot_instance(google: Any, compute: ComputeGateway) -> None:
    google.answer(f"POST {P}/zones/z1-a/instances", OPERATION)
    assert compute.insert_instance(request(), ID) == OperationRef("operation-1", "zones/z1-a")
    sent = google.requests[0]
    assert sent.query["requestId"] == ID
    assert sent.body["scheduling"] == {
        "provisioningModel": "SPOT",
        "instanceTerminationAction": "STOP",
        "automaticRestart": False,
        "onHostMaintenance": "TERMINATE",
        "preemptionNoticeDuration": {"seconds": "120"},
    }
    (disk,) = sent.body["disks"]
    assert disk["autoDelete"] is True
    assert disk["boot"] is True
    assert disk["initializeParams"]["diskSizeGb"] == "20"
    (access,) = sent.body["networkInterfaces"][0]["accessConfigs"]
    assert (access["type"], access["natIP"]) == ("ONE_TO_ONE_NAT", "10.0.0.9")
    assert sent.body["metadata"]["items"] == [{"key": "k", "value": "v"}]
    assert sent.body["tags"] == {"items": ["budget-x"]}
    assert sent.body["serviceAccounts"][0]["email"] == "vm@p1.iam.gserviceaccount.com"


def test_insert_a_standard_instance_without_an_account(google: Any, compute: ComputeGateway) -> None:
    google.answer(f"POST {P}/zones/z1-a/instances", OPERATION)
    compute.insert_instance(request(provisioning_model="STANDARD", service_account=""), ID)
    body = google.requests[0].body
    assert body["scheduling"] == {
        "provisioningModel": "STANDARD",
        "automaticRestart": True,
        "onHostMaintenance": "MIGRATE",
    }
    assert "serviceAccounts" not in body


@pytest.mark.parametrize(
    "refusal",
    [
        (400, "invalid", "Invalid value for field 'scheduling.preemptionNoticeDuration'"),
        (403, "forbidden", "Setting preemption_notice_duration is not allowed for project p1"),
        (400, "unsupportedOperation", "Preemption notice is not supported"),
    ],
)
def test_a_project_that_refuses_the_notice_gets_vms_without(
    google: Any, compute: ComputeGateway, google_error: Any, refusal: tuple[int, str, str]
) -> None:
    google.answer(f"POST {P}/zones/z1-a/instances", google_error(*refusal), OPERATION)
    compute.insert_instance(request(), ID)
    first, second = google.requests
    assert first.body["scheduling"].pop("preemptionNoticeDuration") == {"seconds": "120"}
    assert second.body == first.body
    assert second.query["requestId"] != first.query["requestId"]
    # it is not asked again, and a repeated pass repeats the request
    compute.insert_instance(request(), ID)
    assert google.requests[2].body == second.body
    assert google.requests[2].query == second.query


def test_a_notice_that_is_refused_later_is_left_out_next_time(google: Any, compute: ComputeGateway) -> None:
    refused = {"code": "INVALID_FIELD_VALUE", "message": "preemptionNoticeDuration may not be set"}
    operation = {"name": "operation-1", "status": "DONE", "error": {"errors": [refused]}}
    google.answer(f"GET {P}/zones/z1-a/operations/operation-1", (200, operation))
    google.answer(f"POST {P}/zones/z1-a/instances", OPERATION)
    state = compute.operation(OperationRef("operation-1", "zones/z1-a"))
    assert state is not None
    assert state.error_code == "INVALID_FIELD_VALUE"
    compute.insert_instance(request(), ID)
    assert "preemptionNoticeDuration" not in google.requests[-1].body["scheduling"]


def test_another_invalid_value_is_not_tried_again(
    google: Any, compute: ComputeGateway, google_error: Any
) -> None:
    google.answer(f"POST {P}/zones/z1-a/instances", google_error(400, "invalid", "machineType e9"))
    with pytest.raises(errors.InvalidSpec, match="machineType e9"):
        compute.insert_instance(request(), ID)
    assert len(google.requests) == 1


@pytest.mark.parametrize("verb", ["start", "stop", "resume"])
def test_start_stop_and_resume(google: Any, compute: ComputeGateway, verb: str) -> None:
    google.answer(f"POST {VM}/{verb}", OPERATION)
    assert getattr(compute, f"{verb}_instance")("z1-a", "vm", ID).name == "operation-1"
    assert google.requests[0].query["requestId"] == ID


def test_resize_disk(google: Any, compute: ComputeGateway) -> None:
    google.answer(f"POST {P}/zones/z1-a/disks/vm-disk/resize", OPERATION)
    started = compute.resize_disk("z1-a", "vm-disk", 40, ID)
    assert (started.scope, started.doing) == ("zones/z1-a", "resize disk vm-disk in z1-a to 40 GiB")
    assert google.requests[0].body == {"sizeGb": "40"}
    assert google.requests[0].query["requestId"] == ID


def test_mutations_are_not_repeated(google: Any, compute: ComputeGateway, google_error: Any) -> None:
    google.answer(f"POST {VM}/start", google_error(503, "backendError", "try later"))
    with pytest.raises(errors.Unavailable):
        compute.start_instance("z1-a", "vm", ID)
    assert len(google.requests) == 1


def test_set_metadata_merges_into_what_another_wrote_meanwhile(
    google: Any, compute: ComputeGateway, google_error: Any
) -> None:
    newer = {"fingerprint": "bmV3", "items": [{"key": "theirs", "value": "1"}, {"key": "k", "value": "v"}]}
    google.answer(f"GET {VM}", (200, instance()), (200, instance(metadata=newer)))
    google.answer(f"POST {VM}/setMetadata", google_error(412, "conditionNotMet", "stale"), OPERATION)
    compute.set_metadata("z1-a", "vm", {"k": "w"}, ID)
    first, second = [sent for sent in google.requests if sent.method == "POST"]
    assert first.body["fingerprint"] == "bWV0YQ=="
    assert second.body["fingerprint"] == "bmV3"
    assert second.body["items"] == [{"key": "k", "value": "w"}, {"key": "theirs", "value": "1"}]
    assert first.query["requestId"] == ID
    assert second.query["requestId"] != ID


def test_set_labels_gives_up_after_three_tries(
    google: Any, compute: ComputeGateway, google_error: Any
) -> None:
    google.answer(f"GET {VM}", (200, instance()))
    google.answer(f"POST {VM}/setLabels", google_error(412, "conditionNotMet", "stale"))
    with pytest.raises(errors.PreconditionFailed):
        compute.set_labels("z1-a", "vm", {"b": "2"}, ID)
    posts = [sent for sent in google.requests if sent.method == "POST"]
    assert len(posts) == 3
    assert posts[0].body == {"labelFingerprint": "bGFiZWw=", "labels": {"a": "1", "b": "2"}}


def test_a_label_is_taken_away(google: Any, compute: ComputeGateway) -> None:
    google.answer(f"GET {VM}", (200, instance(labels={"a": "1", "budget-move": "z1-b"})))
    google.answer(f"POST {VM}/setLabels", OPERATION)
    compute.set_labels("z1-a", "vm", {"budget-move": None, "b": "2"}, ID)
    assert google.requests[-1].body == {"labelFingerprint": "bGFiZWw=", "labels": {"a": "1", "b": "2"}}


def test_an_address_is_taken_and_given(google: Any, compute: ComputeGateway) -> None:
    google.answer(f"POST {VM}/deleteAccessConfig", OPERATION)
    google.answer(f"POST {VM}/addAccessConfig", OPERATION)
    assert compute.delete_access_config("z1-a", "vm", "NAT", ID).scope == "zones/z1-a"
    assert compute.add_access_config("z1-a", "vm", "10.0.0.9", ID).scope == "zones/z1-a"
    taken, given = google.requests
    assert (taken.query["accessConfig"], taken.query["networkInterface"]) == ("NAT", "nic0")
    assert given.query["networkInterface"] == "nic0"
    assert given.body == {"name": "External NAT", "type": "ONE_TO_ONE_NAT", "natIP": "10.0.0.9"}
    assert taken.query["requestId"] == given.query["requestId"] == ID


@pytest.mark.parametrize(
    ("access", "cut_off"), [([], True), ([{"name": "NAT"}], False), ([{"natIP": "10.0.0.9"}], False)]
)
def test_an_instance_without_an_access_config_is_cut_off(
    google: Any, compute: ComputeGateway, access: list[Any], cut_off: bool
) -> None:
    google.answer(f"GET {VM}", (200, instance(networkInterfaces=[{"accessConfigs": access}])))
    found = compute.instance("z1-a", "vm")
    assert found is not None
    assert found.is_cut_off is cut_off


def test_set_labels_of_nothing(compute: ComputeGateway) -> None:
    with pytest.raises(errors.NotFound):
        compute.set_labels("z1-a", "vm", {"b": "2"}, ID)


def test_addresses_and_firewalls(google: Any, compute: ComputeGateway) -> None:
    google.answer(f"POST {P}/regions/r1/addresses", OPERATION)
    google.answer(f"DELETE {P}/regions/r1/addresses/ip", OPERATION)
    google.answer(f"POST {P}/global/firewalls", OPERATION)
    google.answer(f"DELETE {P}/global/firewalls/fw", OPERATION)
    assert compute.reserve_address("r1", "ip", {"a": "1"}, ID).scope == "regions/r1"
    assert compute.release_address("r1", "ip", ID).scope == "regions/r1"
    assert compute.insert_firewall("fw", "global/networks/default", "tag", "{}", ID).scope == "global"
    assert compute.delete_firewall("fw", ID).scope == "global"
    assert all(sent.query["requestId"] == ID for sent in google.requests)
    assert google.requests[0].body == {"name": "ip", "labels": {"a": "1"}}
    assert google.requests[2].body["allowed"] == [{"IPProtocol": "tcp", "ports": ["80", "443"]}]


def test_firewall_as_seen(google: Any, compute: ComputeGateway) -> None:
    rule = {
        "name": "fw",
        "description": "{}",
        "targetTags": ["tag"],
        "network": "https://www.googleapis.com/compute/v1/projects/p1/global/networks/n",
        "allowed": [{"IPProtocol": "icmp"}, {"IPProtocol": "tcp", "ports": ["80", "443"]}],
        "sourceRanges": ["10.0.0.0/8"],
        "sourceTags": ["office"],
        "direction": "INGRESS",
        "priority": 900,
        "disabled": True,
    }
    google.answer(f"GET {P}/global/firewalls/fw", (200, rule))
    found = compute.firewall("fw")
    assert found is not None
    assert found == Firewall(
        "fw",
        "{}",
        ("tag",),
        ("icmp", "tcp:443", "tcp:80"),
        "projects/p1/global/networks/n",
        ("10.0.0.0/8",),
        "INGRESS",
        900,
        disabled=True,
        further=("source_tags",),
    )


def test_threads_may_share_the_gateway(google: Any, compute: ComputeGateway) -> None:
    google.answer(f"GET {VM}", (200, instance()))
    found: list[object] = []
    threads = [
        threading.Thread(target=lambda: found.append(compute.instance("z1-a", "vm"))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert all(found)


def test_disks_with_what_tells_whether_they_are_used(google: Any, compute: ComputeGateway) -> None:
    disk = {
        "name": "vm-disk",
        "id": "7",
        "zone": f"https://www.googleapis.com{P}/zones/z1-a",
        "type": f"https://www.googleapis.com{P}/zones/z1-a/diskTypes/pd-balanced",
        "sizeGb": "20",
        "labels": {"a": "1"},
        "creationTimestamp": "2026-11-01T00:00:00.000-07:00",
    }
    gone = disk | {"name": "left", "lastDetachTimestamp": "2026-11-02T00:00:00Z"}
    used = disk | {"users": [f"https://www.googleapis.com{VM}"]}
    google.answer(f"GET {P}/aggregated/disks", (200, {"items": {"zones/z1-a": {"disks": [used, gone]}}}))
    google.answer(f"GET {P}/zones/z1-a/disks/vm-disk", (200, used))
    google.answer(f"DELETE {P}/zones/z1-a/disks/left", OPERATION)
    first, second = compute.disks("budgetml-installation", "h1").items
    assert (first.name, first.zone, first.id, first.kind, first.gib) == (
        "vm-disk",
        "z1-a",
        "7",
        "pd-balanced",
        20,
    )
    assert (first.users, first.detached, dict(first.labels)) == (("vm",), None, {"a": "1"})
    assert first.created == datetime(2026, 11, 1, 7, tzinfo=UTC)
    assert (second.users, second.detached) == ((), datetime(2026, 11, 2, tzinfo=UTC))
    assert google.requests[0].query["filter"] == "labels.budgetml-installation=h1"
    assert compute.disk("z1-a", "vm-disk") == first
    assert compute.disk("z1-a", "none") is None
    assert compute.delete_disk("z1-a", "left", ID).scope == "zones/z1-a"
    assert google.requests[-1].query["requestId"] == ID


def test_a_disk_says_whose_it_is_without_its_vm(google: Any, compute: ComputeGateway) -> None:
    google.answer(f"POST {P}/zones/z1-a/instances", OPERATION)
    ours = {"budgetml-installation": "h1", "budgetml-deployment": "h2"}
    compute.insert_instance(request(labels={**ours, "budgetml-wanted": "running"}), ID)
    (disk,) = google.requests[0].body["disks"]
    assert disk["initializeParams"]["labels"] == ours
