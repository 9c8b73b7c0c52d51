"""The words of a plan: what was observed, the situation to decide on, checks and their steps. Pure.

The checks themselves are in `plan` and `removal`, the running of steps in `execution`.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from budget_operator.core.actions import Action, Room
from budget_operator.core.api import Intent, Outage
from budget_operator.core.cost.told import Figures
from budget_operator.core.desired import Desired
from budget_operator.core.errors import BudgetError, Unavailable
from budget_operator.core.names import Owner, Shared
from budget_operator.core.observed import Address, Contents, Disk, Instance, Inventory, OperationState

# Seconds to the next pass: after a call that is done at once, while an operation runs, while something slow
# changes, and where another room, with its own pace, has to come first.
SOON = 1.0
OPERATION = 2.0
CHANGE = 5.0
ANOTHER_ROOM = 30.0

OBJECTS_AT_ONCE = 20  # that one pass deletes or copies: each is a call, and others wait for their turn


@dataclass(frozen=True)
class Observation:
    """Everything a pass has looked at."""

    inventory: Inventory
    instance: Instance | None = None  # ours; if there are several, the one to keep
    surplus: tuple[Instance, ...] = ()
    address: Address | None = None  # ours, in the region where it is needed
    stale_addresses: tuple[Address, ...] = ()  # ours, in other regions
    strangers: tuple[str, ...] = ()  # what has our names but not our mark
    objects: Contents | None = None  # in the bucket below our prefix; None = not known
    intent: Intent | None = None  # an insert that was decided and whose end is not known
    insert: OperationState | None = None  # that insert's operation, where it could be polled
    left_disk: Disk | None = None  # that an earlier VM left, and whose name the next one's needs
    problems: Mapping[Room, BudgetError] = field(default_factory=dict)  # looks that failed

    @property
    def instances(self) -> tuple[Instance, ...]:
        """All of ours."""
        return (*((self.instance,) if self.instance is not None else ()), *self.surplus)

    @property
    def addresses(self) -> tuple[Address, ...]:
        """All of ours."""
        return (*((self.address,) if self.address is not None else ()), *self.stale_addresses)


@dataclass(frozen=True)
class Situation:
    """What the checks decide on."""

    owner: Owner
    shared: Shared
    seen: Observation
    desired: Desired | None  # None: the spec cannot work; only what is there already is kept alive
    zones: tuple[str, ...]  # where the VM may be
    sold_out: Mapping[str, datetime]
    refused_machine_type: str | None
    settled: bool  # the wanted revision serves
    request_id: str  # for a new insert
    held: bool = True  # the installation is; False: there is no bucket of ours to hold it by
    rest: float = 0.0  # seconds that a start waits, because preemptions cut the last boots short
    over_limit: bool = False  # the limit of its budget, as it stands on the VM, is reached
    start_refused: bool = False  # the VM's zone had no room for it when it was to start
    barred: frozenset[str] = (
        frozenset()
    )  # zones that it does not move to, although nobody calls them sold out

    @property
    def wanted(self) -> Desired:
        """For the checks that `plan` runs only where the spec can work."""
        assert self.desired is not None
        return self.desired


@dataclass(frozen=True)
class Step:
    """What one check found to be done. Without a reason it is quiet: the room's condition stays True."""

    actions: tuple[Action, ...] = ()
    reason: str = ""
    message: str = ""
    after: float = SOON
    proceed: bool = False  # later checks of the room do not depend on it
    completes: bool = False  # once its actions succeeded nothing is left of it
    failure: BudgetError | None = None  # acted on only with growing pauses
    attempt: str = ""  # the key of the action whose end it waits for, whoever began it
    despite: type[BudgetError] | None = None  # it is what helps against this one: no pause after it counts


@dataclass(frozen=True)
class Plan:
    """The steps of every room, and the rooms that cannot go on."""

    steps: tuple[tuple[Room, Step], ...]
    problems: Mapping[Room, BudgetError]
    unseen: frozenset[Room]  # their problem is that they could not be looked at

    def hindered(self, error: BudgetError) -> "Plan":
        """The plan where the error hides what should be in the bucket and on the VM: only the VM is kept."""
        hidden = (Room.ARTIFACT, Room.KEEP_ALIVE)
        return Plan(self.steps, {Room.ARTIFACT: error, **self.problems}, self.unseen.union(hidden))


class Unseen(Exception):
    """A check depends on something that could not be looked at: what was known before stays true."""

    def __init__(self, error: BudgetError) -> None:
        super().__init__(error.message)
        self.error = error


Check = tuple[Room, Callable[[Situation], Step | None]]


def run(checks: Iterable[Check], situation: Situation) -> Plan:
    """Run the checks in order; a room ends at its first step that does not let it proceed, or error."""
    steps: list[tuple[Room, Step]] = []
    problems: dict[Room, BudgetError] = {}
    unseen: set[Room] = set()
    closed: set[Room] = set()
    for room, check in checks:
        if room in closed:
            continue
        try:
            step = check(situation)
        except Unseen as missing:
            problems[room] = missing.error
            unseen.add(room)
            closed.add(room)
            continue
        except BudgetError as error:
            problems[room] = error
            closed.add(room)
            continue
        if step is not None:
            steps.append((room, step))
            if not step.proceed:
                closed.add(room)
    return Plan(tuple(steps), problems, frozenset(unseen))


def look(inventory: Inventory, word: str) -> None:
    """Raise `Unseen` if this part of the inventory did not answer."""
    if word in inventory.unknown or word in inventory.problems:
        raise Unseen(inventory.problems.get(word, Unavailable(f"the {word} could not be looked at")))


@dataclass(frozen=True)
class Passed:
    """The end of a pass."""

    after: float | None  # seconds until the next one; None if the deployment needs none
    ok: bool = True  # it came to its end and saw the cloud and what the spec refers to
    waits: bool = False  # it was not made yet: the picture that it needs is being taken
    brief: bool = False  # all there was to do took a moment, and probably will the next time
    state: str = ""  # of the deployment, as its status has it now; empty: as before
    preemptions: int = 0  # that were noticed
    ended: tuple[Outage, ...] = ()  # that are over
    figures: Figures | None = None  # of what it costs; None: as before


@dataclass
class Outcome:
    """What became of a plan."""

    problems: dict[Room, BudgetError]
    unseen: frozenset[Room] = frozenset()
    open: dict[Room, Step] = field(default_factory=dict)  # steps whose end was not seen yet
    intent: Intent | None = None
    acted: bool = False
    after: float | None = None  # seconds to the next pass; None = nothing asks for one

    def again(self, seconds: float) -> None:
        """Ask for the next pass, at the latest in so many seconds."""
        self.after = seconds if self.after is None else min(self.after, seconds)
