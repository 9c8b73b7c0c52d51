"""Looks whether what the backend has is what the instances say, at the start and every moment from then on.

At the start VMs that no instance describes are removed: their instances' store was lost. Later on a guest may
power itself off or crash at any time, and a VM may vanish; what follows from that is in `lifecycle`.
"""

from __future__ import annotations

import logging

from localcloud.clock import parse_rfc3339
from localcloud.context import Context
from localcloud.operations import Tasks
from localcloud.services.compute import paths
from localcloud.services.compute.records import Record, Records
from localcloud.services.loop import Loop
from localcloud.vm import VmError, VmState

log = logging.getLogger(__name__)


class Watcher:
    """Start it after the tasks: an instance that one of them works on is left to it."""

    def __init__(self, context: Context, tasks: Tasks, records: Records) -> None:
        self._context = context
        self._tasks = tasks
        self._records = records
        self._loop = Loop("compute-watcher", context.clock, self._step, context.settings.durations.watch)

    def start(self) -> None:
        try:
            self._context.vms.sweep(self._records.vms())
        except VmError:
            log.exception("VMs that nobody describes may be left over")
        self._loop.start()

    def stop(self) -> None:
        self._loop.stop()

    def _step(self) -> float:
        self.look()
        return self._context.settings.durations.watch

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
