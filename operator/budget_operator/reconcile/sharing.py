"""Who may touch what all deployments share: any number at once beside each other, or one alone.

The last of several deletions must see that it is, and nobody may put code into a bucket that it is emptying;
but two deployments that only upload need not wait for each other.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Sharing:
    """A lock with two ways in; whoever waits to be alone comes before those who come later."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._together = 0
        self._alone = 0  # how many are alone, or wait to be
        self._taken = False

    @contextmanager
    def together(self) -> Iterator[None]:
        """Beside others who are in this way."""
        with self._changed:
            self._changed.wait_for(lambda: not self._alone)
            self._together += 1
        try:
            yield
        finally:
            with self._changed:
                self._together -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """With nobody else."""
        with self._changed:
            self._alone += 1
            self._changed.wait_for(lambda: not (self._taken or self._together))
            self._taken = True
        try:
            yield
        finally:
            with self._changed:
                self._taken = False
                self._alone -= 1
                self._changed.notify_all()
