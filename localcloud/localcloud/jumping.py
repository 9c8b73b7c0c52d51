"""Time for simulations: it jumps to whatever is due next, so that a month takes as long as its work.

Its threads take turns. Exactly one runs, until it waits; then the first that was woken goes on, or else the
one that is due next, and the time is what it waited for. So a history is the same at every run.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta


@dataclass(eq=False)
class _Waiting:
    """A thread that has not got its turn. `due` is in seconds since the clock's start."""

    due: float
    wake: threading.Event
    turn: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))


class JumpingClock:
    """Belongs to the thread that makes it; all others that ever wait on it come from `thread`."""

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._start = start
        self._elapsed = 0.0
        self._waiting: list[_Waiting] = []

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self._elapsed)

    def monotonic(self) -> float:
        return self._elapsed

    def wait(self, seconds: float, wake: threading.Event) -> bool:
        """Let the others have their turns until the time has come, or `wake` is set.

        Raises:
            RuntimeError: nobody is left who could set it.
        """
        me = _Waiting(self._elapsed + max(0.0, seconds), wake)
        self._waiting.append(me)
        self._pass_on(me)
        return wake.is_set()

    def sleep(self, seconds: float) -> None:
        """Wait for nothing but the time."""
        self.wait(seconds, threading.Event())

    def thread(self, work: Callable[[], object], name: str) -> _Thread:
        return _Thread(self, work, name)

    def join_in(self, newcomer: _Waiting) -> None:
        """Somebody who is not running yet wants a turn."""
        self._waiting.append(newcomer)

    def leave(self) -> None:
        """The running thread ends: the next one's turn."""
        self._pass_on(None)

    def _pass_on(self, me: _Waiting | None) -> None:
        chosen = self._choose()
        if chosen is me:
            return
        chosen.turn.release()
        if me is not None:
            me.turn.acquire()

    def _choose(self) -> _Waiting:
        woken = next((each for each in self._waiting if each.wake.is_set()), None)
        chosen = woken or min(self._waiting, key=lambda each: each.due)
        if woken is None:
            if chosen.due == math.inf:
                raise RuntimeError("every thread waits for another one")
            self._elapsed = max(self._elapsed, chosen.due)
        self._waiting.remove(chosen)
        return chosen


class _Thread:
    """`clock.Thread`."""

    def __init__(self, clock: JumpingClock, work: Callable[[], object], name: str) -> None:
        self._clock = clock
        self._work = work
        self._place = _Waiting(clock.monotonic(), threading.Event())
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._place.due = self._clock.monotonic()
        self._clock.join_in(self._place)
        self._thread.start()

    def join(self, timeout: float | None = None) -> None:
        if not self._ended.is_set():
            self._clock.wait(math.inf if timeout is None else timeout, self._ended)

    def _run(self) -> None:
        self._place.turn.acquire()
        try:
            self._work()
        finally:
            self._ended.set()
            self._clock.leave()
