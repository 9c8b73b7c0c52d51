"""VMs without a process: they start and stop at once. For tests of everything but the guest."""

from __future__ import annotations

import threading

from localcloud.vm import VmError, VmSpec, VmState


class SimulatedBackend:
    """Remembers which VMs run. `crash` is the guest powering itself off."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._states: dict[str, VmState] = {}
        self._console: dict[str, list[str]] = {}

    def create(self, spec: VmSpec) -> None:
        with self._lock:
            self._states.setdefault(spec.name, VmState.STOPPED)
            self._console.setdefault(spec.name, [])

    def start(self, spec: VmSpec) -> None:
        with self._lock:
            if spec.name not in self._states:
                raise VmError(f"VM {spec.name} was never created")
            if self._states[spec.name] is not VmState.RUNNING:
                self._states[spec.name] = VmState.RUNNING
                self._console[spec.name].append(f"{spec.name}: booted with address {spec.ip}")

    def stop(self, name: str, timeout_s: float) -> None:
        with self._lock:
            if self._states.get(name) is VmState.RUNNING:
                self._states[name] = VmState.STOPPED
                self._console[name].append(f"{name}: off within {timeout_s:g} s")

    def delete(self, name: str) -> None:
        with self._lock:
            self._states.pop(name, None)
            self._console.pop(name, None)

    def state(self, name: str) -> VmState:
        with self._lock:
            return self._states.get(name, VmState.ABSENT)

    def serial_output(self, name: str) -> str:
        with self._lock:
            return "".join(f"{line}\n" for line in self._console.get(name, []))

    def crash(self, name: str) -> None:
        """The guest powers itself off."""
        with self._lock:
            if name in self._states:
                self._states[name] = VmState.STOPPED
                self._console[name].append(f"{name}: powered itself off")
