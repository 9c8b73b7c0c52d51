"""Who lives at an address: the guest of the VM that is on there, seen at the moment of the question.

Nothing is kept: instances, VMs and faults are looked up by their keys each time, so a stop, a new revision
or a restart of the local cloud needs no word to anybody.
"""

from __future__ import annotations

from localcloud.clock import parse_rfc3339
from localcloud.context import Context
from localcloud.guests import guest
from localcloud.guests.guest import Failure, Guest
from localcloud.services.compute import paths
from localcloud.services.compute.records import Record, Records
from localcloud.vm import VmState


class Residents:
    """`ca` is the certificate (PEM) of the authority that signs for all of them."""

    def __init__(self, context: Context, ca: str) -> None:
        self._vms = context.vms
        self._faults = context.faults
        self._records = Records(context.store)
        self._ca = ca

    def at(self, address: str) -> Guest | None:
        """Who answers there; None: no VM is on that has this address."""
        found = self._records.with_address(address)
        return None if found is None else self._guest(*found)

    def attributes(self, instance: str) -> dict[str, str]:
        """What the guest of an instance tells while it is on."""
        record = self._records.get(instance)
        found = None if record is None else self._guest(instance, record)
        if record is None or found is None:
            return {}
        # Not the present moment: who waits for a change of the attributes would see one at every look.
        started = parse_rfc3339(record.body.get("lastStartTimestamp") or record.body["creationTimestamp"])
        return guest.attributes(found, self._ca, int(started.timestamp()))

    def _guest(self, instance: str, record: Record) -> Guest | None:
        if self._vms.state(record.vm) is not VmState.RUNNING:
            return None
        fault = self._faults.broken_model(paths.last(instance))
        failure = Failure(fault.reason, fault.message) if fault else None
        return guest.read(record.ip, record.metadata(), failure)
