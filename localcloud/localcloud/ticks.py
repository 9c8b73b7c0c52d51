"""Which ticks of Cloud Scheduler are really sent: all, or in a simulation those that something waits for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


def _never() -> bool:
    return False


@dataclass
class Ticks:
    """`idle` tells that nothing in the cloud waits for a tick. Then it is jumped over and counted, but for
    every `kept`th, which is sent all the same: what nothing waited for must change nothing."""

    idle: Callable[[], bool] = _never
    kept: int = 1000
    sent: int = 0
    jumped: int = 0

    def is_sent(self) -> bool:
        """Whether the tick that is due now is sent; counts it."""
        if self.idle() and (self.sent + self.jumped + 1) % self.kept:
            self.jumped += 1
            return False
        self.sent += 1
        return True
