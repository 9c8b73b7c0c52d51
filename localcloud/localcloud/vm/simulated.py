"""VMs without a process: they start and stop at once. For tests of everything but the guest; what that
would answer is in `guests`.

What runs is kept in the store: like real machines, simulated ones do not notice that localcloud restarts.
"""

from __future__ import annotations

from localcloud.store import Json, Store
from localcloud.vm import VmError, VmSpec, VmState

_KIND = "vm.simulated"


class SimulatedBackend:
    """Remembers which VMs run. `crash` is the guest powering itself off."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def create(self, spec: VmSpec) -> None:
        with self._store.transaction():
            if self._store.get(_KIND, spec.name) is None:
                self._store.insert(_KIND, spec.name, {"state": VmState.STOPPED, "console": ""})

    def start(self, spec: VmSpec) -> None:
        with self._store.transaction():
            vm = self._store.get(_KIND, spec.name)
            if vm is None:
                raise VmError(f"VM {spec.name} was never created")
            if vm["state"] != VmState.RUNNING:
                self._become(spec.name, vm, VmState.RUNNING, f"booted with address {spec.ip}")

    def stop(self, name: str, timeout_s: float) -> None:
        with self._store.transaction():
            vm = self._store.get(_KIND, name)
            if vm is not None and vm["state"] != VmState.STOPPED:
                self._become(name, vm, VmState.STOPPED, f"off within {timeout_s:g} s")

    def suspend(self, name: str) -> None:
        self._turn(name, VmState.RUNNING, VmState.SUSPENDED)

    def resume(self, name: str) -> None:
        self._turn(name, VmState.SUSPENDED, VmState.RUNNING)

    def _turn(self, name: str, before: VmState, after: VmState) -> None:
        with self._store.transaction():
            vm = self._store.get(_KIND, name)
            if vm is not None and vm["state"] == before:
                self._become(name, vm, after, str(after))

    def delete(self, name: str) -> None:
        self._store.delete(_KIND, name)

    def sweep(self, known: set[str]) -> None:
        for name, _ in self._store.list(_KIND):
            if name not in known:
                self.delete(name)

    def state(self, name: str) -> VmState:
        vm = self._store.get(_KIND, name)
        return VmState.ABSENT if vm is None else VmState(vm["state"])

    def serial_output(self, name: str) -> str:
        vm = self._store.get(_KIND, name)
        return "" if vm is None else str(vm["console"])

    def crash(self, name: str) -> None:
        """The guest powers itself off."""
        with self._store.transaction():
            vm = self._store.get(_KIND, name)
            if vm is not None:
                self._become(name, vm, VmState.STOPPED, "powered itself off")

    def _become(self, name: str, vm: Json, state: VmState, line: str) -> None:
        self._store.put(_KIND, name, {"state": state, "console": f"{vm['console']}{name}: {line}\n"})
