"""What every service is handed: the ground it stands on, and the registry it announces itself in."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

import httpx

from localcloud.blocking import Blocking, InThreads
from localcloud.clock import Clock
from localcloud.faults import Faults
from localcloud.iam import Iam
from localcloud.journal import Journal
from localcloud.names import Names
from localcloud.settings import Settings
from localcloud.store import Json, Store
from localcloud.ticks import Ticks
from localcloud.vm import VmBackend


class Background(Protocol):
    """Something that runs for the server's life: a ticker, a deliverer, a watcher."""

    def start(self) -> None:
        """Called once before the first request; must not block."""

    def stop(self) -> None:
        """Called once after the last request; returns when nothing of it runs any more."""


@dataclass(frozen=True)
class Resource:
    """One line of `localcloud ls`: something that a user made and would have to clean up.

    `hourly` is what Google would charge an hour in US dollars for its being there; None: not known.
    """

    kind: str
    name: str
    location: str
    state: str
    hourly: float | None = 0.0
    preemptible: bool = False


@dataclass(frozen=True)
class Event:
    """Something that happened: when (RFC 3339), what, to which resource, and how it ended."""

    time: str
    what: str
    target: str
    outcome: str


@dataclass
class Registry:
    """Services announce here what `app`, `control` and `cli` show or drive; those know no service by name.

    `listers` give the lines of `ls`; `logs` return a named resource's log, or None if it is not theirs;
    `events` give what happened; `verbs` are control verbs (`tick`, `preempt`) that take a resource's name and
    return what to answer; `tellers` return the guest attributes of an instance that has nobody to write them.
    """

    background: list[Background] = field(default_factory=list)
    listers: list[Callable[[], Iterable[Resource]]] = field(default_factory=list)
    logs: list[Callable[[str], str | None]] = field(default_factory=list)
    events: list[Callable[[], Iterable[Event]]] = field(default_factory=list)
    verbs: dict[str, Callable[[str], Json]] = field(default_factory=dict)
    tellers: list[Callable[[str], dict[str, str]]] = field(default_factory=list)


@dataclass(frozen=True)
class Context:
    """The ground under all services. `pushes` is what Pub/Sub's deliveries go through, if not the network."""

    settings: Settings
    clock: Clock
    store: Store
    journal: Journal
    faults: Faults
    iam: Iam
    names: Names
    vms: VmBackend
    blocking: Blocking = field(default_factory=InThreads)
    ticks: Ticks = field(default_factory=Ticks)
    pushes: httpx.BaseTransport | None = None
    registry: Registry = field(default_factory=Registry)
