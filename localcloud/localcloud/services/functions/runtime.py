"""What builds and runs functions, as the rest of the service sees it. `processes` is the real one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import httpx

from localcloud.context import Background
from localcloud.store import Json


class BuildError(Exception):
    """The source cannot be built; the message is for whoever wrote it."""


class StartError(Exception):
    """The function does not come up; the message holds the end of its log."""


@dataclass(frozen=True)
class Built:
    """The folder with main.py, and the interpreter that has its requirements."""

    source: Path
    python: Path


@dataclass(frozen=True)
class Serving:
    """One revision that can run."""

    function: str
    revision: str
    source: str
    python: str
    entry_point: str
    signature: str
    timeout: int
    variables: dict[str, str] = field(default_factory=dict)
    account: str = ""

    @classmethod
    def of(cls, record: Json) -> Serving:
        return cls(**record)

    @property
    def short(self) -> str:
        return self.function.rsplit("/", 1)[1]


class Runtime(Background, Protocol):
    """Runs at most one revision of each function."""

    def build(self, archive: bytes, runtime: str, variables: Mapping[str, str], log: Path) -> Built:
        """Raises BuildError."""

    def ensure(self, serving: Serving) -> object:
        """Let this revision, and no other, be what calls reach. Raises StartError."""

    def call(self, serving: Serving, method: str, headers: Mapping[str, str], body: bytes) -> httpx.Response:
        """Hand a request to the function. Raises StartError or httpx.HTTPError."""

    def end(self, function: str) -> None:
        """Nothing of the function runs any more."""

    def log(self, short: str) -> Path:
        """Where a function's own output goes."""
