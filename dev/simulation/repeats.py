"""Reads that cannot have changed: of a cloud in which nothing was written of what they were answered from.

Most of what an operator does in a history is to look once more. So what it reads through its gateways is
remembered, with the documents of the local cloud that went into it, and read again only after one of these
was written, whichever process of the same settings asks. While a fault is in force that counts calls, or
makes them late, what it may meet is read again.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import fields, replace
from datetime import datetime
from typing import Any

from budget_operator.cloud.inventory import Gateways
from budget_operator.core.settings import Settings
from localcloud import faults, iam
from localcloud.faults import CallFault, DisabledApi, Fault, RateLimit
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
ALWAYS = iam.SOURCES
"""Kinds of documents on which every answer depends, and which the local cloud remembers itself."""
OF_CHANGES = (
    *(faults.StockOut, faults.Quota, faults.FreshApi, faults.RefusedField),
    *(faults.SlowBoot, faults.CrashingVm, faults.Duplicates, faults.Disorder),
)
"""Faults that no read meets: what they do is seen in the documents."""
Source = tuple[str, str]
"""Kind and key of a document, or what the keys of several begin with, up to a slash; without it all of the
kind."""


class Repeats:
    """Of one cloud. `asked` counts what has reached it."""

    def __init__(self, cloud: Mounted) -> None:
        self.asked = 0
        self._faults = cloud.context.faults
        self._known: dict[Settings, dict[Hashable, Remembered]] = {}
        self._writes: Counter[Source] = Counter()
        self._noted: dict[Source, int] = {}
        """What the read that is being made is answered from, and how often that was written before."""
        store: Any = cloud.context.store
        told = store.on_write

        def wrote(kind: str, key: str) -> None:
            told(kind, key)
            self._writes.update((kind, begins) for begins in _beginnings(key))

        store.on_write = wrote
        store.get = self._watched(store.get, _whole)
        for name in ("list", "show"):
            setattr(store, name, self._watched(getattr(store, name), _folder))
        for name in ("find", "column"):
            setattr(store, name, self._watched(getattr(store, name), _anything))

    def remembering(self, services: Gateways, settings: Settings) -> Gateways:
        """The same gateways, for one operator: it is told what others with its settings have read."""
        known, names = self._known.setdefault(settings, {}), [each.name for each in fields(services)]
        found = {name: _Remembering(self, getattr(services, name), known) for name in names}
        return replace(services, **found)

    def read(
        self, known: dict[Hashable, "Remembered"], service: str, key: Hashable, ask: Callable[[], Any]
    ) -> Any:
        """As it is known, or from `ask`."""
        met = tuple(fault for fault in self._faults.all() if _meets(fault, service))
        if any(isinstance(fault, CallFault | RateLimit) for fault in met):
            self.asked += 1
            return ask()
        found = known.get((key, met))
        if found is None or any(self._writes[source] != count for source, count in found[1].items()):
            self.asked += 1
            noted = self._noted = {(kind, ""): self._writes[kind, ""] for kind in ALWAYS}
            try:
                found = known[key, met] = ask(), noted
            finally:
                self._noted = {}
        return found[0]

    def _watched(self, look: Callable[..., Any], part: Callable[[str], str]) -> Callable[..., Any]:
        def watched(kind: str, key: str = "", *more: str) -> Any:
            if kind != faults.KIND:  # those that matter to a read are known
                source = kind, part(key)
                self._noted.setdefault(source, self._writes[source])
            return look(kind, key, *more)

        return watched


Remembered = tuple[Any, dict[Source, int]]


class _Remembering:
    """One gateway."""

    def __init__(self, repeats: Repeats, gateway: object, known: dict[Hashable, Remembered]) -> None:
        self._repeats = repeats
        self._gateway = gateway
        self._known = known

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._gateway, name)
        if name not in READS:
            self._repeats.asked += 1
            return method

        def read(*given: Any) -> Any:
            key = (name, *map(_rough, given))
            return self._repeats.read(self._known, READS[name], key, lambda: method(*given))

        return read


def _meets(fault: Fault, service: str) -> bool:
    """Whether reads of a service may meet a fault."""
    if isinstance(fault, RateLimit):
        return fault.calls == "read" and fault.service == service
    if isinstance(fault, DisabledApi):
        return fault.service == service
    return not isinstance(fault, OF_CHANGES)


def _beginnings(key: str) -> Iterator[str]:
    """`a/b` -> nothing, `a/`, `a/b`."""
    yield ""
    for at, sign in enumerate(key):
        if sign == "/":
            yield key[: at + 1]
    if key and key[-1] != "/":
        yield key


def _whole(key: str) -> str:
    return key


def _folder(prefix: str) -> str:
    return prefix[: prefix.rfind("/") + 1]


def _anything(_: str) -> str:
    return ""


def _rough(given: Hashable) -> Hashable:
    """Since a moment is since about then: no history is as long as such a while."""
    return given.date() if isinstance(given, datetime) else given
