"""The same calls made to two servers, and what their answers differ in; known differences need a reason."""

import itertools
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

C = TypeVar("C")
C_contra = TypeVar("C_contra", contravariant=True)
#: The part of an answer that holds its HTTP status.
STATUS = "status"
#: Servers may outlive a comparison, so no two comparisons of a process use the same names.
_RUNS = itertools.count(1)


@dataclass(frozen=True)
class Answer:
    """What two answers to a call are compared by: the status and named parts, without what is volatile."""

    status: int
    parts: dict[str, Any]

    def unlike(self, other: "Answer") -> set[str]:
        """The names of the parts that differ."""
        mine, others = self._all(), other._all()
        return {name for name in mine | others if mine.get(name) != others.get(name)}

    def _all(self) -> dict[str, Any]:
        return {STATUS: self.status} | self.parts


class Side(Protocol[C_contra]):
    """One of the two servers."""

    def answer(self, call: C_contra) -> Answer: ...

    def renew(self, run: int) -> None:
        """Forget everything: names from now on are those of another run."""


@dataclass(frozen=True)
class Known(Generic[C]):
    """A difference that stays, with the reason in one sentence.

    Where `when` holds of a call and its two answers (ours first), `parts` may differ; none named: all may.
    `parted`: the two hold different things afterwards, so both go on with new names.
    """

    reason: str
    when: Callable[[C, Answer, Answer], bool]
    parts: frozenset[str] = frozenset()
    parted: bool = False


@dataclass
class Comparison(Generic[C]):
    """Two servers side by side, and how often each known difference was met."""

    ours: Side[C]
    theirs: Side[C]
    known: tuple[Known[C], ...]
    opening: tuple[C, ...] = ()
    """What is called first, and again whenever the two have parted."""
    met: Counter[str] = field(default_factory=Counter)
    calls: int = 0

    def differences(self, calls: Iterable[C]) -> list[str]:
        """Make the calls on both sides, after the opening; returns what nobody expects to differ."""
        found = self._open()
        for call in calls:
            said, parted = self._compare(call)
            found += said
            if parted:
                found += self._open()
        return found

    def never_met(self) -> list[str]:
        """Reasons in the table that explain nothing."""
        return [each.reason for each in self.known if not self.met[each.reason]]

    def _open(self) -> list[str]:
        run = next(_RUNS)
        self.ours.renew(run)
        self.theirs.renew(run)
        return [said for call in self.opening for said in self._compare(call)[0]]

    def _compare(self, call: C) -> tuple[list[str], bool]:
        """What is unexpected about one call, and whether the two have parted by it."""
        self.calls += 1
        mine, other = self.ours.answer(call), self.theirs.answer(call)
        left, parted = mine.unlike(other), False
        for each in self.known:
            explained = left & each.parts if each.parts else left
            if explained and each.when(call, mine, other):
                self.met[each.reason] += 1
                left, parted = left - explained, parted or each.parted
        if not left:
            return [], parted
        return [f"{call}: {', '.join(sorted(left))} differ: {mine} is not {other}"], parted
