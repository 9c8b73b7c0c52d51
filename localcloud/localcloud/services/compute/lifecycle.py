"""What happens to instances over time: boot, stop, delete, preemption, and a guest that powers itself off.

Requests (`instances`) change an instance's status in the transaction of the request (PROVISIONING,
STOPPING); here worker threads do the rest over the VM backend. All of one instance's tasks run in one lane,
so they never overlap; a boot that finds its status changed was overtaken by a stop, a delete or a preemption.
The server may be killed at any moment: an operation ends in the same transaction as what it did, so a task
that is run again either finds its work to be done or is over.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime

from localcloud.clock import parse_rfc3339, rfc3339
from localcloud.context import Context
from localcloud.operations import Tasks
from localcloud.services.compute import paths
from localcloud.services.compute.addresses import Addresses
from localcloud.services.compute.capacity import Capacity, Refusal
from localcloud.services.compute.catalog import MACHINES
from localcloud.services.compute.creation import show_address
from localcloud.services.compute.disks import Disks
from localcloud.services.compute.guest import GuestAttributes
from localcloud.services.compute.operations import Operations
from localcloud.services.compute.records import Record, Records
from localcloud.store import Json
from localcloud.vm import VmSpec, VmState

log = logging.getLogger(__name__)

_NOTICE_LOOK = 1.0  # seconds in which a stop in the middle of a notice is noticed
_GUEST_OFF = ("compute.instances.guestTerminate", "Instance terminated by guest OS shutdown.")
_HOST_ERROR = ("compute.instances.hostError", "Instance terminated by Compute Engine.")
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
        problem = self._boot(args)
        if problem is None:
            return
        self._vms.delete(self._parts.records.require(args["key"]).vm)
        with self._store.transaction():
            self._forget(args["key"])
            self._fail(args, problem)

    def _start(self, args: Json) -> None:
        self._operations.begin(args["operation"])
        problem = self._boot(args)
        if problem is None:
            return
        self._vms.stop(self._parts.records.require(args["key"]).vm, 0)
        with self._store.transaction():
            self._off(args["key"])
            self._fail(args, problem)

    def _boot(self, args: Json) -> Refusal | None:
        """Why the instance could not be had and is to be put back to where it was."""
        key = args["key"]
        try:
            self._tasks.sleep(self._durations.provisioning)
            record = self._move(key, ("PROVISIONING", "STAGING"), "STAGING")
            refusal = self._capacity.refusal(key, record, "operation")
            if refusal is not None:
                return refusal
            self._tasks.sleep(self._durations.staging + self._context.faults.boot_delay(paths.last(key)))
            problem = self._power_on(self.spec(record))
            if problem:
                return Refusal("INTERNAL_ERROR", problem, 500, "internalError")
            with self._store.transaction():
                self._move(key, ("STAGING",), "RUNNING")
                self._operations.done(args["operation"])
        except _Overtaken:
            self._overtaken(args)
        return None

    def _fail(self, args: Json, problem: Refusal) -> None:
        self._operations.fail(args["operation"], problem.code, problem.message, problem.http)

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
        with self._store.transaction():
            self._off(args["key"])
            self._operations.done(args["operation"])

    def _power_off(self, key: str) -> Record | None:
        """The instance, if there is one, whose VM is off now."""
        record = self._parts.records.get(key)
        if record is not None:
            grace = self._durations.stop_spot if record.is_spot else self._durations.stop_standard
            self._vms.stop(record.vm, grace)
        return record

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
        record = self._parts.records.require(args["key"])
        refusal = self._capacity.refusal(args["key"], record, "operation")
        if refusal is None:
            self._turn(args, "PROVISIONING", "RUNNING", self._vms.resume)
            return
        with self._store.transaction():
            self._fail(args, refusal)
            with suppress(_Overtaken):
                self._move(args["key"], ("PROVISIONING",), "SUSPENDED")

    def _turn(self, args: Json, before: str, after: str, turn: Callable[[str], None]) -> None:
        try:
            turn(self._move(args["key"], (before,), before).vm)
            with self._store.transaction():
                self._move(args["key"], (before,), after)
                self._operations.done(args["operation"])
        except _Overtaken:
            self._overtaken(args)

    def _overtaken(self, args: Json) -> None:
        record = self._parts.records.get(args["key"])
        message = f"The operation on '{args['key']}' was overtaken by a stop or a deletion."
        if record is not None and record.preempted:
            message = f"Instance '{record.body['name']}' failed to start due to preemption."
        self._operations.fail(args["operation"], "UNSUPPORTED_OPERATION", message, 400)

    def _delete(self, args: Json) -> None:
        self._operations.begin(args["operation"])
        record = self._power_off(args["key"])
        if record is not None:
            self._vms.delete(record.vm)
        with self._store.transaction():
            self._forget(args["key"])
            self._operations.done(args["operation"])

    def _forget(self, key: str) -> None:
        """The instance is gone, and what belonged to it alone; its VM went before."""
        with self._store.transaction():
            record = self._parts.records.get(key)
            if record is None:
                return
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
        record = self._power_off(key)
        if record is not None and record.body["scheduling"].get("instanceTerminationAction") == "DELETE":
            self._vms.delete(record.vm)
            self._forget(key)
        else:
            self._off(key)

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
        if record is None or record.status != "RUNNING":
            return
        state = self._vms.state(record.vm)
        if state is VmState.RUNNING:
            return
        what, message = _HOST_ERROR if state is VmState.ABSENT else _GUEST_OFF
        with self._store.transaction():
            self._operations.system_event(args["key"], what, record.body["id"], message)
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
        with self._store.transaction():
            if args["operation"]:
                message = f"{type(error).__name__}: {error}"
                self._operations.fail(args["operation"], "INTERNAL_ERROR", message, 500)
            record = self._parts.records.get(args["key"])
            if record is not None and record.status in ("PROVISIONING", "STAGING", "STOPPING", "SUSPENDING"):
                self._off(args["key"])
