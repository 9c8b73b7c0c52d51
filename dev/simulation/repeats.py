"""Reads that cannot have changed: of a cloud in which nothing was written of what they were answered from.

Most of what an operator does in a history is to look once more. So what it reads through its gateways is
remembered, with the documents of the local cloud that went into it, and read again only after one of these
was written. While a fault is in force that counts calls, or makes them late, what it may meet is read again.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from dataclasses import fields, replace
from datetime import datetime
from typing import Any

from budget_operator.cloud.inventory import Gateways
from localcloud import faults, iam
from localcloud.faults import CallFault, Fault, RateLimit
from localcloud.mounted import Mounted

_COMPUTE = (
    *("instances", "instance", "addresses", "address", "disks", "disk", "firewall", "guest_report"),
    *("power_changes", "power_events", "operation", "zone", "machine_type", "zones_with"),
)
_STORAGE = ("bucket", "objects", "contents", "listed", "read")
READS: Mapping[str, str] = {
    **dict.fromkeys(_COMPUTE, "compute"),
    **dict.fromkeys(_STORAGE, "storage"),
    "topic": "pubsub",
    "job": "cloudscheduler",
    "function": "cloudfunctions",
}
"""Of which service each is."""
ALWAYS = (faults.KIND, *iam.SOURCES)
"""Kinds of documents on which every answer depends, and which the local cloud remembers itself."""
Source = tuple[str, str]
"""Kind and key of a document; without a key all of the kind."""


class Repeats:
    """Of one cloud. A reader that has an operator's gateways of its own remembers what it has read itself."""

    def __init__(self, cloud: Mounted) -> None:
        self._faults = cloud.context.faults
        self._writes: Counter[Source] = Counter()
        self._noted: dict[Source, int] = {}
        """What the read that is being made is answered from, and how often that was written before."""
        store: Any = cloud.context.store
        told = store.on_write

        def wrote(kind: str, key: str) -> None:
            told(kind, key)
            self._writes.update(((kind, key), (kind, "")))

        store.on_write = wrote
        store.get = self._watched(store.get, keyed=True)
        for name in ("list", "show", "find", "column"):
            setattr(store, name, self._watched(getattr(store, name), keyed=False))

    def remembering(self, services: Gateways) -> Gateways:
        """The same gateways, for one operator."""
        known = {each.name: _Remembering(self, getattr(services, each.name)) for each in fields(services)}
        return replace(services, **known)

    def read(
        self, known: dict[Hashable, "Remembered"], service: str, key: Hashable, ask: Callable[[], Any]
    ) -> Any:
        """As it is known, or from `ask`."""
        if any(_counts(fault, service) for fault in self._faults.all()):
            return ask()
        found = known.get(key)
        if found is None or any(self._writes[source] != count for source, count in found[1].items()):
            noted = self._noted = {(kind, ""): self._writes[kind, ""] for kind in ALWAYS}
            try:
                found = known[key] = ask(), noted
            finally:
                self._noted = {}
        return found[0]

    def _watched(self, look: Callable[..., Any], *, keyed: bool) -> Callable[..., Any]:
        def watched(kind: str, key: str = "", *more: str) -> Any:
            source = kind, key if keyed else ""
            self._noted.setdefault(source, self._writes[source])
            return look(kind, key, *more)

        return watched


Remembered = tuple[Any, dict[Source, int]]


class _Remembering:
    """One gateway."""

    def __init__(self, repeats: Repeats, gateway: object) -> None:
        self._repeats = repeats
        self._gateway = gateway
        self._known: dict[Hashable, Remembered] = {}

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._gateway, name)
        if name not in READS:
            return method

        def read(*given: Any) -> Any:
            key = (name, *map(_rough, given))
            return self._repeats.read(self._known, READS[name], key, lambda: method(*given))

        return read


def _counts(fault: Fault, service: str) -> bool:
    """Whether each read of a service makes a difference to a fault."""
    if isinstance(fault, RateLimit):
        return fault.calls == "read" and fault.service == service
    return isinstance(fault, CallFault)


def _rough(given: Hashable) -> Hashable:
    """Since a moment is since about then: no history is as long as such a while."""
    return given.date() if isinstance(given, datetime) else given
