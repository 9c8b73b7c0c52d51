"""The endpoints of instances. Requests are checked and take effect here; time and the VM follow in
`lifecycle`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta

from localcloud.clock import rfc3339
from localcloud.context import Context, Resource
from localcloud.errors import (
    ApiError,
    already_exists,
    condition_not_met,
    conflict,
    invalid_field,
    not_found,
)
from localcloud.faults import RefusedField
from localcloud.operations import Tasks
from localcloud.services.compute import access, creation, paths, prices
from localcloud.services.compute.capacity import Capacity
from localcloud.services.compute.catalog import ZONE_SCOPES, check_zone, region_of
from localcloud.services.compute.filters import whole_number
from localcloud.services.compute.guest import enabled
from localcloud.services.compute.lifecycle import ALIVE, Parts
from localcloud.services.compute.lists import aggregated, listing
from localcloud.services.compute.operations import Operations
from localcloud.services.compute.records import Record
from localcloud.services.compute.schema import check
from localcloud.store import Json
from localcloud.web import Call

_URL_SAFE = str.maketrans("+/", "-_")
_PREEMPTED = "compute.instances.preempted"


class Instances:
    def __init__(self, context: Context, operations: Operations, tasks: Tasks, parts: Parts) -> None:
        self._context = context
        self._operations = operations
        self._tasks = tasks
        self._parts = parts
        self._records = parts.records
        self._capacity = Capacity(context, parts.records)
        context.registry.listers.append(self._lines)
        context.registry.logs.append(self._log)
        context.registry.verbs["preempt"] = self._preempt_by_name

    # -- reading

    def get(self, call: Call) -> Json:
        return self._records.require(_key(call)).body

    def list(self, call: Call) -> Json:
        project, zone = call.params["project"], check_zone(call.params["project"], call.params["zone"])
        documents = [
            (key, record.body) for key, record in self._records.all(f"projects/{project}/zones/{zone}/")
        ]
        return listing(self._context.settings.base_url, call, "compute#instance", documents)

    def aggregated(self, call: Call) -> Json:
        documents = self._records.show(f"projects/{call.params['project']}/")
        return aggregated(
            self._context,
            call,
            "compute#instance",
            "instances",
            documents,
            ZONE_SCOPES,
        )

    def serial_port(self, call: Call) -> Json:
        record = self._records.require(_key(call))
        output = self._context.vms.serial_output(record.vm).encode()
        start = whole_number("start", call.query.get("start", ""))
        return {
            "kind": "compute#serialPortOutput",
            "selfLink": self._context.settings.base_url + call.raw_path,
            "contents": output[start:].decode(errors="replace"),
            "start": str(start),
            "next": str(max(start, len(output))),
        }

    def guest_attributes(self, call: Call) -> Json:
        key = _key(call)
        record = self._records.require(key)
        query_path, variable = call.query.get("queryPath", ""), call.query.get("variableKey", "")
        if not enabled(record.metadata()):
            raise not_found(f"{key}/guestAttributes/{variable or query_path}")
        found = self._parts.guest.query(key, query_path, variable)
        link = self._context.settings.base_url + call.raw_path
        return {"kind": "compute#guestAttributes", "selfLink": link} | found

    # -- making and unmaking

    def insert(self, call: Call) -> Json:
        body = check(call.json(), "Instance")
        return self._operations.once(call, lambda: self._insert(call, body))

    def _insert(self, call: Call, body: Json) -> Json:
        project = call.params["project"]
        zone = check_zone(project, call.params["zone"])
        key = f"projects/{project}/zones/{zone}/instances/{paths.check_name(body.get('name'))}"
        if self._records.get(key) is not None:
            raise already_exists(key)
        creation.check_refused(body, [fault.field for fault in self._context.faults.of(RefusedField)])
        asked = creation.read(self._context.settings, key, body, rfc3339(self._context.clock.now()))
        record = Record(body=asked.body, vm=self._vm_name(key, zone))
        self._capacity.check(key, record)
        disk = self._parts.disks.attach(key, asked.disk)
        record.body["disks"] = [creation.kept_disk(self._context.settings, disk, asked.disk)]
        if asked.nat_ip:
            record.ip = asked.nat_ip
            record.static = self._parts.addresses.attach(project, region_of(zone), asked.nat_ip, key)
        else:
            record.ip = self._parts.addresses.allocate()
        creation.show_address(record.body, record.ip)
        self._records.put(key, record)
        return self._work(key, record, "insert")

    def _vm_name(self, key: str, zone: str) -> str:
        """The instance's name, unless another project or zone has one of that name already."""
        name = paths.last(key)
        taken = self._records.vms()
        candidates = [name, f"{name}-{zone}", f"{name}-{zone}-{paths.project_of(key)}"]
        return next(candidate for candidate in candidates if candidate not in taken)

    def delete(self, call: Call) -> Json:
        return self._operations.once(call, lambda: self._delete(_key(call)))

    def _delete(self, key: str) -> Json:
        record = self._records.require(key)
        if record.body["deletionProtection"]:
            message = f"Resource '{key}' is protected against deletion"
            raise ApiError(400, "resourceInUse", f"Invalid resource usage: '{message}'.")
        self._set_status(key, record, "STOPPING")
        return self._work(key, record, "delete")

    # -- power

    def start(self, call: Call) -> Json:
        return self._operations.once(call, lambda: self._start(_key(call)))

    def _start(self, key: str) -> Json:
        record = self._records.require(key)
        if record.status == "STOPPING":
            return self._operation_only(key, record, "start", "operation-refuse")
        if record.status != "TERMINATED":
            return self._operation_only(key, record, "start", "operation-finish")
        self._capacity.check(key, record)
        record.preempted = False
        if not record.ip:
            record.ip = self._parts.addresses.allocate()
        creation.show_address(record.body, record.ip)
        self._set_status(key, record, "PROVISIONING")
        return self._work(key, record, "start")

    def stop(self, call: Call) -> Json:
        return self._operations.once(call, lambda: self._stop(_key(call)))

    def _stop(self, key: str) -> Json:
        record = self._records.require(key)
        if record.status not in ALIVE:
            return self._operation_only(key, record, "stop", "operation-finish")
        self._set_status(key, record, "STOPPING")
        return self._work(key, record, "stop")

    def suspend(self, call: Call) -> Json:
        return self._operations.once(call, lambda: self._from(_key(call), "suspend", "RUNNING", "SUSPENDING"))

    def resume(self, call: Call) -> Json:
        return self._operations.once(
            call, lambda: self._from(_key(call), "resume", "SUSPENDED", "PROVISIONING")
        )

    def _from(self, key: str, verb: str, before: str, then: str) -> Json:
        record = self._records.require(key)
        if record.status != before:
            return self._operation_only(key, record, verb, "operation-refuse")
        if verb == "resume":
            self._capacity.check(key, record)
        self._set_status(key, record, then)
        return self._work(key, record, verb)

    def reset(self, call: Call) -> Json:
        return self._operations.once(call, lambda: self._reset(_key(call)))

    def _reset(self, key: str) -> Json:
        record = self._records.require(key)
        if record.status != "RUNNING":
            return self._operation_only(key, record, "reset", "operation-refuse")
        return self._work(key, record, "reset")

    def simulate_maintenance(self, call: Call) -> Json:
        """Preempts a Spot VM; others are migrated, which nobody notices."""
        return self._operations.once(call, lambda: self._simulate(_key(call)))

    def _simulate(self, key: str) -> Json:
        record = self._records.require(key)
        if record.is_spot:
            self._preempt(key, record)
        return self._operation_only(key, record, "simulateMaintenanceEvent", "operation-finish")

    def _preempt_by_name(self, name: str) -> Json:
        """Control verb `preempt`: the instance of that name, wherever it is."""
        with self._context.store.transaction():
            found = [(key, record) for key, record in self._records.all() if paths.last(key) == name]
            if not found:
                raise not_found(f"instances/{name}")
            # Of one that moves there are two for a while, of which one at most can be preempted.
            return self._preempt(*min(found, key=lambda each: bool(_unpreemptible(each[1]))))

    def _preempt(self, key: str, record: Record) -> Json:
        why = _unpreemptible(record)
        if why:
            raise conflict(f"{key} cannot be preempted: it {why}", "notPreemptible")
        record.preempted = True
        notice = self._notice(record)
        if not notice:
            record.body["status"] = "STOPPING"
        self._records.put(key, record)
        event = self._operations.system_event(key, _PREEMPTED, record.body["id"], "Instance was preempted.")
        soft_off = rfc3339(self._context.clock.now() + timedelta(seconds=notice))
        self._tasks.add(key, "instance-preempt", {"operation": "", "key": key, "softOff": soft_off})
        return event

    def _notice(self, record: Record) -> float:
        """Seconds until the soft-off: what was asked for, where there is a guest to be told."""
        if record.status != "RUNNING":
            return 0.0
        longest = self._context.settings.durations.notice
        return min(creation.notice_seconds(record.body["scheduling"]), longest)

    # -- properties

    def set_metadata(self, call: Call) -> Json:
        body = check(call.json(), "Metadata")

        def change(record: Record) -> None:
            _same(record.body["metadata"]["fingerprint"], body.get("fingerprint"))
            record.body["metadata"] = creation.metadata(body)

        return self._operations.once(call, lambda: self._change(_key(call), "setMetadata", change))

    def set_labels(self, call: Call) -> Json:
        body = check(call.json(), "InstancesSetLabelsRequest")

        def change(record: Record) -> None:
            _same(record.body["labelFingerprint"], body.get("labelFingerprint"))
            labels = paths.check_labels(body.get("labels", {}))
            record.body["labels"] = labels
            record.body["labelFingerprint"] = paths.fingerprint(labels)
            if not labels:
                del record.body["labels"]

        return self._operations.once(call, lambda: self._change(_key(call), "setLabels", change))

    def set_tags(self, call: Call) -> Json:
        body = check(call.json(), "Tags")

        def change(record: Record) -> None:
            _same(record.body["tags"]["fingerprint"], body.get("fingerprint"))
            record.body["tags"] = creation.tags(body)

        return self._operations.once(call, lambda: self._change(_key(call), "setTags", change))

    def set_disk_auto_delete(self, call: Call) -> Json:
        device, value = call.query.get("deviceName", ""), call.query.get("autoDelete", "")
        if value not in ("true", "false"):
            raise invalid_field("autoDelete", value, "It is true or false.")

        def change(record: Record) -> None:
            disk = record.body["disks"][0]
            if device != disk["deviceName"]:
                raise invalid_field("deviceName", device, "There is no such device.")
            disk["autoDelete"] = value == "true"

        return self._operations.once(call, lambda: self._change(_key(call), "setDiskAutoDelete", change))

    def set_machine_type(self, call: Call) -> Json:
        body = check(call.json(), "InstancesSetMachineTypeRequest")
        zone = call.params["zone"]

        def change(record: Record) -> None:
            name = creation.machine_type(zone, body)
            if record.status != "TERMINATED":
                message = f"The resource '{_key(call)}' must be stopped before its machine type can be set"
                raise ApiError(400, "resourceNotReady", message, "FAILED_PRECONDITION")
            place = f"projects/{call.params['project']}/zones/{zone}"
            record.body["machineType"] = paths.url(self._context.settings, f"{place}/machineTypes/{name}")

        return self._operations.once(call, lambda: self._change(_key(call), "setMachineType", change))

    def add_access_config(self, call: Call) -> Json:
        body, key = check(call.json(), "AccessConfig"), _key(call)
        nic = call.query.get("networkInterface", "")

        def change(record: Record) -> None:
            access.add(self._parts.addresses, key, record, nic, body)

        return self._operations.once(call, lambda: self._change(key, "addAccessConfig", change))

    def delete_access_config(self, call: Call) -> Json:
        nic, name = call.query.get("networkInterface", ""), call.query.get("accessConfig", "")

        def change(record: Record) -> None:
            access.remove(self._parts.addresses, record, nic, name)

        return self._operations.once(call, lambda: self._change(_key(call), "deleteAccessConfig", change))

    def _change(self, key: str, verb: str, change: Callable[[Record], None]) -> Json:
        record = self._records.require(key)
        change(record)
        self._records.put(key, record)
        return self._operation_only(key, record, verb, "operation-finish")

    # -- shared

    def _set_status(self, key: str, record: Record, status: str) -> None:
        record.body["status"] = status
        self._records.put(key, record)

    def _work(self, key: str, record: Record, verb: str) -> Json:
        operation = self._operations.new(key, verb, record.body["id"])
        args = {"operation": paths.key_of(operation["selfLink"]), "key": key}
        self._tasks.add(key, f"instance-{verb}", args)
        return operation

    def _operation_only(self, key: str, record: Record, verb: str, task: str) -> Json:
        """An operation that changes nothing more; it does not wait for the instance's other tasks."""
        operation = self._operations.new(key, verb, record.body["id"])
        made = paths.key_of(operation["selfLink"])
        self._tasks.add(made, task, {"operation": made, "key": key})
        return operation

    def _lines(self) -> Iterator[Resource]:
        for _, record in self._records.all():
            zone = paths.last(record.body["zone"])
            runs = record.status in (*ALIVE, "STOPPING", "SUSPENDING")
            yield Resource(
                "instance",
                record.body["name"],
                zone,
                record.status,
                hourly=_hourly(record) if runs else 0.0,
                preemptible=not _unpreemptible(record),
            )

    def _log(self, name: str) -> str | None:
        for key, record in self._records.all():
            if paths.last(key) == name:
                return self._context.vms.serial_output(record.vm)
        return None


def _hourly(record: Record) -> float | None:
    """Of a running instance, with its address."""
    machine = prices.machine(paths.last(record.body["machineType"]), spot=record.is_spot)
    external = record.body["networkInterfaces"][0].get("accessConfigs")
    address = prices.address_in_use(spot=record.is_spot) if external else 0.0
    return None if machine is None else machine + address


def _unpreemptible(record: Record) -> str:
    """Why it cannot be preempted; empty if it can."""
    if not record.is_spot:
        return "is not a Spot VM"
    if record.status not in ALIVE:
        return f"is {record.status}"
    return "is being preempted already" if record.preempted else ""


def _key(call: Call) -> str:
    part = call.params
    return f"projects/{part['project']}/zones/{part['zone']}/instances/{part['instance']}"


def _same(current: str, given: str | None) -> None:
    # gcloud decodes and encodes it again, with the other base64 alphabet.
    if (given or "").translate(_URL_SAFE) != current.translate(_URL_SAFE):
        raise condition_not_met("Supplied fingerprint does not match the current one.")
