"""Whether the machine's memory holds another generation beside the one that serves.

The next one is taken to want as much as the present one. Where that is too little the kernel decides, and
takes the one that loads (see `process.EXPENDABLE`); so there is no margin here that would only cost callers.
Where a control group limits this process, the machine ends there.
"""

import contextlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from budget_server.vm import cgroup

MIB = 2**20
MOST_WORKERS = 32


@dataclass(frozen=True)
class Usage:
    """Memory in bytes: (pid, resident) of each worker, the machine's total and what is free."""

    workers: tuple[tuple[int, int], ...] = ()
    total: int | None = None
    available: int | None = None

    def document(self) -> dict[str, object]:
        """As it is told, in MiB; what is not known is left out."""
        workers = [{"pid": pid, "rssMiB": size // MIB} for pid, size in self.workers[:MOST_WORKERS]]
        memory = {
            name: size // MIB
            for name, size in (("totalMiB", self.total), ("availableMiB", self.available))
            if size is not None
        }
        return {name: value for name, value in (("workers", workers), ("memory", memory)) if value}


NO_USAGE = Usage()


def usage(pids: Iterable[int], meminfo: Path, root: Path = Path("/")) -> Usage:
    """What these processes and the machine use now."""
    workers = []
    for pid in sorted(pids):
        with contextlib.suppress(OSError, ValueError, IndexError):  # it has just ended
            resident = int((root / "proc" / str(pid) / "statm").read_text().split()[1])
            workers.append((pid, resident * os.sysconf("SC_PAGE_SIZE")))
    return Usage(tuple(workers), total(meminfo, root), available(meminfo, root))


def used(pids: Iterable[int], proc: Path = Path("/proc")) -> int:
    """Bytes that these processes hold for themselves alone; read where any user may read."""
    pages = 0
    for pid in pids:
        with contextlib.suppress(OSError, ValueError, IndexError):  # it has just ended
            fields = (proc / str(pid) / "statm").read_text().split()
            pages += max(int(fields[1]) - int(fields[2]), 0)
    return pages * os.sysconf("SC_PAGE_SIZE")


def total(meminfo: Path, root: Path = Path("/")) -> int | None:
    """Bytes that all programs together may hold; None if the machine does not tell."""
    group = cgroup.room(root)
    return _least(_meminfo(meminfo, "MemTotal"), group.total if group else None)


def available(meminfo: Path, root: Path = Path("/")) -> int | None:
    """Bytes that programs can still be given; None if the machine does not tell."""
    group = cgroup.room(root)
    return _least(_meminfo(meminfo, "MemAvailable"), group.available if group else None)


def _least(*numbers: int | None) -> int | None:
    return min((number for number in numbers if number is not None), default=None)


def _meminfo(meminfo: Path, name: str) -> int | None:
    try:
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
        return int(lines[name].split()[0]) * 1024
    except (OSError, ValueError, KeyError, IndexError):
        return None


def short(wanted: int, free: int | None) -> bool:
    """Whether there is less than what is wanted; a machine that does not tell has enough."""
    return free is not None and free < wanted
