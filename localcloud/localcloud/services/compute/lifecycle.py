"""What happens to instances over time: boot, stop, delete, preemption, and a guest that powers itself off.

Requests (`instances`) change an instance's status in the transaction of the request (PROVISIONING,
STOPPING); here worker threads do the rest over the VM backend. All of one instance's tasks run in one lane,
so they never overlap; a boot that finds its status changed was overtaken by a stop, a delete or a preemption.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime

from localcloud.clock import parse_rfc3339, rfc3339
from localcloud.context import Context
from localcloud.operations import Tasks
from localcloud.services.compute import paths
from localcloud.services.compute.addresses import Addresses
from localcloud.services.compute.capacity import Capacity
from localcloud.services.compute.catalog import MACHINES
from localcloud.services.compute.creation import show_address
from localcloud.services.compute.disks import Disks
from localcloud.services.compute.guest import GuestAttributes
from localcloud.services.compute.operations import Operations
from localcloud.services.compute.records import Record, Records
from localcloud.store import Json
from localcloud.vm import VmSpec, VmState

log = logging.getLogger(__name__)

_NOTICE_LOOK = 0.1
ALIVE = ("PROVISIONING", "STAGING", "RUNNING")


class _Overtaken(Exception):
    """Somebody stopped, deleted or preempted the instance while it was booting."""


class Parts:
    """What an instance is made of, each with its owner."""

    def __init__(self, records: Records, addresses: Addresses, disks: Disks, guest: GuestAttributes) -> None:
        self.records = records
        self.addresses = addresses
        self.disks = disks
        self.guest = guest


class Lifecycle:
    """Task handlers; `args` are `{"operation": <its path or "">, "key": <the instance's path>}`."""

    def __init__(self, context: Context, operations: Operations, tasks: Tasks, parts: Parts) -> None:
        self._context = context
        self._store = context.store
        self._vms = context.vms
        self._durations = context.settings.durations
        self._operations = operations
        self._tasks = tasks
        self._parts = parts
        self._capacity = Capacity(context, parts.records)
        for verb, handler in {
            "instance-insert": self._insert,
            "instance-start": self._start,
            "instance-stop": self._stop,
            "instance-suspend": self._suspend,
            "instance-resume": self._resume,
            "instance-delete": self._delete,
            "instance-reset": self._reset,
            "instance-preempt": self._preempt,
            "instance-guest-off": self._guest_off,
            "operation-finish": self._finish,
            "operation-refuse": self._refuse,
        }.items():
            tasks.on(verb, handler)
        tasks.on_failure(self._broken)

    # -- boot

    def _insert(self, args: Json) -> None:
        self._operations.begin(args["operation"])
        if not self._boot(args):
            self._remove(args["key"])

    def _start(self, args: Json) -> None:
        self._operations.begin(args["operation"])
        if not self._boot(args):
            record = self._parts.records.require(args["key"])
            self._vms.stop(record.vm, 0)
            self._off(args["key"])

    def _boot(self, args: Json) -> bool:
        """False if the instance could not be had and is to be put back to where it was."""
        key = args["key"]
        try:
            self._tasks.sleep(self._durations.provisioning)
            record = self._move(key, ("PROVISIONING", "STAGING"), "STAGING")
            if self._is_refused(args, record):
                return False
            self._tasks.sleep(self._durations.staging + self._context.faults.boot_delay(paths.last(key)))
            problem = self._power_on(self.spec(record))
            if problem:
                self._operations.fail(args["operation"], "INTERNAL_ERROR", problem, 500)
                return False
            self._move(key, ("STAGING",), "RUNNING")
        except _Overtaken:
            self._overtaken(args)
            return True
        self._operations.done(args["operation"])
        return True

    def _is_refused(self, args: Json, record: Record) -> bool:
        """Whether there is no room for it; then the operation has failed."""
        found = self._capacity.refusal(args["key"], record, "operation")
        if found is not None:
            self._operations.fail(args["operation"], found.code, found.message, found.http)
        return found is not None

    def _power_on(self, spec: VmSpec) -> str:
        """What went wrong, or nothing: whatever a backend raises becomes the operation's error."""
        try:
            self._vms.create(spec)
            self._vms.start(spec)
        except Exception as error:
            log.exception("VM %s does not start", spec.name)
            return f"{type(error).__name__}: {error}"
        return ""

    def _move(self, key: str, before: Sequence[str], after: str) -> Record:
        with self._store.transaction():
            record = self._parts.records.get(key)
            if record is None or record.status not in before:
                raise _Overtaken
            record.body["status"] = after
            if after == "RUNNING":
                record.body["cpuPlatform"] = "Intel Broadwell"
                record.body["lastStartTimestamp"] = rfc3339(self._context.clock.now())
            self._parts.records.put(key, record)
            return record

    def spec(self, record: Record) -> VmSpec:
        disk = self._parts.disks.boot(record.body)
        machine = MACHINES[paths.last(record.body["machineType"])]
        return VmSpec(
            name=record.vm,
            zone=paths.last(record.body["zone"]),
            ip=record.ip,
            metadata=self._context.settings.address,
            cpus=machine.cpus,
            memory_mib=machine.memory_mb,
            disk_gib=int(disk["sizeGb"]),
            image=disk["sourceImage"],
            labels=record.body.get("labels", {}),
        )

    # -- the way down

    def _stop(self, args: Json) -> None:
        self._operations.begin(args["operation"])
        self._power_off(args["key"])
        self._operations.done(args["operation"])

    def _power_off(self, key: str) -> None:
        record = self._parts.records.get(key)
        if record is not None:
            self._vms.stop(record.vm, self._grace(record))
            self._off(key)

    def _grace(self, record: Record) -> float:
        return self._durations.stop_spot if record.is_spot else self._durations.stop_standard

    def _off(self, key: str) -> None:
        """The instance is TERMINATED: the disk and a static address are kept, an ephemeral address is not."""
        with self._store.transaction():
            record = self._parts.records.get(key)
            if record is None:
                return
            record.body["status"] = "TERMINATED"
            record.body["lastStopTimestamp"] = rfc3339(self._context.clock.now())
            if not record.static:
                record.ip = ""
                show_address(record.body, "")
            self._parts.records.put(key, record)

    def _suspend(self, args: Json) -> None:
        self._operations.begin(args["operation"])
        self._turn(args, "SUSPENDING", "SUSPENDED", self._vms.suspend)

    def _resume(self, args: Json) -> None:
        self._operations.begin(args["operation"])
        self._tasks.sleep(self._durations.provisioning)
        if not self._is_refused(args, self._parts.records.require(args["key"])):
            self._turn(args, "PROVISIONING", "RUNNING", self._vms.resume)
            return
        with suppress(_Overtaken):
            self._move(args["key"], ("PROVISIONING",), "SUSPENDED")

    def _turn(self, args: Json, before: str, after: str, turn: Callable[[str], None]) -> None:
        try:
            turn(self._move(args["key"], (before,), before).vm)
            self._move(args["key"], (before,), after)
        except _Overtaken:
            self._overtaken(args)
            return
        self._operations.done(args["operation"])

    def _overtaken(self, args: Json) -> None:
        record = self._parts.records.get(args["key"])
        message = f"The operation on '{args['key']}' was overtaken by a stop or a deletion."
        if record is not None and record.preempted:
            message = f"Instance '{record.body['name']}' failed to start due to preemption."
        self._operations.fail(args["operation"], "UNSUPPORTED_OPERATION", message, 400)

    def _delete(self, args: Json) -> None:
        self._operations.begin(args["operation"])
        record = self._parts.records.get(args["key"])
        if record is not None:
            self._vms.stop(record.vm, self._grace(record))
            self._remove(args["key"])
        self._operations.done(args["operation"])

    def _remove(self, key: str) -> None:
        record = self._parts.records.get(key)
        if record is None:
            return
        self._vms.delete(record.vm)
        with self._store.transaction():
            if record.static:
                self._parts.addresses.detach(record.static)
            for disk in record.body["disks"]:
                self._parts.disks.detach(paths.key_of(disk["source"]), keep=not disk["autoDelete"])
            self._parts.guest.forget(key)
            self._parts.records.delete(key)

    def _preempt(self, args: Json) -> None:
        """The guest reads `preempted` since the request; the notice, if any, passes before the soft-off."""
        key = args["key"]
        if not self._notice_passes(key, parse_rfc3339(args["softOff"])):
            return
        self._power_off(key)
        record = self._parts.records.get(key)
        if record is not None and record.body["scheduling"].get("instanceTerminationAction") == "DELETE":
            self._remove(key)

    def _notice_passes(self, key: str, soft_off: datetime) -> bool:
        """False if the instance was stopped, deleted or started anew in the meantime."""
        while True:
            with self._store.transaction():
                record = self._parts.records.get(key)
                if record is None or not record.preempted or record.status not in ("RUNNING", "STOPPING"):
                    return False
                left = (soft_off - self._context.clock.now()).total_seconds()
                if left <= 0:
                    record.body["status"] = "STOPPING"
                    self._parts.records.put(key, record)
                    return True
                if record.status == "STOPPING":
                    return False
            self._tasks.sleep(min(left, _NOTICE_LOOK))

    def _guest_off(self, args: Json) -> None:
        record = self._parts.records.get(args["key"])
        if record is None or record.status != "RUNNING" or self._vms.state(record.vm) is VmState.RUNNING:
            return
        message = "Instance terminated by guest OS shutdown."
        target_id = record.body["id"]
        with self._store.transaction():
            self._operations.system_event(args["key"], "compute.instances.guestTerminate", target_id, message)
            self._off(args["key"])

    def _reset(self, args: Json) -> None:
        self._operations.begin(args["operation"])
        record = self._parts.records.get(args["key"])
        if record is not None and record.status == "RUNNING":
            self._vms.stop(record.vm, 0)
            self._vms.start(self.spec(record))
        self._operations.done(args["operation"])

    # -- operations without work of their own

    def _finish(self, args: Json) -> None:
        self._operations.begin(args["operation"])
        self._tasks.sleep(self._durations.operation)
        self._operations.done(args["operation"])

    def _refuse(self, args: Json) -> None:
        message = f"The resource '{args['key']}' is not ready"
        self._operations.fail(args["operation"], "RESOURCE_NOT_READY", message, 400)

    def _broken(self, args: Json, error: Exception) -> None:
        """The backend failed. What never ran is put back to where it was; the operation says why."""
        if args["operation"]:
            self._operations.fail(
                args["operation"], "INTERNAL_ERROR", f"{type(error).__name__}: {error}", 500
            )
        record = self._parts.records.get(args["key"])
        if record is not None and record.status in ("PROVISIONING", "STAGING", "STOPPING", "SUSPENDING"):
            self._off(args["key"])


class Watcher:
    """Looks whether the VMs that should run still do: a guest may power itself off or crash at any time."""

    def __init__(self, context: Context, tasks: Tasks, records: Records) -> None:
        self._context = context
        self._tasks = tasks
        self._records = records
        self._stopping = threading.Event()
        self._thread = context.clock.thread(self._run, "compute watcher")

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._context.clock.wait(self._context.settings.durations.watch, self._stopping):
            self.look()

    def look(self) -> None:
        for key, record in self._records.running():
            if self._tasks.busy(key):
                continue
            if self._crashes(key, record):
                self._context.vms.stop(record.vm, 0)
            if self._context.vms.state(record.vm) is not VmState.RUNNING:
                self._tasks.add(key, "instance-guest-off", {"operation": "", "key": key})

    def _crashes(self, key: str, record: Record) -> bool:
        after = self._context.faults.crash_after(paths.last(key))
        if after is None:
            return False
        up = self._context.clock.now() - parse_rfc3339(record.body["lastStartTimestamp"])
        return up.total_seconds() >= after
