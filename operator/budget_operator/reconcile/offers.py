"""Looks up whether Google has the zones and the machine type a spec asks for, before anything is paid for.

One look per zone and machine type, shared by all deployments: what exists stays, what does not is asked for
again after a while. Whether a zone has room is `core.capacity`'s business.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from budget_operator.core.api import Spec
from budget_operator.core.errors import BudgetError, InvalidSpec
from budget_operator.core.gateways import Compute
from budget_operator.core.observed import Instance

ABSENCE_TRUSTED = timedelta(minutes=5)
ZONES_TRUSTED = timedelta(hours=1)


@dataclass(frozen=True)
class _Answer:
    at: datetime
    zone: bool
    machine_type: bool


class Offers:
    """The memory of look-ups. Safe to share between workers."""

    def __init__(self, compute: Compute, clock: Callable[[], datetime]) -> None:
        self._compute = compute
        self._clock = clock
        self._answers: dict[tuple[str, str], _Answer] = {}
        self._zones: dict[str, tuple[datetime, frozenset[str]]] = {}
        self._lock = threading.Lock()

    def zones(self, machine_type: str) -> frozenset[str]:
        """All that offer the machine type."""
        now = self._clock()
        with self._lock:
            known = self._zones.get(machine_type)
        if known is not None and timedelta(0) <= now - known[0] < ZONES_TRUSTED:
            return known[1]
        found = frozenset(self._compute.zones_with(machine_type).items)
        with self._lock:
            self._zones[machine_type] = now, found
        return found

    def check(self, spec: Spec, zones: tuple[str, ...], instance: Instance | None) -> None:
        """Refuse zones that do not exist, and a machine type that one of them, or the VM's own, has not.

        Raises:
            InvalidSpec: naming the field.
            BudgetError: it could not be looked up, and something depends on it.
        """
        wanted = spec.machine.type
        changes = instance is not None and instance.machine_type != wanted
        places = dict.fromkeys((*([instance.zone] if instance is not None and changes else []), *zones))
        have: list[str] = []
        have_not: list[str] = []
        for zone in places:
            if instance is not None and (zone, wanted) == (instance.zone, instance.machine_type):
                have.append(zone)
                continue
            try:
                answer = self._answer(zone, wanted)
            except BudgetError:
                if instance is None or changes:
                    raise
                continue  # the VM is there as it should be: nothing hangs on the answer now
            if not answer.zone:
                field = "BUDGET_ZONES" if spec.placement is None else "spec.placement.zones"
                raise InvalidSpec(f"{field}: there is no zone {zone}")
            (have if answer.machine_type else have_not).append(zone)
        if have_not:
            others = f"; {', '.join(have)} would (spec.placement.zones)" if have else ""
            raise InvalidSpec(f"spec.machine.type: {', '.join(have_not)} does not offer {wanted}{others}")

    def _answer(self, zone: str, machine_type: str) -> _Answer:
        now = self._clock()
        with self._lock:
            known = self._answers.get((zone, machine_type))
        if known is not None and (known.machine_type or timedelta(0) <= now - known.at < ABSENCE_TRUSTED):
            return known
        offered = self._compute.machine_type(zone, machine_type)
        answer = _Answer(now, offered or self._compute.zone(zone), offered)
        with self._lock:
            self._answers[zone, machine_type] = answer
        return answer
