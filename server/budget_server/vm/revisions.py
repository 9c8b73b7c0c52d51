"""Which revision to serve, when to try again, and the record of it on this disk.

Decisions are pure and get the clock as an argument. The record survives reboots: a reboot serves the accepted
revision (the one in metadata) unless it failed here and another one passed; then that one, never an older.
"""

from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from budget_server.vm import disk
from budget_server.vm.config import BudgetConfig
from budget_server.vm.errors import Exhausted, RolloutError

#: Pauses before another try of a failed revision: while nothing else serves, and while another one does.
RETRY_FIRST, RETRY_MOST = 10.0, 300.0
RETRY_FIRST_SERVED, RETRY_MOST_SERVED = 60.0, 3600.0
#: What the machine is too small for: after this many tries the pauses begin here instead and double.
TRIES, RETRY_EXHAUSTED = 3, 600.0
#: Pauses before a program that died is started again; one that lived this long starts afresh.
RESTART_MOST, RESTART_FORGIVEN_AFTER = 60.0, 600.0


class Failure(BaseModel):
    """Why a revision does not serve here, and when it will be tried again."""

    model_config = ConfigDict(frozen=True)

    revision: str
    reason: str
    message: str
    log: str = ""
    attempts: int = 1
    retry_at: float = 0
    transient: bool = False
    #: The type of machine that was too small; empty for failures of any other kind.
    machine: str = ""
    #: It failed with the whole memory for itself: what serves is not stopped for it again.
    alone: bool = False

    @classmethod
    def of(
        cls, revision: str, error: RolloutError, attempts: int = 1, retry_at: float = 0, machine: str = ""
    ) -> "Failure":
        return cls(
            revision=revision,
            reason=error.reason,
            message=error.message,
            log=error.log,
            attempts=attempts,
            retry_at=retry_at,
            transient=error.transient,
            machine=machine if isinstance(error, Exhausted) else "",
        )


class Record(BaseModel):
    """What this disk knows about revisions; immutable, each change gives a new one."""

    model_config = ConfigDict(frozen=True)

    accepted: BudgetConfig | None = None
    passed: BudgetConfig | None = None
    failures: dict[str, Failure] = {}

    def failure(self, revision: str) -> Failure | None:
        return self.failures.get(revision)

    def accept(self, config: BudgetConfig) -> "Record":
        """The metadata names this one; a failure of old is forgotten if the entry changed in any way."""
        if config == self.accepted:
            return self
        return self._with(accepted=config, failures=_without(self.failures, config.revision))

    def fail(
        self, config: BudgetConfig, error: RolloutError, served: bool, now: float, machine: str = ""
    ) -> "Record":
        """An attempt failed at `now` on a machine of this type, while another revision served or not."""
        before = self.failure(config.revision)
        attempts = before.attempts + 1 if before else 1
        retry_at = now + retry_pause(attempts, served, isinstance(error, Exhausted))
        failure = Failure.of(config.revision, error, attempts, retry_at, machine)
        if before and before.alone:
            failure = failure.model_copy(update={"alone": True})
        return self._with(failures={**self.failures, config.revision: failure})

    def passes(self, config: BudgetConfig) -> "Record":
        return self._with(passed=config, failures=_without(self.failures, config.revision))

    def after_boot(self) -> "Record":
        """A boot waits for nothing, unless a failed revision has another one to stand in for it."""
        waiting = {
            revision: failure.model_copy(update={} if self.stand_in(revision) else {"retry_at": 0.0})
            for revision, failure in self.failures.items()
        }
        return self._with(failures=waiting)

    def on_machine(self, machine: str) -> "Record":
        """The disk may have got another machine since: what the old one was too small for is tried afresh."""
        fits = {
            revision: failure
            for revision, failure in self.failures.items()
            if not (machine and failure.machine) or failure.machine == machine
        }
        return self if fits == self.failures else self._with(failures=fits)

    def failed_alone(self, revision: str) -> bool:
        """Whether stopping what serves was no help to this one."""
        failure = self.failure(revision)
        return failure is not None and failure.alone

    def alone(self, revision: str) -> "Record":
        """This one's failure came after the earlier one had been stopped for it."""
        failure = self.failure(revision)
        if failure is None:
            return self
        return self._with(failures={**self.failures, revision: failure.model_copy(update={"alone": True})})

    def stand_in(self, revision: str) -> BudgetConfig | None:
        """What else could serve instead of this one."""
        return self.passed if self.passed and self.passed.revision != revision else None

    def _with(self, **changes: object) -> "Record":
        return self.model_copy(update=changes)._relevant()

    def _relevant(self) -> "Record":
        known = {config.revision for config in (self.accepted, self.passed) if config}
        kept = {revision: failure for revision, failure in self.failures.items() if revision in known}
        return self if kept == self.failures else self.model_copy(update={"failures": kept})


@dataclass(frozen=True)
class Choice:
    """Serve this revision now; or look again in `wait` seconds (None: when something changes)."""

    serve: BudgetConfig | None = None
    wait: float | None = None


def choose(record: Record, active: str | None, now: float, image: str = "") -> Choice:
    """What to serve next, while `active` (or nothing) serves, in this image (empty: not known).

    What was wanted together with another image waits for it: the host is about to bring that, and with it
    another process 1.
    """
    target = record.accepted
    if target is None or target.revision == active:
        return Choice()
    stand_in = record.stand_in(target.revision) if active is None else None
    elsewhere = bool(image) and target.image != image
    if elsewhere and (active or (stand_in and stand_in.image == image)):
        candidates = [stand_in]
    elif record.failure(target.revision):
        candidates = [stand_in, target]
    else:
        candidates = [target]
    return _first(record, [each for each in candidates if each and _fits(each, image)], now)


def _fits(config: BudgetConfig, image: str) -> bool:
    """Whether this image can serve it: code that lies in another one cannot be had."""
    return not (image and config.image_code) or config.image == image


def _first(record: Record, candidates: list[BudgetConfig], now: float) -> Choice:
    """The first that may be tried now, or the wait for the one that may be soonest."""
    waits = [_seconds_left(record.failure(config.revision), now) for config in candidates]
    for config, wait in zip(candidates, waits, strict=True):
        if not wait:
            return Choice(serve=config)
    return Choice(wait=min(waits, default=None))


def retry_pause(attempts: int, served: bool, exhausted: bool = False) -> float:
    """Seconds before a revision that failed `attempts` times is tried again."""
    if exhausted and attempts >= TRIES:
        return min(RETRY_EXHAUSTED * 2.0 ** min(attempts - TRIES, 32), RETRY_MOST_SERVED)
    first, most = (RETRY_FIRST_SERVED, RETRY_MOST_SERVED) if served else (RETRY_FIRST, RETRY_MOST)
    return min(first * 2.0 ** min(attempts - 1, 32), most)


def restart_pause(deaths: int) -> float:
    """Seconds before a program that died `deaths` times in a row is started again."""
    return min(2.0 ** min(deaths - 1, 32), RESTART_MOST)


def deaths_in_a_row(before: int, lived: float) -> int:
    """How many deaths count, now that a program died after living this long."""
    return 1 if lived >= RESTART_FORGIVEN_AFTER else before + 1


def kept_revisions(record: Record, active: str | None) -> frozenset[str]:
    """Whose artifacts and environments stay on this disk."""
    configs = {config.revision for config in (record.accepted, record.passed) if config}
    return frozenset(configs | ({active} if active else set()))


def load(path: Path) -> Record:
    """The record on this disk; an empty one where there is none or it is damaged."""
    try:
        return Record.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return Record()


def save(record: Record, path: Path) -> None:
    """Write the record so that a power loss leaves the old or the new one; transient failures stay out."""
    lasting = {revision: failure for revision, failure in record.failures.items() if not failure.transient}
    disk.write(path, record.model_copy(update={"failures": lasting}).model_dump_json(by_alias=True))


def _seconds_left(failure: Failure | None, now: float) -> float:
    if failure is None:
        return 0
    left = failure.retry_at - now
    # further away than any pause: the clock was set back meanwhile
    return 0 if left > RETRY_MOST_SERVED else max(left, 0)


def _without(failures: dict[str, Failure], revision: str) -> dict[str, Failure]:
    return {key: failure for key, failure in failures.items() if key != revision}
