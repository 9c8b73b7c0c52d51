"""Keeps a look at the cloud that failed from being made again at once, by whichever deployment needs it.

What many deployments need is asked for by one of them; where it fails all others would ask next, and a
service that is overloaded or limits calls would be asked the more often the more deployments there are.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TypeVar

from budget_operator.core.errors import BudgetError

FIRST_PAUSE, LONGEST_PAUSE = timedelta(seconds=1), timedelta(seconds=30)

T = TypeVar("T")


class Backoff:
    """Of one look. Not safe to share between threads: its owner has a lock."""

    def __init__(
        self,
        clock: Callable[[], datetime],
        first: timedelta = FIRST_PAUSE,
        longest: timedelta = LONGEST_PAUSE,
    ) -> None:
        self._clock = clock
        self._first = first
        self.longest = longest
        self._failures = 0  # in a row
        self._failure: tuple[datetime, BudgetError] | None = None  # until when it rests, and why

    def call(self, look: Callable[[], T]) -> T:
        """What the look finds. The pause doubles with each failure in a row.

        Raises:
            BudgetError: it has failed, now or the last time; after that it is not made while its pause lasts.
        """
        if self._failure is not None and self._clock() < self._failure[0]:
            raise self._failure[1].with_traceback(None)  # it has been raised before
        try:
            found = look()
        except BudgetError as error:
            pause = min(self._first * 2 ** min(self._failures, 16), self.longest)
            self._failures += 1
            self._failure = self._clock() + pause, error
            raise
        self._failures, self._failure = 0, None
        return found
