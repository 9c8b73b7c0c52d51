"""A keyed work queue with due times: what the operator does next, and never twice at once.

The earliest due time of a key wins; adding a key that is being worked on marks it, so that it runs again.
Knows nothing of Kubernetes or of what the work is. The clock is `time.monotonic` unless a test gives one.
"""

import threading
import time
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)


class WorkQueue(Generic[Key]):
    """Thread-safe; `take` blocks until a key is due, `done` gives it back."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._due: dict[Key, float] = {}
        self._running: set[Key] = set()
        self._changed = threading.Condition()
        self._closed = False

    def add(self, key: Key, delay: float = 0.0) -> None:
        """Ask for work on the key in `delay` seconds, or earlier if that was asked before."""
        with self._changed:
            due = self._clock() + delay
            self._due[key] = min(due, self._due.get(key, due))
            self._changed.notify()

    def take(self) -> Key | None:
        """The next due key, or None once the queue is closed."""
        with self._changed:
            while not self._closed:
                ready = self._next()
                if ready is None:
                    self._changed.wait()
                    continue
                key, due = ready
                pause = due - self._clock()
                if pause <= 0:
                    del self._due[key]
                    self._running.add(key)
                    return key
                self._changed.wait(pause)
            return None

    def done(self, key: Key, again_after: float | None = None) -> None:
        """Work on the key has ended; it comes back after `again_after` seconds, or when it is added."""
        with self._changed:
            self._running.discard(key)
            self._changed.notify_all()
        if again_after is not None:
            self.add(key, again_after)

    def close(self) -> None:
        """Let every `take` return None; work in progress may still end."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def drained(self, timeout: float) -> bool:
        """Wait until nothing is being worked on; False if that took longer than `timeout` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._running, timeout)

    def depth(self) -> int:
        """How many keys are due now and not being worked on."""
        with self._changed:
            now = self._clock()
            return sum(1 for key, due in self._due.items() if due <= now and key not in self._running)

    def _next(self) -> tuple[Key, float] | None:
        waiting = [(due, index, key) for index, (key, due) in enumerate(self._due.items())]
        candidates = [(due, index, key) for due, index, key in waiting if key not in self._running]
        if not candidates:
            return None
        due, _, key = min(candidates, key=lambda item: item[:2])
        return key, due
