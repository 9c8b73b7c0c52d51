"""How the calls of one kind to the API server went lately; `health` tells from it. No I/O."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Reading:
    """Seconds since the last call that succeeded (None: none did yet), and of the failures after it."""

    ok_age: float | None = None
    failing_for: float | None = None  # since the first failure of the row; None: the last call was fine
    failure: str = ""  # what the last call said


UNHEARD = Reading()  # nobody has called yet


class Contact:
    """Written by whoever calls, read by whoever wants to know; thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._ok_at: float | None = None
        self._failing_since: float | None = None
        self._failure = ""

    def succeeded(self) -> None:
        """An answer came, as it should be."""
        with self._lock:
            self._ok_at, self._failing_since, self._failure = self._clock(), None, ""

    def failed(self, failure: str) -> None:
        """No answer, or a refusal; `failure` is for people and names no deployment."""
        with self._lock:
            if self._failing_since is None:
                self._failing_since = self._clock()
            self._failure = failure

    def read(self) -> Reading:
        """As of now."""
        with self._lock:
            now = self._clock()
            return Reading(_age(now, self._ok_at), _age(now, self._failing_since), self._failure)


def _age(now: float, moment: float | None) -> float | None:
    return None if moment is None else now - moment
