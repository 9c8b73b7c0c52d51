"""Time. The only module that reads a system clock; everything else is handed a `Clock`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Thread(Protocol):
    """Work that runs beside its maker's."""

    def start(self) -> None: ...
    def join(self, timeout: float | None = None) -> None: ...


class Clock(Protocol):
    """What the local cloud knows of time."""

    def now(self) -> datetime:
        """The present moment, in UTC."""

    def monotonic(self) -> float:
        """Seconds that never run backwards; only differences mean anything."""

    def wait(self, seconds: float, wake: threading.Event) -> bool:
        """Block until `seconds` have passed (False) or `wake` is set (True)."""

    def thread(self, work: Callable[[], object], name: str) -> Thread:
        """A thread that lives in this time. All that wait on this clock, but for its owner, are made here."""


class SystemClock:
    """The machine's own time."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    def wait(self, seconds: float, wake: threading.Event) -> bool:
        return wake.wait(max(0.0, seconds))

    def thread(self, work: Callable[[], object], name: str) -> Thread:
        return threading.Thread(target=work, name=name, daemon=True)


class ManualClock:
    """Time that stands still until a test turns it."""

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._start = start
        self._elapsed = 0.0
        self._turned = threading.Condition()

    def now(self) -> datetime:
        with self._turned:
            return self._start + timedelta(seconds=self._elapsed)

    def monotonic(self) -> float:
        with self._turned:
            return self._elapsed

    def advance(self, seconds: float) -> None:
        """Turn the clock forward and wake whoever waits for the new time."""
        if seconds < 0:
            raise ValueError("time does not run backwards")
        with self._turned:
            self._elapsed += seconds
            self._turned.notify_all()

    def wait(self, seconds: float, wake: threading.Event) -> bool:
        with self._turned:
            due = self._elapsed + seconds
            while self._elapsed < due and not wake.is_set():
                # `wake` cannot notify this condition, so it is looked at again shortly.
                self._turned.wait(0.02)
        return wake.is_set()

    def thread(self, work: Callable[[], object], name: str) -> Thread:
        return threading.Thread(target=work, name=name, daemon=True)


def rfc3339(moment: datetime) -> str:
    """`2026-01-01T00:00:00.000Z`, as Google's APIs print it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def parse_rfc3339(text: str) -> datetime:
    """The inverse of `rfc3339`; any RFC 3339 text is read."""
    return datetime.fromisoformat(text).astimezone(UTC)
