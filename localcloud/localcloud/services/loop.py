"""A thread that does a step whenever one is due. Owned by services that act without being asked."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from localcloud.clock import Clock, Thread

_log = logging.getLogger(__name__)
_LONGEST_WAIT = 60.0
_AFTER_AN_ERROR = 1.0


class Loop:
    """Calls `step` again and again. A step returns the seconds until something is due (None: nothing is).

    `poke` ends a wait early; after `longest` seconds a step comes in any case, since clocks may be set. An
    exception in a step is logged and the next step comes a second later.
    """

    def __init__(
        self, name: str, clock: Clock, step: Callable[[], float | None], longest: float = _LONGEST_WAIT
    ) -> None:
        self._name = name
        self._clock = clock
        self._step = step
        self._longest = longest
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread: Thread | None = None

    def start(self) -> None:
        self._stopping.clear()
        self._thread = self._clock.thread(self._run, self._name)
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join()

    def poke(self) -> None:
        self._wake.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            if self._stopping.is_set():
                return
            self._clock.wait(self._due(), self._wake)

    def _due(self) -> float:
        try:
            due = self._step()
        except Exception:
            _log.exception("%s: a step failed", self._name)
            return _AFTER_AN_ERROR
        return self._longest if due is None else max(0.0, min(due, self._longest))
