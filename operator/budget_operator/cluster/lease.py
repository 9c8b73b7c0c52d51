"""One active operator: a coordination.k8s.io Lease, held by renewing it.

Expiry is judged on this machine's uptime from the moment a change of the Lease was seen, never by comparing
wall clocks of two machines. Losing the Lease ends the process (`on_lost`): what still runs could
double what the next holder does. `decide` is the pure part.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import Enum
from typing import Protocol

from budget_operator.cluster.contact import Contact
from budget_operator.core.clocks import uptime
from budget_operator.core.errors import AlreadyExists, BudgetError, NotFound, PreconditionFailed

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LeaseRecord:
    """The Lease as stored. `version` is its resourceVersion; empty for one that does not exist."""

    holder: str = ""
    duration_seconds: int = 0
    transitions: int = 0
    renewed_at: str = ""
    version: str = ""


class LeaseStore(Protocol):
    """Reads and writes the one Lease object; writes are guarded by `version`."""

    def read_lease(self) -> LeaseRecord: ...

    def write_lease(self, record: LeaseRecord) -> LeaseRecord: ...


@dataclass(frozen=True)
class Timing:
    """Seconds: how long a holder may stay silent, when it gives up itself, how often it tries.

    The values are those of Kubernetes' own controllers (client-go's leader election).
    """

    duration: int = 15
    renew_deadline: float = 10.0
    retry: float = 2.0


class Step(Enum):
    """What to do about the Lease now."""

    ACQUIRE = "acquire"
    RENEW = "renew"
    STAND_BY = "stand by"


def decide(record: LeaseRecord, identity: str, unchanged_for: float) -> Step:
    """`unchanged_for`: seconds since this process last saw the record change."""
    if record.holder == identity:
        return Step.RENEW
    if not record.holder or unchanged_for > record.duration_seconds:
        return Step.ACQUIRE
    return Step.STAND_BY


class Lease:
    """Acquires and renews in a thread of its own."""

    def __init__(
        self,
        store: LeaseStore,
        identity: str,
        on_lost: Callable[[], None],
        timing: Timing = Timing(),
        clock: Callable[[], float] = uptime,
    ) -> None:
        self._store = store
        self._identity = identity
        self._on_lost = on_lost
        self._timing = timing
        self._clock = clock
        self._seen = LeaseRecord()
        self._seen_at = clock()
        self._renewed_at: float | None = None
        self._stop = threading.Event()
        self._acts = False  # its holder does although it ends
        self.held = threading.Event()
        self.contact = Contact(clock)

    @property
    def holder(self) -> str:
        """Who holds it, as last seen; empty if nobody does or it could not be read yet."""
        return self._seen.holder

    def run(self) -> None:
        """Try until `stop`; calls `on_lost` when a held Lease could not be renewed in time."""
        self.contact.begin()
        while not self._stop.is_set():
            self.step()
            self._stop.wait(self._timing.retry)
        if not self._acts:
            self._give_back()

    def guard(self) -> None:
        """Until `stop`, in a thread of its own: notices an overdue renewal even while a call hangs."""
        while not self._stop.wait(self._timing.retry / 2):
            self.check_deadline()

    def step(self) -> None:
        """One try."""
        try:
            self._try()
        except (AlreadyExists, PreconditionFailed):
            self.contact.succeeded()
            log.info("another operator wrote the lease first")
        except BudgetError as error:
            if self.contact.failed(error.message):
                log.warning("the lease could not be read or written: %s", error.message)
        except Exception as error:
            self.contact.failed(type(error).__name__)
            log.exception("the lease could not be read or written")
        else:
            self.contact.succeeded()
        self.check_deadline()

    def fence(self) -> None:
        """Before a change: comes to `on_lost` where this process may begin none any more."""
        if self._acts:
            self._lose("the process ends although something still acts")
        self.check_deadline()

    def check_deadline(self) -> None:
        """Lose the Lease if it is held and was not renewed in time."""
        renewed = self._renewed_at
        if renewed is not None and self._clock() - renewed > self._timing.renew_deadline:
            self._lose(f"not renewed for {self._timing.renew_deadline:.0f} s")

    def _try(self) -> None:
        if not (self.held.is_set() and self._is_renewed()):
            self._read_and_decide()

    def _is_renewed(self) -> bool:
        """Renewed as it was last seen, without a look; False if somebody changed it meanwhile."""
        try:
            self._write(self._seen, Step.RENEW)
        except (NotFound, PreconditionFailed):
            return False
        return True

    def _read_and_decide(self) -> None:
        record = self._store.read_lease()
        if record != self._seen:
            if record.holder not in (self._seen.holder, self._identity, ""):
                log.info("standing by: %s is active", record.holder)
            self._seen, self._seen_at = record, self._clock()
        step = decide(record, self._identity, self._clock() - self._seen_at)
        if step is Step.STAND_BY:
            if self.held.is_set():
                self._lose(f"{record.holder} holds it now")
            return
        self._write(record, step)
        if not self.held.is_set():
            log.info("this operator is active now")
            self.held.set()

    def _write(self, record: LeaseRecord, step: Step) -> None:
        started = self._clock()
        self._seen = self._store.write_lease(self._mine(record, step))
        self._seen_at = self._clock()
        self._renewed_at = started

    def _mine(self, record: LeaseRecord, step: Step) -> LeaseRecord:
        return replace(
            record,
            holder=self._identity,
            duration_seconds=self._timing.duration,
            transitions=record.transitions + (step is Step.ACQUIRE),
            renewed_at=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        )

    def _lose(self, why: str) -> None:
        log.error("the lease is lost: %s", why)
        self.held.clear()
        self._renewed_at = None
        self._on_lost()

    def stop(self, *, acts: bool = False) -> None:
        """Let `run` end. A held Lease is given back, so that the next operator need not wait; but where
        something still `acts` it is kept until it expires.
        """
        self._acts = acts
        self._stop.set()

    def _give_back(self) -> None:
        if not self.held.is_set():
            return
        try:
            self._store.write_lease(replace(self._seen, holder=""))
        except BudgetError as error:
            log.warning("the lease was not given back and expires by itself: %s", error.message)
        self.held.clear()
