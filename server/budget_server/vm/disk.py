"""Writing to the disk so that the power may be cut at any time: what has a name is whole.

Without a flush a rename can reach the disk before the content that it names: then an empty file is left.
"""

import os
from pathlib import Path


def write(path: Path, content: str) -> None:
    """Replace a file that only process 1 may read; a power cut leaves its old content or the new one."""
    beside = path.with_name(f"{path.name}.new")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    move(beside, path)


def move(beside: Path, place: Path) -> None:
    """Give its name to what is complete and flushed; it has it still after a power cut."""
    beside.replace(place)
    flush(place.parent)


def flush(path: Path) -> None:
    """A file's content, or which names a directory holds."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
