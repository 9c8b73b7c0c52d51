"""The load: wrk, Debian's package, fetched and unpacked below `.local` where it is not installed."""

import contextlib
import json
import os
import platform
import resource
import shutil
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dev.errors import DevError
from dev.packages import unpack
from dev.paths import LOCAL

FOLDER = LOCAL / "bench" / "wrk"
SCRIPT = Path(__file__).with_name("load.lua")
PACKAGES = ("wrk", "libluajit-5.1-2", "libluajit-5.1-common")
TIMEOUT_SECONDS = 10
"""An answer that takes longer is an error."""


@dataclass(frozen=True)
class Program:
    """A wrk that runs, and what its environment needs."""

    path: str
    env: Mapping[str, str]


@dataclass(frozen=True)
class Report:
    """What wrk saw in one run."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    not_200: int
    lost: int
    timeouts: int

    @property
    def rps(self) -> float:
        """Answers a second."""
        return self.requests / self.seconds

    @property
    def problem(self) -> str:
        """Why this run is no measurement; empty if it is one."""
        if self.not_200:
            return f"{self.not_200} of {self.requests} answers were not 200"
        if self.lost:
            return f"{self.lost} connections failed"
        if self.timeouts:
            return f"{self.timeouts} requests took more than {TIMEOUT_SECONDS} s"
        return "" if self.requests else "nothing was answered"


def parse(printed: str) -> Report:
    """The line of JSON that load.lua ends with; what wrk prints itself is left alone."""
    for text in reversed(printed.splitlines()):
        with contextlib.suppress(ValueError, KeyError, TypeError):
            told = json.loads(text)
            return Report(
                requests=int(told["requests"]),
                seconds=told["microseconds"] / 1e6,
                p50_ms=told["p50"] / 1e3,
                p99_ms=told["p99"] / 1e3,
                not_200=int(told["not_200"]),
                lost=int(told["lost"]),
                timeouts=int(told["timeouts"]),
            )
    raise DevError(f"wrk ended without its report:\n{printed[-2000:]}")


def program() -> Program:
    """The installed wrk, or one of our own."""
    if installed := shutil.which("wrk"):
        return Program(installed, {})
    path = FOLDER / "usr" / "bin" / "wrk"
    if not path.exists():
        unpack(PACKAGES, FOLDER)
    libraries = FOLDER / "usr" / "lib" / f"{platform.machine()}-linux-gnu"
    return Program(str(path), {"LD_LIBRARY_PATH": str(libraries)})


@dataclass(frozen=True)
class Load:
    """The same request from so many connections."""

    program: Program
    url: str
    body: Path
    authorization: str
    connections: int

    def run(self, seconds: int) -> tuple[Report, float]:
        """What was seen, and which part of a core wrk itself took; it runs where its caller does."""
        argv = [self.program.path, "-t1", f"-c{self.connections}"]
        argv += [f"-d{seconds}s", f"--timeout={TIMEOUT_SECONDS}s", f"--script={SCRIPT}", self.url]
        env = {**os.environ, **self.program.env, "BENCH_BODY": str(self.body)}
        env["BENCH_AUTHORIZATION"] = self.authorization
        began = time.perf_counter()
        with subprocess.Popen(
            argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as child:
            before = _children_seconds()
            try:
                printed, _ = child.communicate(timeout=seconds + 60)
            except subprocess.TimeoutExpired:
                child.kill()
                raise DevError(f"wrk does not end; it was to ask {self.url} for {seconds} s.") from None
        return parse(printed), (_children_seconds() - before) / (time.perf_counter() - began)


def _children_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
