"""What this process's own control group says of memory, in version 1 or 2, wherever it is mounted.

A container sees its own group only: in version 1 also the narrowest limit of the groups around it, in version
2 not even that.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

_NO_LIMIT = 2**60


@dataclass(frozen=True)
class Room:
    """Bytes: what the group may hold, and what it could still be given."""

    total: int
    available: int


def files(v1: str, v2: str, root: Path = Path("/")) -> Iterator[Path]:
    """Where a file of the own group may stand: below its path, or at the top if only it is mounted."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    mount = root / "sys/fs/cgroup"
    paths = {controllers: path for _, controllers, path in (line.split(":", 2) for line in lines)}
    for controllers, path in paths.items():
        name = v1 if controllers else v2
        if controllers and "memory" not in controllers.split(","):
            continue
        top = mount / controllers if controllers else mount
        yield top / path.lstrip("/") / name
        yield top / name


def fields(path: Path) -> dict[str, int]:
    """A file of names and numbers.

    Raises:
        OSError, ValueError: it is not there, or is something else.
    """
    lines = (line.split(maxsplit=1) for line in path.read_text().splitlines() if " " in line)
    return {name: int(value) for name, value in lines}


def room(root: Path = Path("/")) -> Room | None:
    """None where nothing limits the group. What is cached from the disk can be given up."""
    for path in files("memory.stat", "memory.stat", root):
        try:
            stat = fields(path)
            found = _first(stat) if "hierarchical_memory_limit" in stat else _second(path.parent, stat)
        except (OSError, ValueError, KeyError):
            continue
        return found if found.total < _NO_LIMIT else None
    return None


def _first(stat: Mapping[str, int]) -> Room:
    limit = stat["hierarchical_memory_limit"]
    return Room(limit, max(limit - stat["total_rss"] - stat["total_shmem"], 0))


def _second(group: Path, stat: Mapping[str, int]) -> Room:
    text = (group / "memory.max").read_text().strip()
    limit = _NO_LIMIT if text == "max" else int(text)
    used = int((group / "memory.current").read_text()) - stat["active_file"] - stat["inactive_file"]
    return Room(limit, max(limit - used, 0))
