"""Bad things made to happen on purpose: failing calls, lost answers, latency, stock-outs, refused fields.

Faults are resources in the store: they survive a restart, and a counted one disappears when it is used up.
"""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from typing import Literal

from localcloud.store import Json, Store

_CALLS = "localcloud.fault"
_STOCK_OUTS = "localcloud.stock-out"
_REFUSED = "localcloud.refused-field"


@dataclass(frozen=True)
class CallFault:
    """The next `count` calls matching `method` and `path` (a regular expression searched in the path) fail.

    `when` = "before": nothing happens; "after": the call takes effect and its answer is lost.
    `code` 0 fails nothing and only delays by `latency` seconds.
    """

    path: str
    method: str = ""
    code: int = 503
    reason: str = "backendError"
    count: int = 1
    when: Literal["before", "after"] = "before"
    latency: float = 0.0


class Faults:
    """The faults that are in force."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def add(self, fault: CallFault) -> str:
        """Returns the fault's id."""
        re.compile(fault.path)
        name = uuid.uuid4().hex[:12]
        self._store.insert(_CALLS, name, dict(vars(fault)))
        return name

    def take(self, method: str, path: str) -> CallFault | None:
        """The fault for this call, if any; its count goes down by one."""
        if not self._store.list(_CALLS):  # nearly always; a transaction would make every call wait
            return None
        with self._store.transaction():
            for name, body in self._store.list(_CALLS):
                fault = CallFault(**body)
                if fault.method not in ("", method) or not re.search(fault.path, path):
                    continue
                if fault.count <= 1:
                    self._store.delete(_CALLS, name)
                else:
                    self._store.put(_CALLS, name, body | {"count": fault.count - 1})
                return fault
        return None

    def stock_out(self, zone: str, machine_type: str = "") -> None:
        """From now on `zone` has no `machine_type` (empty: nothing at all)."""
        self._store.put(_STOCK_OUTS, f"{zone}/{machine_type}", {"zone": zone, "machineType": machine_type})

    def restock(self, zone: str, machine_type: str = "") -> bool:
        """True if there was such a stock-out."""
        return self._store.delete(_STOCK_OUTS, f"{zone}/{machine_type}")

    def is_sold_out(self, zone: str, machine_type: str) -> bool:
        found = (self._store.get(_STOCK_OUTS, f"{zone}/{kind}") for kind in ("", machine_type))
        return any(found)

    def refuse(self, field: str) -> None:
        """From now on no new instance may have this field, such as `scheduling.preemptionNoticeDuration`."""
        self._store.put(_REFUSED, field, {"field": field})

    def refused_fields(self) -> list[str]:
        return [field for field, _ in self._store.list(_REFUSED)]

    def all(self) -> Json:
        return {
            "calls": [{"id": name} | body for name, body in self._store.list(_CALLS)],
            "stockOuts": [body for _, body in self._store.list(_STOCK_OUTS)],
            "refusedFields": self.refused_fields(),
        }

    def clear(self) -> None:
        with self._store.transaction():
            for kind in (_CALLS, _STOCK_OUTS, _REFUSED):
                for name, _ in self._store.list(kind):
                    self._store.delete(kind, name)
