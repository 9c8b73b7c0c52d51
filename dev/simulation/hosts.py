"""The host's side of simulated VMs, as `boot/startup.sh` has it: off when the budget is spent.

That the script goes by the same arithmetic is what tests/unit/budget_operator/test_limits.py looks at.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta

from budget_operator.core.budget import Limit
from localcloud.clock import Clock
from localcloud.mounted import Mounted
from localcloud.services.compute.records import Record, Records
from localcloud.services.compute.watcher import Watcher
from localcloud.vm.simulated import SimulatedBackend

#: The script looks at least so often.
LOOKS = timedelta(seconds=75)


class Hosts:
    """Of all VMs of a cloud. `seen` is for whoever notices that a VM has changed."""

    def __init__(self, cloud: Mounted, clock: Clock) -> None:
        self._vms = cloud.context.vms
        self._records = Records(cloud.context.store)
        self._background = cloud.context.registry.background
        self._clock = clock
        self._due: float | None = None

    def seen(self) -> None:
        self._due = None

    def due(self) -> float:
        """When the next VM switches itself off, by the monotonic clock."""
        if self._due is None:
            now = self._clock.now()
            left = [(at - now).total_seconds() for _, at in self._limits(now)]
            self._due = self._clock.monotonic() + max(0.0, min(left)) if left else float("inf")
        return self._due

    def act(self) -> None:
        """Those that are due go off."""
        if self._clock.monotonic() < self.due():
            return
        self._due = None
        now = self._clock.now()
        assert isinstance(self._vms, SimulatedBackend)
        for record, at in self._limits(now):
            if at <= now:
                self._vms.crash(record.vm)
        for each in self._background:
            if isinstance(each, Watcher):
                each.look()

    def _limits(self, now: datetime) -> Iterator[tuple[Record, datetime]]:
        """When each that runs is off; the beginning of a month may change it."""
        for _, record in self._records.running():
            limit = Limit.read(record.metadata())
            if limit is not None and limit.running > limit.stopped:
                yield record, limit.until(now) + LOOKS
