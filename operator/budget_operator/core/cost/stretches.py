"""How long something was there at one price: what is metered, and how several looks at it become one.

A stretch is known by its part, by whose it is and by when it began. Of one that is still open only is known
that it lasted until somebody looked; so of two pictures of it the later one is right, and whichever says that
it has ended. Times are UTC, prices are those of when it was metered.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

HOUR = timedelta(hours=1)


class Part(StrEnum):
    """What is paid for."""

    MACHINE = "machine"
    DISK = "disk"
    ADDRESS = "address"


Key = tuple[Part, str, datetime]


@dataclass(frozen=True)
class Stretch:
    """Of one part of one deployment."""

    part: Part
    of: str  # the VM's id; the address with its region
    began: datetime  # when it was started or made
    since: datetime  # the same, or since when it has had this price
    until: datetime  # it was so at least until then
    open: bool  # and went on
    what: str  # for people
    rate: float | None  # dollars an hour, of an address while nobody uses it; None: not known
    address_rate: float | None = None  # of a machine: what the address that it uses costs an hour

    @property
    def key(self) -> Key:
        """What it is known by."""
        return self.part, self.of, self.since

    def end(self, now: datetime) -> datetime:
        """Until when it counts."""
        return max(self.until, now) if self.open else self.until


Book = tuple[Stretch, ...]


@dataclass(frozen=True)
class Dollars:
    """By part."""

    machine: float = 0.0
    disk: float = 0.0
    address: float = 0.0

    @property
    def total(self) -> float:
        """All of it."""
        return self.machine + self.disk + self.address


def joined(one: Iterable[Stretch], other: Iterable[Stretch]) -> Book:
    """Everything that either knows, in order."""
    found: dict[Key, Stretch] = {}
    for each in (*one, *other):
        known = found.get(each.key)
        found[each.key] = each if known is None else _joined(known, each)
    return ordered(found.values())


def ordered(stretches: Iterable[Stretch]) -> Book:
    """As they are kept."""
    return tuple(sorted(stretches, key=lambda each: (each.since, each.part, each.of)))


def _joined(one: Stretch, other: Stretch) -> Stretch:
    priced = one if one.rate is not None else other
    if one.open == other.open:
        return replace(priced, until=max(one.until, other.until))
    ended = other if one.open else one
    return replace(priced, until=ended.until, open=False)


def clipped(book: Iterable[Stretch], begin: datetime, end: datetime) -> Iterator[Stretch]:
    """What of it lies between; what goes on beyond the end is open there."""
    for each in book:
        since, until = max(each.since, begin), each.end(max(each.since, begin))
        if since < end and (each.open or until > since):
            yield replace(each, since=since, until=min(until, end), open=each.open or until > end)


def spent(book: Book, begin: datetime, now: datetime) -> Dollars | None:
    """Dollars from then until now; None if a price is not known."""
    lasted = [(each, max(each.since, begin), min(each.end(now), now)) for each in book]
    counted = [(each, since, until) for each, since, until in lasted if until > since]
    if any(each.rate is None for each, _, _ in counted):
        return None
    sums = dict.fromkeys(Part, 0.0)
    for each, since, until in counted:
        sums[each.part] += (each.rate or 0.0) * ((until - since) / HOUR)
    used = _used(counted)
    for each, since, until in counted:
        if each.part is Part.ADDRESS:
            for begun, ended, rate in used:
                both = max(timedelta(0), min(until, ended) - max(since, begun))
                sums[Part.ADDRESS] += (rate - (each.rate or 0.0)) * (both / HOUR)
    return Dollars(**{part.value: amount for part, amount in sums.items()})


def _used(counted: list[tuple[Stretch, datetime, datetime]]) -> list[tuple[datetime, datetime, float]]:
    """When a machine used the address, and what that cost an hour; only one can at a time."""
    found: list[tuple[datetime, datetime, float]] = []
    machines = [one for one in counted if one[0].part is Part.MACHINE and one[0].address_rate is not None]
    for each, since, until in sorted(machines, key=lambda one: one[1]):
        begun = max(since, found[-1][1]) if found else since
        if until > begun:
            found.append((begun, until, each.address_rate or 0.0))
    return found
