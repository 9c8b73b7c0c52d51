"""Boot disks as resources: made with their instance, made larger if asked, gone with it if `autoDelete` says
so, and otherwise left behind.

The bytes belong to the VM backend and go with the VM; a disk that stayed behind is what one would be billed
for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from localcloud.clock import rfc3339
from localcloud.context import Context, Resource
from localcloud.errors import already_exists, in_use, invalid_field, not_found
from localcloud.operations import Tasks
from localcloud.services.compute import paths, prices
from localcloud.services.compute.catalog import ZONE_SCOPES, check_zone
from localcloud.services.compute.lists import aggregated, listing
from localcloud.services.compute.operations import Operations
from localcloud.services.compute.records import Records
from localcloud.services.compute.schema import check
from localcloud.store import Json
from localcloud.web import Call

DISK = "compute.disk"
_LARGEST_GB = 65_536


class Disks:
    def __init__(self, context: Context, operations: Operations, tasks: Tasks, records: Records) -> None:
        self._context = context
        self._store = context.store
        self._records = records
        self._operations = operations
        self._tasks = tasks
        tasks.on("disk-delete", self._deleted)
        tasks.on("disk-resize", self._resized)
        context.registry.listers.append(self._lines)

    def attach(self, instance: str, asked: Json) -> str:
        """Make the boot disk that an instance's first `disks` entry asks for; returns its path."""
        parameters = asked.get("initializeParams", {})
        place = instance.rsplit("/instances/", 1)[0]
        field = "resource.disks[0].initializeParams.diskName"
        name = paths.check_name(parameters.get("diskName") or paths.last(instance), field)
        key = f"{place}/disks/{name}"
        if self._store.get(DISK, key) is not None:
            raise already_exists(key)
        now = rfc3339(self._context.clock.now())
        labels = paths.check_labels(parameters.get("labels", {}))
        kind = paths.last(parameters.get("diskType", "pd-standard"))
        disk: Json = {
            "kind": "compute#disk",
            "id": paths.new_id(),
            "creationTimestamp": now,
            "lastAttachTimestamp": now,
            "name": name,
            "sizeGb": str(parameters.get("diskSizeGb") or 10),
            "zone": paths.url(self._context.settings, place),
            "status": "READY",
            "selfLink": paths.url(self._context.settings, key),
            "sourceImage": parameters["sourceImage"],
            "type": paths.url(self._context.settings, f"{place}/diskTypes/{kind}"),
            "users": [paths.url(self._context.settings, instance)],
            "labelFingerprint": paths.fingerprint(labels),
            "physicalBlockSizeBytes": "4096",
        }
        if labels:
            disk["labels"] = labels
        self._store.insert(DISK, key, disk)
        return key

    def detach(self, key: str, keep: bool) -> None:
        """The instance is gone."""
        disk = self._store.get(DISK, key)
        if disk is not None and keep:
            disk.pop("users", None)
            disk["lastDetachTimestamp"] = rfc3339(self._context.clock.now())
            self._store.put(DISK, key, disk)
        else:
            self._store.delete(DISK, key)

    def boot(self, instance: Json) -> Json:
        """The boot disk of an instance's resource."""
        return self._require(paths.key_of(instance["disks"][0]["source"]))

    def get(self, call: Call) -> Json:
        return self._require(_key(call))

    def list(self, call: Call) -> Json:
        project, zone = call.params["project"], check_zone(call.params["project"], call.params["zone"])
        documents = self._store.list(DISK, f"projects/{project}/zones/{zone}/")
        return listing(self._context.settings.base_url, call, "compute#disk", documents)

    def aggregated(self, call: Call) -> Json:
        documents = self._store.show(DISK, f"projects/{call.params['project']}/")
        return aggregated(
            self._context,
            call,
            "compute#disk",
            "disks",
            documents,
            ZONE_SCOPES,
        )

    def delete(self, call: Call) -> Json:
        return self._operations.once(call, lambda: self._delete(_key(call)))

    def _delete(self, key: str) -> Json:
        disk = self._require(key)
        if disk.get("users"):
            raise in_use(key, paths.key_of(disk["users"][0]))
        operation = self._operations.new(key, "delete", disk["id"])
        self._tasks.add(key, "disk-delete", {"operation": paths.key_of(operation["selfLink"]), "key": key})
        return operation

    def _deleted(self, args: Json) -> None:
        self._operations.begin(args["operation"])
        self._tasks.sleep(self._context.settings.durations.operation)
        with self._store.transaction():
            self._store.delete(DISK, args["key"])
            self._operations.done(args["operation"])

    def resize(self, call: Call) -> Json:
        """Whether the disk is in use or not. What the guest does with the room is its own affair."""
        body = check(call.json(), "DisksResizeRequest")
        return self._operations.once(call, lambda: self._resize(_key(call), int(body.get("sizeGb", 0))))

    def _resize(self, key: str, size: int) -> Json:
        disk = self._require(key)
        if not int(disk["sizeGb"]) < size <= _LARGEST_GB:
            why = f"It must be larger than the {disk['sizeGb']} GB of the disk, and at most {_LARGEST_GB}."
            raise invalid_field("sizeGb", size, why)
        operation = self._operations.new(key, "resizeDisk", disk["id"])
        args = {"operation": paths.key_of(operation["selfLink"]), "key": key, "size": size}
        self._tasks.add(key, "disk-resize", args)
        return operation

    def _resized(self, args: Json) -> None:
        self._operations.begin(args["operation"])
        self._tasks.sleep(self._context.settings.durations.operation)
        with self._store.transaction():
            disk = self._store.get(DISK, args["key"])
            if disk is not None and int(disk["sizeGb"]) < args["size"]:
                self._store.put(DISK, args["key"], disk | {"sizeGb": str(args["size"])})
                self._show_size(disk.get("users", ()), str(args["size"]))
            self._operations.done(args["operation"])

    def _show_size(self, users: Iterable[str], size: str) -> None:
        for key in map(paths.key_of, users):
            record = self._records.require(key)
            record.body["disks"][0]["diskSizeGb"] = size
            self._records.put(key, record)

    def _require(self, key: str) -> Json:
        disk = self._store.get(DISK, key)
        if disk is None:
            raise not_found(key)
        return disk

    def _lines(self) -> Iterator[Resource]:
        for key, disk in self._store.list(DISK):
            state = "IN_USE" if disk.get("users") else disk["status"]
            hourly = prices.disk(paths.last(disk["type"]), int(disk["sizeGb"]))
            yield Resource("disk", disk["name"], paths.last(paths.scope_of(key)), state, hourly=hourly)


def _key(call: Call) -> str:
    part = call.params
    return f"projects/{part['project']}/zones/{part['zone']}/disks/{part['disk']}"
