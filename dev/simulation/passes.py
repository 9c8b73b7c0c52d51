"""When passes of the operator are due, and which ones need not be made.

After some passes in a row that found nothing to do a deployment is quiet: further ones are not made, only
counted, until something happens to it. But of so many of them one is really made, since it must find nothing
to do either.
"""

import math
from collections import Counter
from collections.abc import Set
from dataclasses import dataclass, field

Key = tuple[str, str]
IDLE_SECONDS = 30.0
IN_A_ROW = 3
"""Long enough for the endpoint to be asked once more, which is not done in every pass."""


@dataclass
class Passes:
    """Times are seconds of the simulation's clock. `kept`: one of so many quiet passes is made (1: all)."""

    kept: int
    made: int = 0
    jumped: int = 0
    _due: dict[Key, float] = field(default_factory=dict)
    _idle: Counter[Key] = field(default_factory=Counter)
    """How many passes in a row found nothing to do."""
    _quiet: dict[Key, float] = field(default_factory=dict)
    """Since when."""

    @property
    def keys(self) -> list[Key]:
        return sorted(self._due)

    def add(self, key: Key, now: float) -> None:
        """A pass over it is due; it may be a new one."""
        self._due[key] = now
        self._wake(key)

    def add_all(self, now: float) -> None:
        for key in self._due:
            self.add(key, now)

    def remove(self, key: Key) -> None:
        self._due.pop(key, None)
        self._wake(key)

    def _wake(self, key: Key) -> None:
        self._quiet.pop(key, None)
        self._idle.pop(key, None)

    def wake(self, keys: Set[Key], now: float) -> None:
        """Something happened to these: those that are quiet are made when their turn would have come."""
        for key in keys & self._due.keys():
            since = self._quiet.get(key)
            if since is not None:
                self._due[key] = since + math.ceil((now - since) / IDLE_SECONDS) * IDLE_SECONDS
            self._wake(key)

    def due(self, now: float) -> list[Key]:
        return [key for key, due in self._due.items() if due <= now]

    def next(self) -> float:
        """The earliest time at which one is due."""
        return min((*self._due.values(), math.inf))

    def done(self, key: Key, due: float, *, idle: bool) -> None:
        """One was made; the next is due then. `idle`: it found nothing to do."""
        self.made += 1
        self._due[key] = due
        self._idle[key] = self._idle[key] + 1 if idle else 0
        if self._idle[key] >= IN_A_ROW and self.kept > 1:
            self._quiet[key], self._due[key] = due, math.inf

    def until_kept(self) -> float:
        """Seconds to the next quiet pass that is made."""
        left = self.kept - self.jumped % self.kept
        return math.ceil(left / len(self._quiet)) * IDLE_SECONDS if self._quiet else math.inf

    def jump(self, seconds: float, now: float) -> None:
        """So much time has gone by, up to now, without the quiet passes."""
        before, quiet = self.jumped, sorted(self._quiet)
        self.jumped += round(len(quiet) * seconds / IDLE_SECONDS)
        turn = self.jumped // self.kept
        if quiet and turn != before // self.kept:
            self.add(quiet[turn % len(quiet)], now)
