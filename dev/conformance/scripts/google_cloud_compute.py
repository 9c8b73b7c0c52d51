"""google-cloud-compute: the client that the operator and the restart function use."""

import json
import uuid
from dataclasses import dataclass
from typing import Any

from google.api_core import exceptions
from google.cloud import compute_v1

from dev.conformance import bodies, clients
from dev.conformance.bodies import PROJECT, REGION, ZONE
from dev.conformance.script import Script, same
from dev.conformance.server import until

NAME = "conform-1"
AT = {"project": PROJECT, "zone": ZONE}
THERE = {"project": PROJECT, "region": REGION}

QUOTA = {"kind": "quota", "region": REGION, "metric": "PREEMPTIBLE_CPUS", "limit": 3}
SOLD_OUT = {"kind": "stock-out", "zone": ZONE, "code": "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS"}
#: What is refused how: a word for it, the fault, the exception and its text.
INSERTS_REFUSED: tuple[tuple[str, dict[str, Any], type[Exception], str], ...] = (
    ("sold out", SOLD_OUT | {"when": "request"}, exceptions.ServiceUnavailable, "enough resources"),
    ("beyond a quota", QUOTA | {"when": "request"}, exceptions.Forbidden, "Quota 'PREEMPTIBLE_CPUS'"),
    (
        "of a fresh API",
        {"kind": "fresh-api", "service": "compute", "seconds": 60},
        exceptions.BadRequest,
        "few minutes",
    ),
)
GETS_REFUSED: tuple[tuple[str, dict[str, Any], type[Exception], str], ...] = (
    (
        "of a disabled API",
        {"kind": "disabled-api", "service": "compute"},
        exceptions.Forbidden,
        "Enable it",
    ),
    (
        "without the permission",
        {"kind": "permission-denied", "permission": "compute.instances.get"},
        exceptions.Forbidden,
        "compute.instances.get",
    ),
    (
        "beyond the rate",
        {"kind": "rate-limit", "service": "compute", "calls": "read", "perMinute": 0},
        exceptions.Forbidden,
        "per minute",
    ),
)


@dataclass(frozen=True)
class Clients:
    """Those of one run, and how they wait."""

    url: str

    def make(self, kind: type[Any]) -> Any:
        return kind(**clients.options(self.url))

    def done(self, operation: Any, place: dict[str, str] | None = None) -> Any:
        """The operation once it has ended, awaited as its scope wants it."""
        place = AT if place is None else place
        kind: type[Any] = compute_v1.GlobalOperationsClient
        if "zone" in place:
            kind = compute_v1.ZoneOperationsClient
        elif "region" in place:
            kind = compute_v1.RegionOperationsClient
        waiting = self.make(kind)
        while operation.status != compute_v1.Operation.Status.DONE:
            operation = waiting.wait(operation=operation.name, **place)
        return operation

    def good(self, operation: Any, place: dict[str, str] | None = None) -> Any:
        ended = self.done(operation, place)
        same([error.code for error in ended.error.errors], [])
        return ended


def run(script: Script) -> None:
    """All of Compute that the project needs."""
    found = Clients(script.cloud.url)
    _catalog(script, found)
    _addresses(script, found)
    _firewalls(script, found)
    _life(script, found)
    _changes(script, found)
    _bad_days(script, found)
    _lists(script, found)
    _faults(script, found)
    _end(script, found)


def _instance(name: str = NAME, **fields: Any) -> Any:
    return compute_v1.Instance.from_json(json.dumps(bodies.spot_instance(name, **fields)))


def _catalog(script: Script, found: Clients) -> None:
    with script.call("projects.get"):
        same(found.make(compute_v1.ProjectsClient).get(project=PROJECT).name, PROJECT)
    zones, regions = found.make(compute_v1.ZonesClient), found.make(compute_v1.RegionsClient)
    with script.call("zones.get"):
        same(zones.get(**AT).status, "UP")
    with script.call("zones.list"):
        same(ZONE in {each.name for each in zones.list(project=PROJECT)}, True)
    with script.call("regions.get"):
        same(regions.get(**THERE).name, REGION)
    with script.call("regions.list"):
        same(REGION in {each.name for each in regions.list(project=PROJECT)}, True)
    types = found.make(compute_v1.MachineTypesClient)
    with script.call("machineTypes.get"):
        same(types.get(machine_type="e2-medium", **AT).memory_mb, 4096)
    with script.call("machineTypes.list"):
        same("e2-micro" in {each.name for each in types.list(**AT)}, True)
    with script.refused("machineTypes.get of none", exceptions.NotFound):
        types.get(machine_type="m99-huge", **AT)
    with script.call("images.getFromFamily"):
        images = found.make(compute_v1.ImagesClient)
        same(images.get_from_family(project="cos-cloud", family="cos-stable").status, "READY")


def _addresses(script: Script, found: Clients) -> None:
    addresses = found.make(compute_v1.AddressesClient)
    resource = compute_v1.Address(name="ip-1", labels={"a": "b"})
    with script.call("addresses.insert"):
        found.good(addresses.insert_unary(address_resource=resource, **THERE), THERE)
    with script.refused("addresses.insert of the same name", exceptions.Conflict):
        addresses.insert_unary(address_resource=resource, **THERE)
    with script.call("addresses.get"):
        got = addresses.get(address="ip-1", **THERE)
        same((got.status, got.address_type, dict(got.labels)), ("RESERVED", "EXTERNAL", {"a": "b"}))
    with script.call("addresses.list with a filter"):
        asked = compute_v1.ListAddressesRequest(filter="labels.a=b", **THERE)
        same([each.name for each in addresses.list(request=asked)], ["ip-1"])
    with script.call("addresses.aggregatedList"):
        scopes = dict(addresses.aggregated_list(project=PROJECT))
        same([each.name for each in scopes[f"regions/{REGION}"].addresses], ["ip-1"])


def _firewalls(script: Script, found: Clients) -> None:
    firewalls, everywhere = found.make(compute_v1.FirewallsClient), {"project": PROJECT}
    allowed = [compute_v1.Allowed(I_p_protocol="tcp", ports=["80", "443"])]
    rule = compute_v1.Firewall(name="fw-1", allowed=allowed, network="global/networks/default")
    with script.call("firewalls.insert"):
        found.good(firewalls.insert_unary(firewall_resource=rule, **everywhere), everywhere)
    with script.call("firewalls.get"):
        same(list(firewalls.get(firewall="fw-1", **everywhere).allowed[0].ports), ["80", "443"])
    with script.call("firewalls.patch"):
        allowed = [compute_v1.Allowed(I_p_protocol="tcp", ports=["443"])]
        change = compute_v1.Firewall(allowed=allowed)
        found.good(firewalls.patch_unary(firewall="fw-1", firewall_resource=change, **everywhere), everywhere)
        same(list(firewalls.get(firewall="fw-1", **everywhere).allowed[0].ports), ["443"])
    with script.call("firewalls.list"):
        same([each.name for each in firewalls.list(**everywhere)], ["fw-1"])
    with script.call("firewalls.delete"):
        found.good(firewalls.delete_unary(firewall="fw-1", **everywhere), everywhere)
    with script.refused("firewalls.get of none", exceptions.NotFound):
        firewalls.get(firewall="fw-1", **everywhere)


def _life(script: Script, found: Clients) -> None:
    instances = found.make(compute_v1.InstancesClient)
    nat = {"name": "External NAT", "type": "ONE_TO_ONE_NAT"}
    with script.call("instances.insert with a static address"):
        address = found.make(compute_v1.AddressesClient).get(address="ip-1", **THERE).address
        network = {"network": "global/networks/default", "accessConfigs": [nat | {"natIP": address}]}
        body = _instance(networkInterfaces=[network])
        found.good(instances.insert_unary(instance_resource=body, **AT))
    with script.call("instances.get"):
        got = instances.get(instance=NAME, **AT)
        same((got.status, got.network_interfaces[0].access_configs[0].nat_i_p), ("RUNNING", address))
    with script.refused("instances.insert of the same name", exceptions.Conflict):
        instances.insert_unary(instance_resource=_instance(), **AT)
    with script.refused("addresses.delete of one in use", exceptions.BadRequest, saying="already being used"):
        found.make(compute_v1.AddressesClient).delete_unary(address="ip-1", **THERE)
    with script.call("instances.insert twice with one requestId"):
        once = {"request_id": str(uuid.uuid4()), "instance_resource": _instance("conform-2"), **AT}
        first, second = (
            instances.insert_unary(request=compute_v1.InsertInstanceRequest(**once)) for _ in range(2)
        )
        same(first.name, second.name)
        found.good(first)
    with script.call("instances.stop"):
        found.good(instances.stop_unary(instance=NAME, **AT))
        same(instances.get(instance=NAME, **AT).status, "TERMINATED")
    with script.call("instances.start"):
        found.good(instances.start_unary(instance=NAME, **AT))
    with script.call("instances.suspend"):
        found.good(instances.suspend_unary(instance=NAME, **AT))
        same(instances.get(instance=NAME, **AT).status, "SUSPENDED")
    with script.call("instances.resume"):
        found.good(instances.resume_unary(instance=NAME, **AT))
    with script.call("instances.reset"):
        found.good(instances.reset_unary(instance=NAME, **AT))
    with script.call("instances.getSerialPortOutput"):
        same("booted" in instances.get_serial_port_output(instance=NAME, **AT).contents, True)


def _changes(script: Script, found: Clients) -> None:
    instances = found.make(compute_v1.InstancesClient)
    got = instances.get(instance=NAME, **AT)
    items = [
        compute_v1.Items(key="enable-guest-attributes", value="TRUE"),
        compute_v1.Items(key="a", value="b"),
    ]
    metadata = compute_v1.Metadata(fingerprint=got.metadata.fingerprint, items=items)
    with script.call("instances.setMetadata"):
        found.good(instances.set_metadata_unary(instance=NAME, metadata_resource=metadata, **AT))
    with script.refused("instances.setMetadata with an old fingerprint", exceptions.PreconditionFailed):
        instances.set_metadata_unary(instance=NAME, metadata_resource=metadata, **AT)
    with script.refused("instances.setMetadata beyond 256 KiB", exceptions.BadRequest):
        fresh = instances.get(instance=NAME, **AT).metadata.fingerprint
        large = [compute_v1.Items(key="large", value="x" * (256 * 1024 + 1))]
        change = compute_v1.Metadata(fingerprint=fresh, items=large)
        instances.set_metadata_unary(instance=NAME, metadata_resource=change, **AT)
    tags = compute_v1.Tags(fingerprint=got.tags.fingerprint, items=["web"])
    with script.call("instances.setTags"):
        found.good(instances.set_tags_unary(instance=NAME, tags_resource=tags, **AT))
        same(list(instances.get(instance=NAME, **AT).tags.items), ["web"])
    with script.refused("instances.setTags with an old fingerprint", exceptions.PreconditionFailed):
        instances.set_tags_unary(instance=NAME, tags_resource=tags, **AT)
    labels = compute_v1.InstancesSetLabelsRequest(label_fingerprint=got.label_fingerprint, labels={"c": "d"})
    with script.call("instances.setLabels"):
        found.good(
            instances.set_labels_unary(instance=NAME, instances_set_labels_request_resource=labels, **AT)
        )
        same(dict(instances.get(instance=NAME, **AT).labels), {"c": "d"})
    with script.refused("instances.setLabels with an old fingerprint", exceptions.PreconditionFailed):
        instances.set_labels_unary(instance=NAME, instances_set_labels_request_resource=labels, **AT)
    machine = compute_v1.InstancesSetMachineTypeRequest(
        machine_type=f"zones/{ZONE}/machineTypes/e2-standard-2"
    )
    to_machine = {"instance": NAME, "instances_set_machine_type_request_resource": machine, **AT}
    with script.refused("instances.setMachineType while running", exceptions.BadRequest):
        instances.set_machine_type_unary(**to_machine)
    with script.call("instances.setMachineType while off"):
        found.good(instances.stop_unary(instance=NAME, **AT))
        found.good(instances.set_machine_type_unary(**to_machine))
        found.good(instances.start_unary(instance=NAME, **AT))
        kind = instances.get(instance=NAME, **AT).machine_type
        same(kind.rpartition("/")[2], "e2-standard-2")
    with script.call("instances.getGuestAttributes"):
        asked = compute_v1.GetGuestAttributesInstanceRequest(instance=NAME, query_path="budgetml/", **AT)
        _absent(lambda: instances.get_guest_attributes(request=asked))


def _absent(ask: Any) -> None:
    """No VM has written any yet: the service says so with 404."""
    try:
        ask()
    except exceptions.NotFound:
        return
    raise AssertionError("guest attributes that nobody wrote")


def _bad_days(script: Script, found: Clients) -> None:
    instances = found.make(compute_v1.InstancesClient)
    with script.call("instances.simulateMaintenanceEvent preempts a Spot VM"):
        found.good(instances.simulate_maintenance_event_unary(instance=NAME, **AT))
        until(lambda: instances.get(instance=NAME, **AT).status == "TERMINATED", "the VM to be off")
    with script.call("operations tell of the preemption"):
        asked = compute_v1.ListZoneOperationsRequest(filter="operationType=compute.instances.preempted", **AT)
        operations = list(found.make(compute_v1.ZoneOperationsClient).list(request=asked))
        same([(each.user, each.target_link.rpartition("/")[2]) for each in operations], [("system", NAME)])
    with script.cloud.fault(kind="stock-out", zone=ZONE):
        with script.call("instances.start in a sold-out zone"):
            failed = found.done(instances.start_unary(instance=NAME, **AT))
            same([error.code for error in failed.error.errors], ["ZONE_RESOURCE_POOL_EXHAUSTED"])
            same(failed.http_error_status_code, 503)
        with script.call("instances.insert in a sold-out zone"):
            failed = found.done(instances.insert_unary(instance_resource=_instance("conform-3"), **AT))
            same([error.code for error in failed.error.errors], ["ZONE_RESOURCE_POOL_EXHAUSTED"])
    with script.refused("instances.get of none", exceptions.NotFound):
        instances.get(instance="nobody", **AT)
    with script.refused("instances.insert of an unknown type", exceptions.BadRequest, exceptions.NotFound):
        kind = f"zones/{ZONE}/machineTypes/m99-huge"
        instances.insert_unary(instance_resource=_instance("conform-4", machineType=kind), **AT)
    with script.refused("instances.insert of a bad name", exceptions.BadRequest, saying="name"):
        instances.insert_unary(instance_resource=_instance("Not_A_Name"), **AT)
    with script.refused("instances.insert in an unknown zone", exceptions.NotFound):
        instances.insert_unary(project=PROJECT, zone="mars-north1-a", instance_resource=_instance())


def _lists(script: Script, found: Clients) -> None:
    instances = found.make(compute_v1.InstancesClient)
    with script.call("instances.list"):
        same({each.name for each in instances.list(**AT)}, {NAME, "conform-2"})
    with script.call("instances.list in pages"):
        asked = compute_v1.ListInstancesRequest(max_results=1, **AT)
        same([len(page.items) for page in instances.list(request=asked).pages], [1, 1])
    with script.call("instances.aggregatedList with a filter"):
        asked = compute_v1.AggregatedListInstancesRequest(
            project=PROJECT, filter="labels.budgetml-installation=abc"
        )
        scopes = dict(instances.aggregated_list(request=asked))
        same([each.name for each in scopes[f"zones/{ZONE}"].instances], ["conform-2"])
    disks = found.make(compute_v1.DisksClient)
    with script.call("disks.list"):
        same({each.name for each in disks.list(**AT)}, {NAME, "conform-2"})
    with script.call("disks.get"):
        same(disks.get(disk=NAME, **AT).size_gb, 20)
    with script.call("disks.resize of one in use"):
        larger = {"disk": NAME, "disks_resize_request_resource": {"size_gb": 30}, **AT}
        found.good(disks.resize_unary(**larger))
        same(disks.get(disk=NAME, **AT).size_gb, 30)
        same(instances.get(instance=NAME, **AT).disks[0].disk_size_gb, 30)
    with script.refused("disks.resize to the size it has", exceptions.BadRequest):
        disks.resize_unary(**larger)
    with script.refused("disks.delete of one in use", exceptions.BadRequest):
        disks.delete_unary(disk=NAME, **AT)
    with script.call("zoneOperations.list"):
        operations = found.make(compute_v1.ZoneOperationsClient)
        same("insert" in {each.operation_type for each in operations.list(**AT)}, True)
    with script.refused("zoneOperations.get of none", exceptions.NotFound):
        found.make(compute_v1.ZoneOperationsClient).get(operation="operation-0", **AT)


def _faults(script: Script, found: Clients) -> None:
    """What the local cloud does on purpose has to look to the client as Google's own trouble does."""
    instances = found.make(compute_v1.InstancesClient)

    def insert() -> Any:
        return instances.insert_unary(instance_resource=_instance("conform-5"), **AT)

    for name, fault, refusal, saying in INSERTS_REFUSED:
        with script.cloud.fault(**fault), script.refused(f"instances.insert, {name}", refusal, saying=saying):
            insert()
    for name, fault, refusal, saying in GETS_REFUSED:
        with script.cloud.fault(**fault), script.refused(f"instances.get, {name}", refusal, saying=saying):
            instances.get(instance=NAME, **AT)
    with script.cloud.fault(**QUOTA), script.call("instances.insert whose operation exceeds a quota"):
        failed = found.done(insert())
        same([error.code for error in failed.error.errors], ["QUOTA_EXCEEDED"])
    silent = {"kind": "silent-zone", "zone": ZONE}
    with script.cloud.fault(**silent), script.call("instances.aggregatedList, incomplete"):
        page = next(instances.aggregated_list(project=PROJECT).pages)
        same([link.rpartition("/")[2] for link in page.unreachables], [ZONE])
        same(page.items[f"zones/{ZONE}"].warning.code, "UNREACHABLE")


def _end(script: Script, found: Clients) -> None:
    instances = found.make(compute_v1.InstancesClient)
    with script.call("instances.delete"):
        for name in (NAME, "conform-2"):
            found.good(instances.delete_unary(instance=name, **AT))
        same(list(instances.list(**AT)), [])
    with script.call("disks go with their instances"):
        same(list(found.make(compute_v1.DisksClient).list(**AT)), [])
    with script.call("addresses.delete"):
        addresses = found.make(compute_v1.AddressesClient)
        found.good(addresses.delete_unary(address="ip-1", **THERE), THERE)
        same(list(addresses.list(**THERE)), [])
