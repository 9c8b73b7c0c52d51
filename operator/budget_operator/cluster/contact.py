"""How the calls of one kind to the API server went lately; `health` tells from it. No I/O."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Reading:
    """Ages in seconds; None: that did not happen (yet)."""

    ok_age: float | None = None  # of the last call that succeeded
    quiet_for: float | None = None  # since the last call ended, well or not, or calls were begun with
    failing_for: float | None = None  # since the first failure of a row that lasts
    failure: str = ""  # what the last call said, if it failed


UNHEARD = Reading()  # nobody has called yet


class Contact:
    """Written by whoever calls, read by whoever wants to know; thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._ok_at: float | None = None
        self._heard_at: float | None = None
        self._failing_since: float | None = None
        self._failure = ""

    def begin(self) -> None:
        """Calls are made from now on: silence counts."""
        with self._lock:
            self._heard_at = self._clock()

    def succeeded(self) -> None:
        """An answer came, as it should be."""
        with self._lock:
            self._ok_at = self._heard_at = self._clock()
            self._failing_since, self._failure = None, ""

    def failed(self, failure: str) -> bool:
        """No answer, or a refusal; `failure` is for people and names no deployment. True if it is news."""
        with self._lock:
            self._heard_at = self._clock()
            if self._failing_since is None:
                self._failing_since = self._heard_at
            news = failure != self._failure
            self._failure = failure
            return news

    def read(self) -> Reading:
        """As of now."""
        with self._lock:
            now = self._clock()
            return Reading(
                _age(now, self._ok_at),
                _age(now, self._heard_at),
                _age(now, self._failing_since),
                self._failure,
            )


def _age(now: float, moment: float | None) -> float | None:
    return None if moment is None else now - moment
