"""What a target of the Dockerfile is made from: its stages' text and the files they copy.

Their hash decides whether an image must be built again; a change in another target's stage does not count.
"""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FROM = re.compile(r"FROM\s+(\S+)(?:\s+AS\s+(\S+))?", re.IGNORECASE)
IGNORED = {"__pycache__", ".mypy_cache", ".pytest_cache", ".ruff_cache"}


@dataclass(frozen=True)
class Stage:
    """One FROM section: what it stands on and its instructions, continuation lines joined."""

    name: str
    parent: str
    lines: tuple[str, ...]

    @property
    def parents(self) -> list[str]:
        """Stages that this one stands on or copies from."""
        copied = [match[1] for line in self.lines if (match := re.search(r"--from=(\S+)", line))]
        return [self.parent, *copied]

    def sources(self) -> Iterator[str]:
        """Paths in the build context that are copied."""
        for line in self.lines:
            words = line.split()
            if words[0].upper() in {"COPY", "ADD"} and "--from=" not in line:
                yield from [word for word in words[1:] if not word.startswith("--")][:-1]


def parse(text: str) -> dict[str, Stage]:
    """The stages by name."""
    code = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    joined = re.sub(r"\\\n", " ", code)
    stages: dict[str, Stage] = {}
    name, parent = "", ""
    lines: list[str] = []
    for line in [line for line in joined.splitlines() if line.strip()]:
        if match := FROM.match(line):
            stages[name] = Stage(name, parent, tuple(lines))
            parent, name, lines = match[1], match[2] or f"stage{len(stages)}", []
        lines.append(" ".join(line.split()))
    stages[name] = Stage(name, parent, tuple(lines))
    return stages


def fingerprint(context: Path, target: str, base_id: str) -> str:
    """Hash of all that goes into a target."""
    stages = parse((context / "Dockerfile").read_text())
    digest = hashlib.sha256(base_id.encode())
    for stage in _chain(stages, target):
        digest.update("\n".join(stage.lines).encode())
        for source in stage.sources():
            for path in _files(context / source):
                digest.update(f"\0{path.relative_to(context)}\0{path.stat().st_mode & 0o111}\0".encode())
                digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def environment(context: Path, target: str) -> dict[str, str]:
    """What the target's own ENV lines set."""
    stage = parse((context / "Dockerfile").read_text())[target]
    settings = [line.split()[1:] for line in stage.lines if line.upper().startswith("ENV ")]
    return dict(each.split("=", 1) for line in settings for each in line)


def _chain(stages: dict[str, Stage], target: str) -> list[Stage]:
    found: dict[str, Stage] = {}
    waiting = [target]
    while waiting:
        if (name := waiting.pop()) in stages and name not in found:
            found[name] = stages[name]
            waiting += stages[name].parents
    return list(found.values())


def _files(source: Path) -> list[Path]:
    if source.is_file():
        return [source]
    return sorted(path for path in source.rglob("*") if path.is_file() and not IGNORED & set(path.parts))
