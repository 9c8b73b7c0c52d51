"""A keyed work queue with due times: what the operator does next, and never twice at once.

The earliest due time of a key wins, and what somebody waits for goes before what time has brought; adding a
key that is being worked on marks it, so that it runs again. What is brief is done by one worker after the
other: side by side they would only take the interpreter from each other.
Knows nothing of Kubernetes or of what the work is. The clock is `time.monotonic` unless a test gives one.
"""

import heapq
import threading
import time
from collections.abc import Callable, Hashable
from enum import Enum
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)

_Entry = tuple[float, int, Key]  # due, order of asking, key


class _Lane(Enum):
    """What is waiting for a worker: what somebody waits for, the usual, and what is brief."""

    FIRST = 0
    USUAL = 1
    BRIEF = 2


BRIEF_SECONDS = 0.25  # after which others need not wait any more for what should have been brief


class WorkQueue(Generic[Key]):
    """Thread-safe; `take` blocks until a key is due, `done` gives it back. Both are O(log keys)."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._due: dict[Key, float] = {}
        # What `_due` does not say any more is passed over when it comes up.
        self._heaps: dict[_Lane, list[_Entry[Key]]] = {lane: [] for lane in _Lane}
        self._brief: set[Key] = set()  # whose work was, the last time
        self._alone: tuple[Key, float] | None = None  # the brief one being worked on, and until when alone
        self._preferred: set[Key] = set()
        self._came_first: set[Key] = set()  # of those being worked on
        self._asked = 0
        self._running: set[Key] = set()
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._ended = threading.Condition(self._lock)
        # Of the workers that wait one waits for the first key's time; so that one, not all, wakes up then.
        self._watching: object | None = None
        self._closed = False

    def add(self, key: Key, delay: float = 0.0) -> None:
        """Ask for work on the key in `delay` seconds, or earlier if that was asked before."""
        with self._lock:
            self._ask(key, delay)

    def _ask(self, key: Key, delay: float) -> None:
        due = self._clock() + delay
        if due >= self._due.get(key, float("inf")):
            return
        self._due[key] = due
        if key not in self._running:
            self._push(key)

    def add_first(self, key: Key) -> None:
        """Ask for work on the key now, before all that is due and was not asked for like this."""
        with self._lock:
            now = self._clock()
            if key in self._preferred and self._due.get(key, float("inf")) <= now:
                return
            self._preferred.add(key)
            self._due[key] = min(now, self._due.get(key, float("inf")))
            if key not in self._running:
                self._push(key)

    def take(self) -> Key | None:
        """The next due key, or None once the queue is closed."""
        with self._lock:
            while not self._closed:
                lane, pause = self._next()
                if lane is not None and pause is not None and pause <= 0:
                    return self._taken(lane)
                self._wait(pause)
            return None

    def _next(self) -> tuple[_Lane | None, float | None]:
        """From which lane, and in how many seconds, one is handed out."""
        now = self._clock()
        until = now if self._alone is None else self._alone[1]
        found = []
        for lane, heap in self._heaps.items():
            if (entry := self._top(heap)) is not None:
                pause = max(0.0, entry[0] - now, until - now if lane is _Lane.BRIEF else 0.0)
                found.append((pause, lane is not _Lane.FIRST, entry[:2], lane))
        if not found:
            return None, None
        pause, _, _, lane = min(found)
        return lane, pause

    def _taken(self, lane: _Lane) -> Key:
        key = heapq.heappop(self._heaps[lane])[-1]
        del self._due[key]
        if key in self._preferred:
            self._preferred.discard(key)
            self._came_first.add(key)
        self._running.add(key)
        if lane is _Lane.BRIEF:
            self._alone = key, self._clock() + BRIEF_SECONDS
        elif self._alone is None and self._heaps[_Lane.BRIEF]:
            self._watching = None  # it may be waiting for what was brief
        if self._watching is None and any(self._heaps.values()):
            self._changed.notify()
        return key

    def _wait(self, pause: float | None) -> None:
        if pause is None or self._watching is not None:
            self._changed.wait()
            return
        mine = self._watching = object()
        self._changed.wait(pause)
        if self._watching is mine:
            self._watching = None

    def lengthens(self, key: Key) -> None:
        """The work on it is not as brief as it was the last time: others need not wait for its end."""
        with self._lock:
            if self._ends_alone(key):
                self._watching = None
                self._changed.notify()

    def _ends_alone(self, key: Key) -> bool:
        mine = self._alone is not None and self._alone[0] == key
        if mine:
            self._alone = None
        return mine

    def done(
        self, key: Key, again_after: float | None = None, *, brief: bool = False, waits: bool = False
    ) -> None:
        """Work on the key has ended; it comes back after `again_after` seconds, or when it is added.

        `brief`: it took a moment, and probably will the next time; `waits`: it was not done yet, so that it
        comes back as it came.
        """
        with self._lock:
            self._running.discard(key)
            self._ends_alone(key)
            (self._brief.add if brief else self._brief.discard)(key)
            if waits and key in self._came_first:
                self._preferred.add(key)
            self._came_first.discard(key)
            if key in self._due:
                self._push(key)
            if again_after is not None:
                self._ask(key, again_after)
            if not self._running:
                self._ended.notify_all()

    def close(self) -> None:
        """Let every `take` return None; work in progress may still end."""
        with self._lock:
            self._closed = True
            self._changed.notify_all()

    def drained(self, timeout: float) -> bool:
        """Wait until nothing is being worked on; False if that took longer than `timeout` seconds."""
        with self._lock:
            return self._ended.wait_for(lambda: not self._running, timeout)

    def depth(self) -> int:
        """How many keys are due now and not being worked on."""
        with self._lock:
            now = self._clock()
            return sum(1 for key, due in self._due.items() if due <= now and key not in self._running)

    def age(self) -> float:
        """Seconds that the key which waits longest for a worker has been due."""
        with self._lock:
            waiting = [due for key, due in self._due.items() if key not in self._running]
            return max(0.0, self._clock() - min(waiting, default=float("inf")))

    def _push(self, key: Key) -> None:
        self._asked += 1
        heap = self._heaps[self._lane(key)]
        heapq.heappush(heap, (self._due[key], self._asked, key))
        if heap[0][1] == self._asked:  # whoever waits waits for a later one
            self._watching = None
            self._changed.notify()

    def _lane(self, key: Key) -> _Lane:
        if key in self._preferred:
            return _Lane.FIRST
        return _Lane.BRIEF if key in self._brief else _Lane.USUAL

    def _top(self, heap: list[_Entry[Key]]) -> _Entry[Key] | None:
        """The one that is due first, now or later, and not being worked on."""
        while heap:
            due, _, key = heap[0]
            if self._due.get(key) == due and key not in self._running:
                return heap[0]
            heapq.heappop(heap)
        return None
