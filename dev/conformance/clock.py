"""The machine's time, which a test can hold: nothing then happens between two of its lines."""

import threading
import time
from datetime import UTC, datetime, timedelta

from localcloud.clock import SystemClock

LOOK = 0.005
"""Seconds between two looks of a waiting thread at whether the time went on."""


class HeldClock(SystemClock):
    """Runs like the machine's until `hold`; from then on it passes only by `advance`, until `release`."""

    def __init__(self) -> None:
        self._began = datetime.now(UTC)
        self._start = time.monotonic()
        self._held: float | None = None
        self._behind = 0.0

    def monotonic(self) -> float:
        return time.monotonic() - self._behind if self._held is None else self._held

    def now(self) -> datetime:
        return self._began + timedelta(seconds=self.monotonic() - self._start)

    def wait(self, seconds: float, wake: threading.Event) -> bool:
        deadline = self.monotonic() + seconds
        while self.monotonic() < deadline:
            if wake.wait(LOOK):
                return True
        return wake.is_set()

    def hold(self) -> None:
        self._held = self.monotonic()

    def advance(self, seconds: float) -> None:
        assert self._held is not None, "only a held clock is moved by hand"
        self._held += seconds

    def release(self) -> None:
        assert self._held is not None
        self._behind, self._held = time.monotonic() - self._held, None
