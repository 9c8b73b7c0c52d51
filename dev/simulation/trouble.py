"""What befalls calls that change something: one planned trouble at a time, at one call."""

import math
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

import requests

from budget_operator.core.errors import Unavailable
from dev.simulation.apiserver import Crash
from localcloud.clock import Clock
from localcloud.mounted import Answer

LATE_SECONDS = 30.0


class Kind(StrEnum):
    """What can happen to a call."""

    CRASH_BEFORE = "crash before"
    CRASH_AFTER = "crash after"
    LOST = "call lost"
    ANSWER_LOST = "answer lost"
    ANSWER_LATE = "answer late"
    RIVAL = "rival in between"


@dataclass
class Trouble:
    """`rival` is what another operator does between a decision and its call. The function never crashes."""

    clock: Clock
    rival: Callable[[], object] = lambda: None
    kind: Kind | None = None
    left: int = 0
    call: str = ""
    struck: Counter[tuple[str, str]] = field(default_factory=Counter)
    """How often each kind met each call."""
    calls: list[float] = field(default_factory=list)
    """When each was made that changed something, or would have, by the clock; no number: by the function."""
    _operators: threading.Thread = field(default_factory=threading.current_thread)

    def plan(self, kind: Kind, after: int = 0, call: str = "") -> None:
        """Let it happen to the call that comes after so many others, of those that are called so."""
        self.kind, self.left, self.call = kind, after, call

    def clear(self) -> None:
        self.kind = None

    def carry(self, request: requests.PreparedRequest, carry: Callable[[], Answer]) -> Answer:
        """`sessions.Carrier`."""
        if request.method == "GET":
            return carry()
        kind = self._strikes(_name(request))
        if kind is Kind.CRASH_BEFORE:
            raise Crash
        if kind is Kind.LOST:
            raise requests.ConnectionError("the call is lost", request=request)
        if kind is Kind.RIVAL:
            self.rival()
        answer = carry()
        if kind is Kind.CRASH_AFTER:
            raise Crash
        if kind is Kind.ANSWER_LOST:
            raise requests.ConnectionError("the answer is lost", request=request)
        if kind is Kind.ANSWER_LATE:
            self.clock.wait(LATE_SECONDS, threading.Event())
        return answer

    def kubernetes(self, _: int, call: str) -> tuple[Literal["before", "after"], BaseException] | None:
        """`apiserver.Fault`."""
        kind = self._strikes(call)
        if kind is Kind.RIVAL:
            self.rival()
        if kind in (None, Kind.RIVAL):
            return None
        when: Literal["before", "after"] = "before" if kind in (Kind.CRASH_BEFORE, Kind.LOST) else "after"
        crashes = kind in (Kind.CRASH_BEFORE, Kind.CRASH_AFTER)
        return when, Crash() if crashes else Unavailable("the API server did not answer")

    def _strikes(self, call: str) -> Kind | None:
        """What happens to this call; it counts."""
        of_operator = threading.current_thread() is self._operators
        self.calls.append(self.clock.monotonic() if of_operator else math.nan)
        if self.kind is None or not call.startswith(self.call):
            return None
        if self.left > 0:
            self.left -= 1
            return None
        if not of_operator and self.kind in (Kind.CRASH_BEFORE, Kind.CRASH_AFTER, Kind.RIVAL):
            return None
        kind, self.kind = self.kind, None
        self.struck[kind, call] += 1
        return kind


def _name(request: requests.PreparedRequest) -> str:
    """What is called, without whom: `POST instances`, `POST start`, `DELETE addresses`."""
    path = (request.url or "").partition("?")[0].rstrip("/").split("/")
    collection = next((part for part in reversed(path) if part in _COLLECTIONS), path[-1])
    last = path[-1].rpartition(":")[2]
    verb = last if last in _VERBS else collection
    return f"{request.method} {verb}"


_COLLECTIONS = frozenset(
    {"instances", "addresses", "firewalls", "jobs", "topics", "functions", "subscriptions", "o", "b"}
)
_VERBS = frozenset(
    {
        "start",
        "stop",
        "resume",
        "setMetadata",
        "setLabels",
        "setMachineType",
        "publish",
        "simulateMaintenanceEvent",
        "resize",
        "addAccessConfig",
        "deleteAccessConfig",
    }
)
