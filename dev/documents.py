"""Reads documents as their readers do: the commands in them, and what is shown below as the answer.

In Markdown a block marked `sh` holds commands. A block marked `text` or `json` that follows it, before the
next commands, shows what they print. Every other block is neither.
"""

import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from dev.errors import DevError

_FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ELLIPSIS = "…"
# What differs from run to run: addresses, times, ages, hashes, numbers that a cloud gives out.
_VARYING = (
    (re.compile(r"\b\d{1,3}(?:\.\d{1,3}){3}\b"), "<address>"),
    (re.compile(r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"), "<time>"),
    (re.compile(r"\b\d\d:\d\d:\d\d\b"), "<time>"),
    (re.compile(r"\b\d+\.\d+ s\b"), "<seconds>"),
    (re.compile(r"\b(?:\d+[smhd])+(?= |$)", re.MULTILINE), "<age>"),
    (re.compile(r"\b[0-9a-f]{12}\b"), "<hash>"),
    (re.compile(r"-\d+-sub-\d+\b"), "-<n>-sub-<n>"),
)


@dataclass(frozen=True)
class Shown:
    """An answer as a document shows it."""

    kind: str  # text or json
    content: str


@dataclass(frozen=True)
class Block:
    """One block of commands and the answer that is shown for it."""

    commands: tuple[str, ...]
    shown: Shown | None = None


def blocks(path: Path) -> tuple[Block, ...]:
    """All blocks of commands of a document, in order."""
    found: list[Block] = []
    for kind, content in _FENCED.findall(path.read_text(encoding="utf-8")):
        if kind == "sh":
            found.append(Block(commands(content)))
        elif kind in ("text", "json") and found and found[-1].shown is None:
            found[-1] = replace(found[-1], shown=Shown(kind, content))
    return tuple(found)


def commands(script: str) -> tuple[str, ...]:
    """The commands of a block, each as one text; lines belong together as bash says."""
    return tuple(_commands(script))


def _commands(script: str) -> Iterator[str]:
    pending = ""
    for line in script.splitlines():
        if not pending and (not line.strip() or line.lstrip().startswith("#")):
            continue
        pending += f"{line}\n"
        if not line.endswith("\\") and _is_complete(pending):
            yield pending.strip()
            pending = ""
    if pending:
        raise DevError(f"These lines are no command that bash understands:\n{pending}")


def _is_complete(text: str) -> bool:
    return not subprocess.run(
        ["bash", "-n"], input=text, capture_output=True, text=True, check=False
    ).returncode


def agrees(shown: Shown, printed: str) -> bool:
    """Whether the answer is as shown: JSON by value, text without what differs from run to run."""
    if shown.kind == "json":
        try:
            return bool(json.loads(shown.content) == json.loads(printed))
        except ValueError:
            return False
    lines = plain(shown.content).splitlines()
    pattern = "".join(r"(?:.*\n)*?" if line == ELLIPSIS else f"{re.escape(line)}\n" for line in lines)
    return re.fullmatch(pattern, f"{plain(printed)}\n") is not None


def plain(text: str) -> str:
    """The text with what varies replaced by a word for it, and blanks as single ones."""
    lines = (" ".join(line.split()) for line in text.splitlines() if line.strip())
    text = "\n".join(lines)
    for pattern, word in _VARYING:
        text = pattern.sub(word, text)
    return text
