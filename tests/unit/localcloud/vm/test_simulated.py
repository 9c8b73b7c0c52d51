from dataclasses import replace

import pytest

from localcloud.store import Store
from localcloud.vm import VmError, VmSpec, VmState
from localcloud.vm.simulated import SimulatedBackend

SPEC = VmSpec("vm1", "z", "10.0.0.10", "10.0.0.1:80", 2, 4096, 10, "image")


def test_a_vm_starts_stops_and_is_gone(store: Store) -> None:
    vms = SimulatedBackend(store)
    assert vms.state("vm1") is VmState.ABSENT
    with pytest.raises(VmError, match="never created"):
        vms.start(SPEC)
    vms.create(SPEC)
    assert vms.state("vm1") is VmState.STOPPED
    vms.start(SPEC)
    vms.start(SPEC)
    vms.create(SPEC)
    assert vms.state("vm1") is VmState.RUNNING, "create leaves what is there"
    assert SimulatedBackend(store).state("vm1") is VmState.RUNNING, "machines outlive localcloud"
    vms.stop("vm1", 30)
    vms.suspend("vm1")
    vms.resume("vm1")
    assert vms.state("vm1") is VmState.STOPPED, "only what runs can be suspended"
    vms.start(SPEC)
    vms.suspend("vm1")
    assert vms.state("vm1") is VmState.SUSPENDED
    vms.resume("vm1")
    vms.crash("vm1")
    assert vms.state("vm1") is VmState.STOPPED
    assert vms.serial_output("vm1").splitlines() == [
        "vm1: booted with address 10.0.0.10",
        "vm1: off within 30 s",
        "vm1: booted with address 10.0.0.10",
        "vm1: suspended",
        "vm1: running",
        "vm1: powered itself off",
    ]
    vms.delete("vm1")
    vms.delete("vm1")
    vms.stop("vm1", 30)
    assert (vms.state("vm1"), vms.serial_output("vm1")) == (VmState.ABSENT, "")


def test_what_nobody_knows_is_swept(store: Store) -> None:
    vms = SimulatedBackend(store)
    for name in ("vm1", "vm2"):
        vms.create(replace(SPEC, name=name))
    vms.sweep({"vm2", "vm3"})
    assert (vms.state("vm1"), vms.state("vm2")) == (VmState.ABSENT, VmState.STOPPED)
