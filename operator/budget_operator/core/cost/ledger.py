"""The ledger: one object of the bucket for each deployment and month, with every stretch that is paid for.

It holds what nobody can find out again: VMs that are gone, runs that Google has forgotten, prices of their
time. What goes on needs no writing: whoever comes next sees the same VM, started at the same time. How the
object is read and written is in `reconcile.metering`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from pydantic import TypeAdapter, ValidationError

from budget_operator.core.artifact import LEDGER_PREFIX
from budget_operator.core.cost.stretches import Book, clipped, ordered


@dataclass(frozen=True, order=True)
class Month:
    """Of the calendar, in UTC."""

    year: int
    number: int

    @classmethod
    def of(cls, moment: datetime) -> "Month":
        """The one that it is in."""
        return cls(moment.year, moment.month)

    @classmethod
    def named(cls, name: str) -> "Month":
        """The one of a name."""
        year, _, number = name.partition("-")
        return cls(int(year), int(number))

    @property
    def name(self) -> str:
        """`2026-11`."""
        return f"{self.year:04}-{self.number:02}"

    @property
    def begin(self) -> datetime:
        """Its first moment."""
        return datetime(self.year, self.number, 1, tzinfo=UTC)

    @property
    def next(self) -> "Month":
        """The one after it."""
        return Month(self.year + self.number // 12, self.number % 12 + 1)


@dataclass(frozen=True)
class Stored:
    """A month as it lies in the bucket; generation 0: it does not."""

    generation: int = 0
    page: Book = ()


@dataclass(frozen=True)
class Account:
    """What a process knows of a deployment's ledger."""

    horizon: Month  # nothing from before it is metered or written any more
    book: Book = ()
    stored: Mapping[str, Stored] = field(default_factory=dict)  # by month

    def pages(self, until: Month) -> dict[str, Book]:
        """By month, as they should be stored; those without anything are left out."""
        found: dict[str, Book] = {}
        month = self.horizon
        while month <= until:
            if page := ordered(clipped(self.book, month.begin, month.next.begin)):
                found[month.name] = page
            month = month.next
        return found

    def due(self, until: Month) -> dict[str, Book]:
        """Those that tell something new: not only that what goes on still does."""
        pages = self.pages(until)
        return {name: page for name, page in pages.items() if _told(page) != _told(self._held(name).page)}

    def has_ended(self, name: str, page: Book) -> bool:
        """Whether something is over that goes on, or is not, in what is stored."""
        known = {each.key for each in self._held(name).page if not each.open}
        return any(not each.open and each.key not in known for each in page)

    def generation(self, name: str) -> int:
        """Of what is stored."""
        return self._held(name).generation

    def knowing(self, book: Book) -> "Account":
        """With another book."""
        return replace(self, book=book)

    def holding(self, name: str, stored: Stored) -> "Account":
        """After that was read or written."""
        return replace(self, stored={**self.stored, name: stored})

    def turned(self, month: Month) -> "Account":
        """In a new month, once what was before it is stored."""
        if month <= self.horizon:
            return self
        return replace(self, horizon=month, book=ordered(clipped(self.book, month.begin, month.next.begin)))

    def _held(self, name: str) -> Stored:
        return self.stored.get(name, Stored())


def _told(page: Book) -> Book:
    return tuple(replace(each, until=each.since) if each.open else each for each in page)


@dataclass(frozen=True)
class _Object:
    month: str
    currency: str
    stretches: Book


_OBJECTS: TypeAdapter[_Object] = TypeAdapter(_Object)


def prefix(cloud_name: str) -> str:
    """Where the ledger of a deployment lies."""
    return f"{LEDGER_PREFIX}{cloud_name}/"


def object_name(cloud_name: str, month: str) -> str:
    """Of one month of it."""
    return f"{prefix(cloud_name)}{month}.json"


def months(cloud_name: str, names: tuple[str, ...]) -> list[str]:
    """Those of which there is an object, the last one first."""
    begin = prefix(cloud_name)
    return sorted((name.removeprefix(begin).removesuffix(".json") for name in names), reverse=True)


def dump(month: str, page: Book) -> bytes:
    """As it is stored."""
    return _OBJECTS.dump_json(_Object(month, "USD", page), indent=1) + b"\n"


def load(data: bytes) -> Book:
    """The stretches. Of what cannot be read there are none: they are found out again as far as can be."""
    try:
        return ordered(_OBJECTS.validate_json(data).stretches)
    except ValidationError:
        return ()
