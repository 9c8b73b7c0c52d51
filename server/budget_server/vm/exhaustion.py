"""Tells want of memory and a full disk apart from ordinary failures, and names who wanted too much.

A container may read its own cgroup's count of processes that the kernel killed for want of memory (it counts
those that the whole machine's want took, too); where there is none, the machine's. A kill alone proves little
about a revision, since another program may have been taken: it counts where a program ended without a word,
or where the words are of a kill.
"""

import errno
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from budget_server.vm import cgroup
from budget_server.vm.errors import (
    DiskFull,
    Exhausted,
    LoadFailed,
    OutOfMemory,
    ReadinessFailed,
    RequirementsFailed,
    RolloutError,
)

_DISK_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT})
_DISK = re.compile(r"No space left on device|Disk quota exceeded|os error (?:28|122)\b|\[Errno (?:28|122)\]")
_MEMORY = re.compile(
    r"^\s*(?:[\w.]+\.)?_?\w*MemoryError\b|: MemoryError\b|[Cc](?:annot|an't) allocate memory|std::bad_alloc"
    r"|os error 12\b|\[Errno 12\]",
    re.MULTILINE,
)
_KILLED = re.compile(
    r"SIGKILL|signal:? 9\b|\bKilled\b|terminated abruptly|exit (?:code|status):? (?:-9|137)\b|Error 137\b"
)
_FAILED_BUILD = re.compile(r"Failed to [\w ]+? `([^`]+)`")
_FAILED_INSTALL = re.compile(r"Failed to install: \S+ \((.+?)(?: \(from .*)?\)$", re.MULTILINE)
_BEGUN = re.compile(r"^\s*(?:Building|Downloading|Preparing) (.+)$", re.MULTILINE)
_DONE = re.compile(r"^\s*(?:Built|Downloaded|Prepared) (.+)$", re.MULTILINE)
_SIZE = re.compile(r" \([\d.]+ ?[KMG]?i?B\)$")
_MOST_NAMED = 200


def read_kills(root: Path = Path("/")) -> int:
    """How many processes the kernel has killed here for want of memory."""
    for path in (*cgroup.files("memory.oom_control", "memory.events", root), root / "proc/vmstat"):
        try:
            return cgroup.fields(path)["oom_kill"]
        except (OSError, ValueError, KeyError):
            continue  # this kind of cgroup does not count here
    return 0


@dataclass(frozen=True)
class KillWatch:
    """Whether the kernel killed something since this was made."""

    count: Callable[[], int]
    before: int

    @classmethod
    def begin(cls, count: Callable[[], int] = read_kills) -> "KillWatch":
        return cls(count, count())

    def killed(self) -> bool:
        return self.count() > self.before


def told_apart(error: Exception, killed: bool, machine: str) -> RolloutError | None:
    """The error as one of want of memory or disk, with advice; None for any other.

    `machine` is the machine's type, empty where it is not known.
    """
    kind = _kind(error, killed)
    if kind is None:
        return None
    said = error.message if isinstance(error, RolloutError) else f"{type(error).__name__}: {error}"
    log = error.log if isinstance(error, RolloutError) else ""
    here = f" on {machine}" if machine else ""
    if kind is DiskFull:
        return DiskFull(
            f"The disk was full during {_culprit(error)}. Give it a larger one in spec.machine.diskGiB, or "
            f"write less; /tmp and /dev/shm are small, TMPDIR lies on the disk. ({_short(said)})",
            log,
        )
    how = "the kernel killed it" if killed else "it could not be given more"
    return OutOfMemory(
        f"Out of memory{here} during {_culprit(error)}: {how}. Give it a machine with more memory in "
        f"spec.machine.type. ({_short(said)})",
        log,
    )


def _kind(error: Exception, killed: bool) -> type[Exhausted] | None:
    if isinstance(error, Exhausted):
        return type(error)
    number = error.errno if isinstance(error, OSError) else None
    if isinstance(error, MemoryError) or number == errno.ENOMEM:
        return OutOfMemory
    if number in _DISK_ERRNOS:
        return DiskFull
    return _kind_by_words(error, killed) if isinstance(error, RolloutError) else None


def _kind_by_words(error: RolloutError, killed: bool) -> type[Exhausted] | None:
    text = _words(error)
    if _DISK.search(text):
        return DiskFull
    if _MEMORY.search(text) or (killed and (error.wordless or _KILLED.search(text))):
        return OutOfMemory
    return None


def _words(error: RolloutError) -> str:
    """Where the cause stands: a model prints much that is none, so of its log the last line alone counts."""
    if isinstance(error, LoadFailed | ReadinessFailed):
        return "\n".join((error.message, *error.log.rstrip().splitlines()[-1:]))
    return f"{error.message}\n{error.log}"


def _culprit(error: Exception) -> str:
    if not isinstance(error, RolloutError):
        return RolloutError.doing
    if isinstance(error, RequirementsFailed):
        named = requirement_at_work(f"{error.message}\n{error.log}")
        return f"the installation of {named[:_MOST_NAMED]}" if named else error.doing
    return error.doing


def requirement_at_work(output: str) -> str:
    """Which requirement uv was busy with when it failed, by what it said; empty if it said nothing."""
    for failed in (_FAILED_BUILD, _FAILED_INSTALL):
        if found := failed.search(output):
            return found.group(1)
    done = {_SIZE.sub("", line) for line in _DONE.findall(output)}
    begun = [_SIZE.sub("", line) for line in _BEGUN.findall(output)]
    return ", ".join(line for line in begun if line not in done)


def _short(text: str) -> str:
    return text if len(text) <= 400 else f"{text[:400]}…"
