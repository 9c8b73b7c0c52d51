"""Compute Engine: instances, their disks, addresses, firewall rules, operations and guest attributes.

Every mutation is one request with a request id, returns the operation's name and waits for nothing. What the
messages mean is in `words`, what a failed operation means in `core.operations`.
"""

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from budget_operator.cloud import guest, listed
from budget_operator.cloud.connection import CALL, Connection
from budget_operator.cloud.failures import translated
from budget_operator.cloud.lists import Json, Lists
from budget_operator.core.errors import (
    AlreadyExists,
    InvalidSpec,
    NotFound,
    OperationFailed,
    PermissionDenied,
    PreconditionFailed,
)
from budget_operator.core.gateways import InstanceRequest, Scan
from budget_operator.core.observed import (
    DOWN,
    UP,
    Address,
    Disk,
    Firewall,
    GuestReport,
    Instance,
    OperationRef,
    OperationState,
    PowerChange,
    PowerEvent,
)

if TYPE_CHECKING:
    from budget_operator.cloud import compute_client

T = TypeVar("T")

_MERGE_TRIES = 3
_POWER = f'operationType eq "({"|".join((*DOWN, *UP))})"'
INTERFACE = "nic0"  # Google's name of an instance's first
_MOST_ACCESS = "At most one access config"  # said of an instance that has one
_WHOLE_AT_ONCE = 50  # names in one filter: it is part of the URL


class ComputeGateway:
    """`core.gateways.Compute` on the real clients."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._project = connection.project
        self._lists = Lists(connection)
        self._known: dict[str, Instance] = {}  # those that were listed last, by id
        self._notice_refused = False  # some projects may not ask for the notice of a preemption yet

    @cached_property
    def _instances(self) -> "compute_client.InstancesClient":
        from budget_operator.cloud import compute_client

        return self._connection.client(compute_client.InstancesClient)

    @cached_property
    def _disks(self) -> "compute_client.DisksClient":
        from budget_operator.cloud import compute_client

        return self._connection.client(compute_client.DisksClient)

    @cached_property
    def _addresses(self) -> "compute_client.AddressesClient":
        from budget_operator.cloud import compute_client

        return self._connection.client(compute_client.AddressesClient)

    @cached_property
    def _firewalls(self) -> "compute_client.FirewallsClient":
        from budget_operator.cloud import compute_client

        return self._connection.client(compute_client.FirewallsClient)

    @cached_property
    def _zones(self) -> "compute_client.ZonesClient":
        from budget_operator.cloud import compute_client

        return self._connection.client(compute_client.ZonesClient)

    @cached_property
    def _machine_types(self) -> "compute_client.MachineTypesClient":
        from budget_operator.cloud import compute_client

        return self._connection.client(compute_client.MachineTypesClient)

    # The clients' own operation objects poll Google's default host whatever the endpoint: polled here.
    @cached_property
    def _zone_operations(self) -> "compute_client.ZoneOperationsClient":
        from budget_operator.cloud import compute_client

        return self._connection.client(compute_client.ZoneOperationsClient)

    @cached_property
    def _region_operations(self) -> "compute_client.RegionOperationsClient":
        from budget_operator.cloud import compute_client

        return self._connection.client(compute_client.RegionOperationsClient)

    @cached_property
    def _global_operations(self) -> "compute_client.GlobalOperationsClient":
        from budget_operator.cloud import compute_client

        return self._connection.client(compute_client.GlobalOperationsClient)

    # --- looking ---

    def instances(self, label: str, value: str) -> Scan[Instance]:
        """Whole, although their metadata are read only where they have changed since they were read last."""
        scan = self._lists.scan(
            "list instances",
            "instances",
            _labelled(label, value),
            listed.INSTANCE,
            lambda found, _: listed.instance(found),
        )
        whole = {instance.id: instance for instance in self._whole(scan.items)}
        # Gone, or in a zone that fell silent, between the two looks: nobody knows.
        lost = frozenset(f"zones/{each.zone}" for each in scan.items if each.id not in whole)
        self._known = whole
        return Scan(tuple(whole.values()), scan.unknown | lost)

    def _whole(self, seen: Sequence[Instance]) -> Iterator[Instance]:
        """With their metadata: those that were read before, or else another look at these instances.

        One that is as it was is the object of the last picture: thousands are not held twice.
        """
        new: list[str] = []
        for each in seen:
            known = self._known.get(each.id)
            if known is not None and known.metadata_fingerprint == each.metadata_fingerprint:
                whole = replace(each, metadata=known.metadata)
                yield known if known == whole else whole
            else:
                new.append(each.name)
        ids = {each.id for each in seen}
        for start in range(0, len(new), _WHOLE_AT_ONCE):
            some = "|".join(new[start : start + _WHOLE_AT_ONCE])
            found = self._lists.scan(
                "list instances",
                "instances",
                f'name eq "({some})"',
                listed.WHOLE_INSTANCE,
                lambda found, _: listed.instance(found),
            )
            yield from (each for each in found.items if each.id in ids)

    def addresses(self, label: str, value: str) -> Scan[Address]:
        filter_ = _labelled(label, value)
        return self._lists.scan(
            "list addresses", "addresses", filter_, listed.ADDRESS, lambda found, _: listed.address(found)
        )

    def disks(self, label: str, value: str) -> Scan[Disk]:
        filter_ = _labelled(label, value)
        return self._lists.scan(
            "list disks", "disks", filter_, listed.DISK, lambda found, _: listed.disk(found)
        )

    def power_changes(self, since: datetime) -> Scan[PowerChange]:
        def recent(found: Json, scope: str) -> PowerChange | None:
            item = listed.power_change(found, listed.last(scope))
            return item if item is not None and item.at >= since else None

        return self._lists.scan("list operations", "operations", _POWER, listed.POWER_CHANGE, recent)

    def power_events(self, instance_id: str) -> Scan[PowerEvent]:
        """One list over all zones, of what was done to this VM."""
        return self._lists.scan(
            f"list the operations of VM {instance_id}",
            "operations",
            f"targetId={instance_id}",
            listed.POWER_EVENT,
            lambda found, _: listed.power_event(found),
        )

    def instance(self, zone: str, name: str) -> Instance | None:
        doing, path = f"get instance {name} in {zone}", f"zones/{zone}/instances/{name}"
        found = self._lists.look(doing, path, listed.WHOLE_INSTANCE)
        return None if found is None else listed.instance(found)

    def address(self, region: str, name: str) -> Address | None:
        doing, path = f"get address {name} in {region}", f"regions/{region}/addresses/{name}"
        found = self._lists.look(doing, path, listed.ADDRESS)
        return None if found is None else listed.address(found)

    def disk(self, zone: str, name: str) -> Disk | None:
        found = self._lists.look(f"get disk {name} in {zone}", f"zones/{zone}/disks/{name}", listed.DISK)
        return None if found is None else listed.disk(found)

    def firewall(self, name: str) -> Firewall | None:
        from budget_operator.cloud import words

        found = self._look(f"get firewall rule {name}", self._firewalls.get, firewall=name)
        return None if found is None else words.firewall(found)

    def zone(self, name: str) -> bool:
        return self._exists(f"get zone {name}", self._zones.get, zone=name)

    def machine_type(self, zone: str, name: str) -> bool:
        doing = f"get machine type {name} in {zone}"
        return self._exists(doing, self._machine_types.get, zone=zone, machine_type=name)

    def zones_with(self, machine_type: str) -> Scan[str]:
        return self._lists.scan(
            "list machine types",
            "machineTypes",
            f'name="{machine_type}"',
            "name",
            lambda _, scope: listed.last(scope),
        )

    def operation(self, ref: OperationRef) -> OperationState | None:
        from budget_operator.cloud import words

        doing = f"look how this ends: {ref.doing or ref.name}"
        kind, _, place = ref.scope.partition("/")
        if kind == "zones":
            found = self._look(doing, self._zone_operations.get, zone=place, operation=ref.name)
        elif kind == "regions":
            found = self._look(doing, self._region_operations.get, region=place, operation=ref.name)
        else:
            found = self._look(doing, self._global_operations.get, operation=ref.name)
        state = None if found is None else words.operation(found, ref)
        if state is not None and _is_about_the_notice(state.error_message or ""):
            self._notice_refused = True
        return state

    def guest_report(self, zone: str, name: str) -> GuestReport:
        doing = f"get guest attributes of {name} in {zone}"
        call = self._instances.get_guest_attributes
        found = self._look(doing, call, zone=zone, instance=name, query_path="budgetml/")
        if found is None:
            return GuestReport()  # it has not said anything yet
        items = found.query_value.items
        return guest.report({item.key: item.value for item in items if item.namespace == "budgetml"})

    def _exists(self, doing: str, call: Callable[..., object], **where: str) -> bool:
        try:
            return self._look(doing, call, **where) is not None
        except InvalidSpec:  # an unknown zone is an invalid value, not always a 404
            return False

    def _look(self, doing: str, call: Callable[..., T], **where: str) -> T | None:
        try:
            with translated(doing):
                return call(request={"project": self._project, **where}, **CALL)
        except NotFound:
            return None

    # --- changing ---

    def insert_instance(self, request: InstanceRequest, request_id: str) -> OperationRef:
        from budget_operator.cloud import words

        def attempt(body: "compute_client.types.Instance", attempt_id: str) -> OperationRef:
            doing = f"create instance {request.name} in {request.zone}"
            more = {"zone": request.zone, "instance_resource": body}
            call = self._instances.insert_unary
            return self._change(doing, f"zones/{request.zone}", call, more, attempt_id)

        def without_notice() -> OperationRef:
            wanted = words.new_instance(request)
            del wanted.scheduling.preemption_notice_duration
            return attempt(wanted, _attempt_id(request_id, 1))

        if self._notice_refused:
            return without_notice()
        try:
            return attempt(words.new_instance(request), request_id)
        except (InvalidSpec, PermissionDenied, OperationFailed) as error:
            if not _is_about_the_notice(error.message):
                raise
            self._notice_refused = True  # a VM without it is better than none
            return without_notice()

    def start_instance(self, zone: str, name: str, request_id: str) -> OperationRef:
        return self._on_instance("start", self._instances.start_unary, zone, name, request_id)

    def resume_instance(self, zone: str, name: str, request_id: str) -> OperationRef:
        return self._on_instance("resume", self._instances.resume_unary, zone, name, request_id)

    def stop_instance(self, zone: str, name: str, request_id: str) -> OperationRef:
        return self._on_instance("stop", self._instances.stop_unary, zone, name, request_id)

    def simulate_maintenance(self, zone: str, name: str, request_id: str) -> OperationRef:
        call = self._instances.simulate_maintenance_event_unary
        return self._on_instance("preempt", call, zone, name, request_id)

    def delete_instance(self, zone: str, name: str, request_id: str) -> OperationRef:
        return self._on_instance("delete", self._instances.delete_unary, zone, name, request_id)

    def set_machine_type(self, zone: str, name: str, machine_type: str, request_id: str) -> OperationRef:
        body = {"machine_type": f"zones/{zone}/machineTypes/{machine_type}"}
        call = self._instances.set_machine_type_unary
        more = {"instances_set_machine_type_request_resource": body}
        return self._on_instance("set the machine type of", call, zone, name, request_id, more)

    def resize_disk(self, zone: str, name: str, gib: int, request_id: str) -> OperationRef:
        body = {"zone": zone, "disk": name, "disks_resize_request_resource": {"size_gb": gib}}
        doing = f"resize disk {name} in {zone} to {gib} GiB"
        return self._change(doing, f"zones/{zone}", self._disks.resize_unary, body, request_id)

    def delete_disk(self, zone: str, name: str, request_id: str) -> OperationRef:
        body = {"zone": zone, "disk": name}
        doing = f"delete disk {name} in {zone}"
        return self._change(doing, f"zones/{zone}", self._disks.delete_unary, body, request_id)

    def set_metadata(self, zone: str, name: str, changes: Mapping[str, str], request_id: str) -> OperationRef:
        def attempt(current: Instance, attempt_id: str) -> OperationRef:
            merged = {**current.metadata, **changes}
            body = {
                "fingerprint": current.metadata_fingerprint,
                "items": [{"key": key, "value": value} for key, value in sorted(merged.items())],
            }
            call = self._instances.set_metadata_unary
            more = {"metadata_resource": body}
            return self._on_instance("set the metadata of", call, zone, name, attempt_id, more)

        return self._merged(zone, name, request_id, attempt)

    def set_labels(
        self, zone: str, name: str, changes: Mapping[str, str | None], request_id: str
    ) -> OperationRef:
        def attempt(current: Instance, attempt_id: str) -> OperationRef:
            merged = {**current.labels, **changes}
            body = {
                "label_fingerprint": current.label_fingerprint,
                "labels": {key: value for key, value in merged.items() if value is not None},
            }
            call = self._instances.set_labels_unary
            more = {"instances_set_labels_request_resource": body}
            return self._on_instance("set the labels of", call, zone, name, attempt_id, more)

        return self._merged(zone, name, request_id, attempt)

    def add_tag(self, zone: str, name: str, tag: str, request_id: str) -> OperationRef:
        def attempt(current: Instance, attempt_id: str) -> OperationRef:
            body = {"fingerprint": current.tags_fingerprint, "items": sorted({*current.tags, tag})}
            call, more = self._instances.set_tags_unary, {"tags_resource": body}
            return self._on_instance("set the network tags of", call, zone, name, attempt_id, more)

        return self._merged(zone, name, request_id, attempt)

    def add_access_config(self, zone: str, name: str, address: str, request_id: str) -> OperationRef:
        from budget_operator.cloud import words

        call = self._instances.add_access_config_unary
        more = {"network_interface": INTERFACE, "access_config_resource": words.access_config(address)}
        try:
            return self._on_instance(f"give {address} to", call, zone, name, request_id, more)
        except InvalidSpec as error:
            if _MOST_ACCESS not in error.message:
                raise
            raise AlreadyExists(error.message) from error

    def delete_access_config(self, zone: str, name: str, access_config: str, request_id: str) -> OperationRef:
        call = self._instances.delete_access_config_unary
        more = {"network_interface": INTERFACE, "access_config": access_config}
        return self._on_instance("take the address of", call, zone, name, request_id, more)

    def _merged(
        self, zone: str, name: str, request_id: str, attempt: Callable[[Instance, str], OperationRef]
    ) -> OperationRef:
        """Read, merge, write; somebody else's write in between means: read again and merge into theirs."""
        for number in range(_MERGE_TRIES):
            current = self.instance(zone, name)
            if current is None:
                raise NotFound(f"instance {name} in {zone} does not exist")
            try:
                return attempt(current, _attempt_id(request_id, number))
            except PreconditionFailed as error:
                stale = error
        raise stale

    def reserve_address(
        self, region: str, name: str, labels: Mapping[str, str], request_id: str
    ) -> OperationRef:
        body = {"region": region, "address_resource": {"name": name, "labels": dict(labels)}}
        call = self._addresses.insert_unary
        return self._change(
            f"reserve address {name} in {region}", f"regions/{region}", call, body, request_id
        )

    def release_address(self, region: str, name: str, request_id: str) -> OperationRef:
        body = {"region": region, "address": name}
        call = self._addresses.delete_unary
        return self._change(
            f"release address {name} in {region}", f"regions/{region}", call, body, request_id
        )

    def insert_firewall(
        self, name: str, network: str, tag: str, description: str, request_id: str
    ) -> OperationRef:
        from budget_operator.cloud import words

        body = {"firewall_resource": words.new_firewall(name, network, tag, description)}
        call = self._firewalls.insert_unary
        return self._change(f"create firewall rule {name}", "global", call, body, request_id)

    def delete_firewall(self, name: str, request_id: str) -> OperationRef:
        call = self._firewalls.delete_unary
        return self._change(f"delete firewall rule {name}", "global", call, {"firewall": name}, request_id)

    def _on_instance(
        self,
        verb: str,
        call: Callable[..., Any],
        zone: str,
        name: str,
        request_id: str,
        more: Mapping[str, object] | None = None,
    ) -> OperationRef:
        body = {"zone": zone, "instance": name, **(more or {})}
        return self._change(f"{verb} instance {name} in {zone}", f"zones/{zone}", call, body, request_id)

    def _change(
        self, doing: str, scope: str, call: Callable[..., Any], body: Mapping[str, object], request_id: str
    ) -> OperationRef:
        request = {"project": self._project, "request_id": request_id, **body}
        with translated(doing):
            started = call(request=request, **CALL)
        return OperationRef(name=started.name, scope=scope, doing=doing)


def _is_about_the_notice(message: str) -> bool:
    return "preemptionnotice" in message.lower().replace("_", "").replace(" ", "")


def _labelled(label: str, value: str) -> str:
    return f"labels.{label}={value}"


def _attempt_id(request_id: str, number: int) -> str:
    """A new body needs a new request id; derived, so that a repeated pass repeats it too."""
    return request_id if number == 0 else str(uuid.uuid5(uuid.UUID(request_id), str(number)))
