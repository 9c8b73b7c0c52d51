"""Which core runs what, and who else took time of it."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """What is started within runs on this core alone, and so do its children."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@dataclass(frozen=True)
class Clock:
    """Seconds that a core, and that some processes, have spent so far."""

    elapsed: float
    busy: float
    own: float

    def others(self, later: "Clock") -> float:
        """The part of the time between that neither was idle nor theirs."""
        spent = (later.busy - self.busy) - (later.own - self.own)
        return max(0.0, spent / max(later.elapsed - self.elapsed, 1e-9))


def clock(core: int, pids: Iterable[int]) -> Clock:
    """The core's seconds since boot, and those that these processes took on any core."""
    lines = Path("/proc/stat").read_text().splitlines()
    spent = [
        int(word) / _TICKS
        for word in next(row for row in lines if row.startswith(f"cpu{core} ")).split()[1:9]
    ]
    user, nice, system, _, _, _, _, steal = spent
    # interrupts are left out: those of the benchmark's own connections are in nobody's time
    return Clock(sum(spent), user + nice + system + steal, sum(_seconds_of(pid) for pid in pids))


def _seconds_of(pid: int) -> float:
    with suppress(OSError):
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(words[11]) + int(words[12])) / _TICKS
    return 0.0
