"""Which pass a thread is in: what every line that is logged meanwhile is about.

`process` begins it, `reconcile` adds what it has read, `logs` writes it down.
"""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass
class Trail:
    """One pass over one deployment; `generation` is 0 until the object has ever been read."""

    namespace: str
    name: str
    id: str
    generation: int = 0


_CURRENT: ContextVar[Trail | None] = ContextVar("trail", default=None)


def current() -> Trail | None:
    """That of the pass this thread is in."""
    return _CURRENT.get()


@contextmanager
def following(namespace: str, name: str) -> Iterator[Trail]:
    """A new pass, for as long as the block lasts."""
    trail = Trail(namespace, name, uuid.uuid4().hex[:12])
    before = _CURRENT.set(trail)
    try:
        yield trail
    finally:
        _CURRENT.reset(before)


def read(generation: int) -> None:
    """This generation of the object is what the pass is about, as far as is known."""
    trail = _CURRENT.get()
    if trail is not None:
        trail.generation = generation
