"""One line per step with its seconds, and waiting for conditions with a deadline."""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from dev.errors import DevError


@dataclass
class Step:
    """A step under way; `note` ends up on its line."""

    name: str
    note: str = ""
    seconds: float = 0.0


@contextlib.contextmanager
def step(name: str, note: str = "") -> Iterator[Step]:
    """Times a step and prints one line when it has ended, well or not."""
    current = Step(name, note)
    started = time.monotonic()
    mark = "FAILED"
    try:
        yield current
        mark = "ok"
    finally:
        current.seconds = time.monotonic() - started
        tail = f"  ({current.note})" if current.note else ""
        print(f"{current.seconds:7.1f} s  {mark:<6}  {name}{tail}", flush=True)


def announce(text: str) -> None:
    """Says what takes long before it is done."""
    print(f"           ...     {text}", flush=True)


def until(
    condition: Callable[[], bool],
    seconds: float,
    failure: Callable[[], str] | str,
    interval: float = 0.1,
) -> None:
    """Polls until the condition holds; after the deadline the failure's sentence is raised."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise DevError(failure if isinstance(failure, str) else failure())
        time.sleep(interval)
