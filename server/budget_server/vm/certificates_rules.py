"""When a certificate is ordered, for which name, and what stands in the way; nothing here does anything.

The clock is an argument. What must outlive a reboot, and a lost disk, is the `Ledger`.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from ipaddress import ip_address
from typing import Literal

from pydantic import BaseModel, ConfigDict

from budget_server.vm.config import Tls
from budget_server.vm.dns_answers import Answers

HOUR = 3600.0
ORDERS_AN_HOUR = 5
#: After failures in a row, where the authority names no time.
PAUSES = (60.0, 180.0, 600.0, 1800.0, HOUR)
#: What does not answer grants no certificate, and counts no order either.
UNREACHABLE_PAUSE = 600.0
#: An authority may ask for a week; a mistake in its clock must not cost more than this.
LONGEST_PAUSE = 8 * 24 * HOUR
#: A certificate that lives shorter is renewed after half of its life instead of two thirds.
SHORT_LIFE = 10 * 24 * HOUR
#: The shared name is given up for the bare address if it does not resolve for so long.
UNRESOLVED_SECONDS = 600.0
SHARED_DOMAIN = "sslip.io"
SHORT_LIVED = "shortlived"
LETS_ENCRYPT = "https://acme-v02.api.letsencrypt.org/directory"

Challenge = Literal["http-01", "tls-alpn-01"]


class Reason(StrEnum):
    """Why the certificate is as it is, for the operator's condition."""

    ISSUED = "Issued"
    ORDERING = "Ordering"
    NAME_NOT_RESOLVED = "NameNotResolved"
    WRONG_ADDRESS = "WrongAddress"
    FOREIGN_AAAA = "ForeignAAAA"
    ORDER_FAILED = "OrderFailed"
    RATE_LIMITED = "RateLimited"
    DIRECTORY_UNREACHABLE = "DirectoryUnreachable"
    NO_PUBLIC_ADDRESS = "NoPublicAddress"


@dataclass(frozen=True)
class Problem:
    """What stands in the way, in a sentence with its remedy."""

    reason: Reason
    message: str
    #: Seconds that the authority asked for.
    retry_after: float | None = None


@dataclass(frozen=True)
class Subject:
    """A name, or an address, and the authority that is to sign for it."""

    name: str
    directory: str
    profile: str = ""

    @property
    def key(self) -> str:
        return f"{self.name} {self.directory}"

    @property
    def is_address(self) -> bool:
        return is_address(self.name)


@dataclass(frozen=True)
class Validity:
    not_before: float
    not_after: float

    def holds(self, now: float) -> bool:
        return now < self.not_after

    @property
    def renew_at(self) -> float:
        life = self.not_after - self.not_before
        return self.not_before + life * (1 / 2 if life < SHORT_LIFE else 2 / 3)


def is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def subjects(tls: Tls, address: str) -> tuple[Subject, ...]:
    """For which names a certificate would do, the preferred one first."""
    directory = tls.directory or LETS_ENCRYPT
    if tls.host:
        return (Subject(tls.host, directory),)
    shared = re.sub(r"[.:]", "-", address) + f".{SHARED_DOMAIN}"
    return Subject(shared, directory), Subject(address, directory, SHORT_LIVED)


def meaning(name: str, address: str, answers: Answers) -> Problem | None:
    """Why the authority would not reach this VM by the name; None if it would."""
    record = f"create an A record {name} -> {address}"
    if answers.problem:
        return Problem(
            Reason.NAME_NOT_RESOLVED, f"{name} cannot be resolved ({answers.problem}); if need be, {record}"
        )
    foreign = ", ".join(answers.v6)
    if foreign:
        message = f"{name} has an AAAA record {foreign}, which is not this VM; remove it"
        return Problem(Reason.FOREIGN_AAAA, message if answers.v4 else f"{message} and {record}")
    if not answers.v4:
        return Problem(Reason.NAME_NOT_RESOLVED, f"{name} does not resolve yet; {record}")
    if wrong := [each for each in answers.v4 if each != address]:
        points = f"{name} points to {', '.join(wrong)}"
        remedy = "remove that A record" if address in answers.v4 else f"change its A record to {address}"
        return Problem(Reason.WRONG_ADDRESS, f"{points}, which is not this VM; {remedy}")
    return None


def seconds_asked(header: str, now: float) -> float | None:
    """What a Retry-After header means: seconds or a date."""
    try:
        return max(float(header), 0.0)
    except ValueError:
        pass
    try:
        return max(parsedate_to_datetime(header).timestamp() - now, 0.0)
    except ValueError:
        return None


class _Kept(BaseModel):
    model_config = ConfigDict(frozen=True)


class Entry(_Kept):
    """What is remembered about the orders for one subject."""

    failures: int = 0
    retry_at: float = 0
    reason: Reason | None = None
    message: str = ""
    challenge: Challenge = "http-01"
    #: When an order began that has not ended.
    under_way: float | None = None
    #: Of the settings that the last order was made with.
    settings: str = ""


class Ledger(_Kept):
    """All orders that were ever made."""

    orders: int = 0
    #: When those of the last hour were made.
    recent: tuple[float, ...] = ()
    entries: dict[str, Entry] = {}

    def entry(self, subject: Subject) -> Entry:
        return self.entries.get(subject.key, Entry())

    def not_before(self, subject: Subject, now: float) -> float:
        """When the next order may be made."""
        recent = sorted(each for each in self.recent if each > now - HOUR)
        earliest = recent[-ORDERS_AN_HOUR] + HOUR if len(recent) >= ORDERS_AN_HOUR else 0.0
        return max(self.entry(subject).retry_at, earliest)

    def configured(self, subject: Subject, settings: str) -> "Ledger":
        """Whoever changes the settings wants another try at once; what the authority asked for stays."""
        entry = self.entry(subject)
        if entry.settings == settings:
            return self
        changes: dict[str, object] = {"settings": settings}
        if entry.reason is not Reason.RATE_LIMITED:
            changes |= {"failures": 0, "retry_at": 0.0}
        return self._with(subject, entry.model_copy(update=changes))

    def begin(self, subject: Subject, now: float) -> "Ledger":
        """Noted before the order is made: a power cut in its middle must not lead to one too many."""
        entry = self.entry(subject).model_copy(update={"under_way": now})
        return self._with(subject, entry)._ordered(1, now)

    def succeed(self, subject: Subject, made: int, now: float) -> "Ledger":
        done = self.entry(subject)
        kept = Entry(challenge=done.challenge, settings=done.settings)
        return self._with(subject, kept)._ordered(made - 1, now)

    def fail(self, subject: Subject, problem: Problem, made: int, now: float) -> "Ledger":
        """After an attempt that cost `made` orders (none, if the authority was not reached)."""
        before = self.entry(subject)
        failures = before.failures + 1
        pause = PAUSES[min(failures, len(PAUSES)) - 1]
        if problem.reason is Reason.RATE_LIMITED:
            pause = HOUR
        elif problem.reason is Reason.DIRECTORY_UNREACHABLE:
            pause = min(pause, UNREACHABLE_PAUSE)
        if problem.retry_after is not None:
            pause = max(min(problem.retry_after, LONGEST_PAUSE), PAUSES[0])
        # only one way to prove the name is tried per order; the next order tries the other
        other: Challenge = "tls-alpn-01" if before.challenge == "http-01" else "http-01"
        entry = Entry(
            failures=failures,
            retry_at=now + pause,
            reason=problem.reason,
            message=problem.message,
            challenge=other if problem.reason is Reason.ORDER_FAILED else before.challenge,
            settings=before.settings,
        )
        return self._with(subject, entry)._ordered(made - 1, now)

    def after_boot(self, now: float) -> "Ledger":
        """What was under way when the power went counts as a failure."""
        ledger = self
        for key, entry in self.entries.items():
            if entry.under_way is not None:
                interrupted = Problem(Reason.ORDER_FAILED, "The VM ended in the middle of the order")
                name, _, directory = key.partition(" ")
                # under_way is in the past: the pause counts from there
                ledger = ledger.fail(Subject(name, directory), interrupted, 1, min(entry.under_way, now))
        return ledger

    def _with(self, subject: Subject, entry: Entry) -> "Ledger":
        return self.model_copy(update={"entries": {**self.entries, subject.key: entry}})

    def _ordered(self, count: int, now: float) -> "Ledger":
        recent = sorted(each for each in self.recent if each > now - HOUR)
        recent = recent[:count] if count < 0 else recent + [now] * count
        return self.model_copy(update={"orders": self.orders + count, "recent": tuple(recent)})


def choose(
    candidates: tuple[Subject, ...],
    valid: frozenset[Subject],
    ledger: Ledger,
    unresolved: frozenset[Subject],
    now: float,
) -> Subject:
    """Whose certificate to have: what callers use already stays, else the first that can be had."""
    for subject in candidates:
        if subject in valid:
            return subject
    for subject in candidates[:-1]:
        entry = ledger.entry(subject)
        limited = entry.reason is Reason.RATE_LIMITED and entry.retry_at > now
        if not limited and subject not in unresolved:
            return subject
    return candidates[-1]


def when(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
