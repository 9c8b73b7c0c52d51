"""Answers that cannot have changed: for looks at a cloud in which nothing was written since the last one.

Most calls of a history are such looks, and a third of its time goes into them. While a fault is in force
that counts calls, or makes them late, each of them is made.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import requests

from budget_operator.cloud.inventory import Inventories
from budget_operator.core.gateways import Snapshots
from budget_operator.core.observed import Inventory
from localcloud.faults import CallFault, RateLimit
from localcloud.mounted import Mounted

#: What the answers of a service depend on, by the first part of the path: kinds of documents begin so.
SOURCES = {"compute": ("compute", "vm"), "storage": ("storage",)}
OTHERS = ("pubsub", "scheduler", "functions")
ALWAYS = ("localcloud", "iam")  # faults, and who may do what


class Repeats:
    """Of one cloud."""

    def __init__(self, cloud: Mounted) -> None:
        self._faults = cloud.context.faults
        self._changes: Counter[str] = Counter()
        self._known: dict[Hashable, tuple[tuple[int, ...], requests.Response]] = {}
        told = cloud.context.store.on_write

        def note(kind: str, key: str) -> None:
            told(kind, key)
            self._changes[kind.partition(".")[0]] += 1

        cloud.context.store.on_write = note

    def answer(
        self, whose: str, method: str, url: str, more: Mapping[str, Any], ask: Callable[[], requests.Response]
    ) -> requests.Response:
        """As it was, or from `ask`."""
        if method != "GET" or more.get("stream") or any(map(_counts, self._faults.all())):
            return ask()
        key = (whose, url, _frozen(more.get("params")))
        version = self._version(url)
        known = self._known.get(key)
        if known is not None and known[0] == version:
            return known[1]
        found = ask()
        if self._version(url) == version:
            self._known[key] = (version, found)
        return found

    def spare(self, snapshots: Snapshots) -> None:
        """Have them take no picture of what cannot have changed since the last one."""
        assert isinstance(snapshots, Inventories)
        look, last = snapshots._look, [(-1, Inventory(datetime.min.replace(tzinfo=UTC)))]

        def looked(now: datetime) -> Inventory:
            version = self._changes.total()
            if last[0][0] != version or any(map(_counts, self._faults.all())):
                last[0] = version, look(now)
            return replace(last[0][1], taken_at=now)

        snapshots._look = looked  # type: ignore[method-assign]

    def _version(self, url: str) -> tuple[int, ...]:
        service = urlsplit(url).path.split("/", 2)[1]
        return tuple(self._changes[each] for each in (*SOURCES.get(service, OTHERS), *ALWAYS))


def _counts(fault: object) -> bool:
    return isinstance(fault, CallFault | RateLimit)


def _frozen(params: Any) -> Hashable:
    return tuple(sorted(params.items())) if isinstance(params, Mapping) else tuple(params or ())
