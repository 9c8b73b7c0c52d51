"""What the process remembers of a deployment between passes: troubles, operations in flight, probes.

All of it may be lost at any moment: a new process finds the same end, only later. What must not be lost is in
the status (`Status.instance`) or on the VM.
"""

from collections.abc import Set
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from budget_operator.core.actions import Action, Room
from budget_operator.core.cost.ledger import Account
from budget_operator.core.errors import (
    BudgetError,
    CapacityExhausted,
    Disposition,
    InvalidSpec,
    NameConflict,
    ResourceNotReady,
)
from budget_operator.core.gateways import Door
from budget_operator.core.observed import OFF, Contents, Host, Instance, OperationRef

FIRST_PAUSE, LONGEST_PAUSE = 2.0, 300.0
OBSERVE_PAUSE = 1.0
NOT_READY_PAUSE = 5.0
CAPACITY_PAUSE = 30.0
CONFLICT_PAUSE = 60.0
WAIT_PAUSE = 60.0
OBJECTS_TRUSTED = timedelta(minutes=15)
# A machine type that Google refused is tried again where the VM is off anyway, else switched off for it.
REFUSED_FOR, REFUSED_WHILE_ON = timedelta(minutes=30), timedelta(days=1)
SHUNNED_FOR = timedelta(minutes=30)  # as long as a zone counts as sold out


@dataclass(frozen=True)
class Trouble:
    """The last failure of a room, or of the looks at an operation, and until when it rests."""

    error: BudgetError
    attempts: int
    until: datetime
    rests: bool  # nothing is done in the room until then; otherwise it is only looked at again
    aside: bool = False  # of something that nothing else in the room waits for
    key: str | None = ""  # the action that failed; None: all that the room does next mends it

    def covers(self, keys: Set[str]) -> bool:
        """Whether these are one more attempt at what keeps failing: until it succeeds, nothing is new."""
        return self.attempts > 1 and (self.key is None or self.key in keys - {""})


@dataclass(frozen=True)
class Started:
    """An operation in flight."""

    room: Room
    action: Action
    ref: OperationRef
    aside: bool = False  # see `Trouble`


@dataclass(frozen=True)
class Refusal:
    """Of a machine type for this VM by Google. `at`: when."""

    machine_type: str
    error: BudgetError
    at: datetime


@dataclass
class Memory:
    """One deployment's."""

    uid: str
    since: datetime
    generation: int | None = None
    troubles: dict[Room, Trouble] = field(default_factory=dict)
    operations: dict[str, Started] = field(default_factory=dict)  # by resource
    unpolled: dict[str, Trouble] = field(default_factory=dict)  # by resource: looks at its operation
    request_ids: dict[str, str] = field(default_factory=dict)  # by the key of the action being attempted
    acted_at: datetime | None = None
    objects: Contents | None = None  # in the bucket below our prefix, with what was done since
    objects_at: datetime | None = None  # when the list of them was begun; None: a new one is needed
    refused: Refusal | None = None
    start_refused: str = ""  # the zone in which there was no room when this VM was to start
    disk_in_the_way: str = ""  # the zone in which a disk has the name of the VM's
    shunned: dict[str, datetime] = field(default_factory=dict)  # zones it does not move to, and until when
    probed_at: datetime | None = None
    probe_ok: bool = False
    door: Door | None = None  # that was asked last
    failing_since: datetime | None = None
    boot: str = ""  # which boot of which VM `host` is about
    host: Host | None = None  # what the VM last said about its image
    motion_since: datetime | None = None
    unserved_at: datetime | None = None  # when a pass saw last that nothing serves
    last_since: datetime | None = None  # deletion found that no other object needs what is shared
    unresolved_since: datetime | None = None  # deletion waits for an insert that was never confirmed
    token: str = field(default="", repr=False)  # a login's that the VM knows
    predicted: str | None = None  # the boot in which a prediction was made
    account: Account | None = None  # its ledger, once that was read
    unmetered: bool = False  # the ledger does not hold all of it yet
    ledger_trouble: str = ""  # why, as the log has it
    failures: int = 0  # passes in a row that did not come to their end

    def new_generation(self, generation: int) -> None:
        """A new spec is picked up at once: nothing rests any longer."""
        if generation != self.generation:
            self.generation = generation
            self.troubles.clear()
            self.refused = None
            self.shunned.clear()
            self.motion_since = None

    def note(
        self,
        room: Room,
        error: BudgetError,
        now: datetime,
        jitter: float,
        pause: float | None = None,
        *,
        aside: bool = False,
        key: str | None = "",
    ) -> Trouble:
        """Remember a failure; the pause grows while the room keeps failing."""
        attempts = self._attempts(room)
        wait = pause if pause is not None else pause_after(error, attempts, jitter)
        until = now + timedelta(seconds=wait)
        trouble = self.troubles[room] = Trouble(error, attempts, until, rests=True, aside=aside, key=key)
        return trouble

    def note_seen(self, room: Room, error: BudgetError, now: datetime, jitter: float) -> Trouble:
        """Remember what stands in the way; it is looked at again without keeping the room from acting."""
        before = self.troubles.get(room)
        if before is not None and before.rests and before.until > now:
            return before
        attempts, key = self._attempts(room), before.key if before is not None else ""
        until = now + timedelta(seconds=pause_after(error, attempts, jitter))
        trouble = self.troubles[room] = Trouble(error, attempts, until, rests=False, key=key)
        return trouble

    def note_unpolled(self, resource: str, error: BudgetError, now: datetime, jitter: float) -> None:
        """A look at a resource's operation failed; the pause to the next one grows."""
        before = self.unpolled.get(resource)
        attempts = 1 if before is None else before.attempts + 1
        until = now + timedelta(seconds=pause_after(error, attempts, jitter))
        self.unpolled[resource] = Trouble(error, attempts, until, rests=False)

    def _attempts(self, room: Room) -> int:
        before = self.troubles.get(room)
        return 1 if before is None else before.attempts + 1

    def resting(self, room: Room, now: datetime) -> Trouble | None:
        """The trouble because of which nothing is done in the room now."""
        trouble = self.troubles.get(room)
        return trouble if trouble is not None and trouble.rests and trouble.until > now else None

    def shun(self, zone: str, now: datetime) -> None:
        """The VM could not be moved to this zone, or somebody else has its name there."""
        self.shunned[zone] = now + SHUNNED_FOR

    def shuns(self, now: datetime) -> frozenset[str]:
        """The zones that it does not move to now."""
        return frozenset(zone for zone, until in self.shunned.items() if until > now)

    def refused_type(self, instance: Instance | None, now: datetime) -> str | None:
        """The machine type that is not tried now, because the VM would only go down for it."""
        refused = self.refused
        if refused is None or instance is None or instance.machine_type == refused.machine_type:
            self.refused = None
            return None
        stands = REFUSED_FOR if instance.status in OFF else REFUSED_WHILE_ON
        lasting = isinstance(refused.error, InvalidSpec) or now - refused.at < stands
        return refused.machine_type if lasting else None

    def known_objects(self, now: datetime) -> Contents | None:
        """The bucket's objects below our prefix, as long as the last list of them is trusted."""
        if self.objects_at is None or now - self.objects_at > OBJECTS_TRUSTED:
            return None
        return self.objects


def pause_after(error: BudgetError, attempts: int, jitter: float) -> float:
    """Seconds to rest after the n-th failure in a row; `jitter` is between 0 and 1."""
    if error.disposition is Disposition.STALL:
        return CONFLICT_PAUSE if isinstance(error, NameConflict) else LONGEST_PAUSE
    if error.disposition in (Disposition.WAIT, Disposition.BLOCK):
        if isinstance(error, ResourceNotReady):
            return NOT_READY_PAUSE
        return CAPACITY_PAUSE if isinstance(error, CapacityExhausted) else WAIT_PAUSE
    first = OBSERVE_PAUSE if error.disposition is Disposition.OBSERVE else FIRST_PAUSE
    grown = min(LONGEST_PAUSE, first * 2.0 ** min(attempts - 1, 16))
    return grown * (0.8 + 0.2 * jitter)
