"""What is looked up once for all deployments, and then believed for a while."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Generic, TypeVar

from budget_operator.core.backoff import Backoff

T = TypeVar("T")


@dataclass(frozen=True)
class Taken(Generic[T]):
    """What was found, and when the look began."""

    at: datetime
    found: T


class Shared(Generic[T]):
    """Safe to share between workers: who needs a new look while one is taken waits for that one."""

    def __init__(
        self, look: Callable[[], T], age: Callable[[T], timedelta], clock: Callable[[], datetime]
    ) -> None:
        self._look = look
        self._age = age
        self._clock = clock
        self._lock = threading.Lock()
        self._last: Taken[T] | None = None
        self._due = clock()  # when the last one is too old
        self._backoff = Backoff(clock)

    def get(self) -> Taken[T]:
        """One that is not older than `age` says of what was found.

        Raises:
            BudgetError: the look failed, just now or a moment ago.
        """
        with self._lock:
            now = self._clock()
            if self._last is None or now >= self._due:
                self._last = Taken(now, self._backoff.call(self._look))
                self._due = now + self._age(self._last.found)
            return self._last
