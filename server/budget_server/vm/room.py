"""Whether the machine's memory holds another generation beside the one that serves.

The next one is taken to want as much as the present one. Where that is too little the kernel decides, and
takes the one that loads (see `process.EXPENDABLE`); so there is no margin here that would only cost callers.
"""

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path


def used(pids: Iterable[int], proc: Path = Path("/proc")) -> int:
    """Bytes that these processes hold for themselves alone; read where any user may read."""
    pages = 0
    for pid in pids:
        with contextlib.suppress(OSError, ValueError, IndexError):  # it has just ended
            fields = (proc / str(pid) / "statm").read_text().split()
            pages += max(int(fields[1]) - int(fields[2]), 0)
    return pages * os.sysconf("SC_PAGE_SIZE")


def available(meminfo: Path) -> int | None:
    """Bytes that programs can still be given; None if the machine does not tell."""
    try:
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, ValueError, KeyError, IndexError):
        return None


def short(wanted: int, free: int | None) -> bool:
    """Whether there is less than what is wanted; a machine that does not tell has enough."""
    return free is not None and free < wanted
