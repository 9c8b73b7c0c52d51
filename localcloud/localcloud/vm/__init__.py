"""Virtual machines: the protocol every backend keeps.

`simulated` has no process behind a VM, `docker` runs each as a container. What a VM *means* (its resource,
its operations) lives in `services/compute`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol


class VmState(StrEnum):
    """What a backend can say of a VM."""

    RUNNING = "running"
    STOPPED = "stopped"
    SUSPENDED = "suspended"
    ABSENT = "absent"


class VmError(Exception):
    """The backend could not do it; the message ends up in the operation's error."""


@dataclass(frozen=True)
class VmSpec:
    """Everything a backend needs to make or start one VM.

    `name` is unique in the whole local cloud and usually the instance's (the caller makes it unique where two
    zones hold the same instance name). `metadata` is `host:port` of the metadata server, which knows the VM
    by its source address `ip`. Processors and memory may differ at each start.
    """

    name: str
    zone: str
    ip: str
    metadata: str
    cpus: int
    memory_mib: int
    disk_gib: int
    image: str
    labels: dict[str, str] = field(default_factory=dict)


class VmBackend(Protocol):
    """Every call blocks and is made from worker threads; calls for one VM never overlap, except `state` and
    `serial_output`. All are idempotent: a restart of localcloud repeats the one it was in the middle of."""

    def create(self, spec: VmSpec) -> None:
        """Make the VM with an empty disk, not yet running. If it already exists it is left as it is."""

    def start(self, spec: VmSpec) -> None:
        """Boot from the kept disk. `spec.ip` may differ from the last boot's. Running already: no effect."""

    def stop(self, name: str, timeout_s: float) -> None:
        """Soft-off, power off after `timeout_s`; with 0 at once, and the guest hears nothing of it. Returns
        once it is off. Stopped or absent: no effect."""

    def suspend(self, name: str) -> None:
        """Halt it with its memory kept; `stop`, `delete` and `resume` end that. Not running: no effect."""

    def resume(self, name: str) -> None:
        """Let it go on where it was. Not suspended: no effect."""

    def delete(self, name: str) -> None:
        """Remove the VM and its disk, running or not. Absent: no effect."""

    def sweep(self, known: set[str]) -> None:
        """Remove every VM of this local cloud, or what is left of one, but these; meanwhile none is made."""

    def state(self, name: str) -> VmState: ...

    def serial_output(self, name: str) -> str:
        """All that the console has shown since the VM was made; empty if the VM is absent."""
