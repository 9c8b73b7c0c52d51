"""The servers of the benchmark: how each is started, asked, and how much memory it takes."""

import http.client
import json
import math
import os
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dev import process
from dev.bench import work
from dev.bench.cores import on_core
from dev.bench.results import BARE, BUDGET, Case
from dev.errors import DevError
from dev.paths import MAIN, ROOT, VENV_BIN
from dev.process import Process
from dev.progress import until

PYTHON = str(VENV_BIN / "python")
STRIPPED = ("--ws=none", "--lifespan=off", "--no-proxy-headers")
"""What uvicorn does by itself for whoever runs it, left out as well."""
UNREAD_TOKEN = f"Bearer {'x' * 197}"
LOGIN: Mapping[str, str] = {
    "BUDGET_USERNAME": "bench",
    "BUDGET_PWD": "bench-password",
    "BUDGET_SIGNING_KEY": "ab" * 32,
}
ONE_THREAD = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL", "NUMEXPR")}
START_SECONDS = 90
FEW, MANY = 16, 64

Command = Callable[[int], list[str]]


@dataclass(frozen=True)
class Server:
    """One server around one workload."""

    name: str
    workload: str
    predictor: str
    command: Command
    """How it is started on a port of 127.0.0.1."""
    connections: tuple[int, ...]
    path: str = "/predict_dict"
    logs_in: bool = False
    env: Mapping[str, str] = field(default_factory=dict)

    @property
    def cases(self) -> list[Case]:
        """One for each number of connections."""
        return [Case(self.name, self.workload, self.predictor, count) for count in self.connections]


def ours_and_theirs(few: int = FEW, many: int = MANY) -> list[Server]:
    """The servers that need no installation, workload by workload."""
    return [server for workload in work.WORKLOADS for server in _around(workload, few, many)]


def _around(workload: str, few: int, many: int) -> list[Server]:
    both = (few,) if few == many else (few, many)
    return [
        Server(BARE, workload, "async", _uvicorn("bare"), both, path="/"),
        budget(workload, "async", (few,)),
        budget(workload, "plain", (few,)),
        budget(workload, "batch", (many,)),
        budget(workload, "generic", (few,), path="/predict"),
        Server("stripped", workload, "async", _uvicorn("bare", *STRIPPED), (few,), path="/"),
        Server("fastapi", workload, "async", _uvicorn("chain"), (few,), logs_in=True, env=LOGIN),
    ]


def budget(
    workload: str, predictor: str, connections: tuple[int, ...], path: str = "/predict_dict"
) -> Server:
    """Ours, as process 1 of a VM starts it but for the socket."""
    env = {
        **LOGIN,
        "BUDGET_TOKEN": "bench-token",
        "BUDGET_NAME": "default/bench",
        "BUDGET_REVISION": "0123456789ab",
        "BUDGET_ENTRYPOINT": f"dev.bench.predictors.{workload}_{predictor}:Predictor",
        "BUDGET_CODE_DIR": str(ROOT),
    }

    def command(port: int) -> list[str]:
        argv = [PYTHON, "-m", "gunicorn", "-c", "python:budget_server.gunicorn_conf"]
        return [*argv, "budget_server.app:app", f"--bind=127.0.0.1:{port}"]

    return Server(BUDGET, workload, predictor, command, connections, path, logs_in=True, env=env)


def _uvicorn(module: str, *options: str) -> Command:
    def command(port: int) -> list[str]:
        argv = [PYTHON, "-m", "uvicorn", f"dev.bench.apps.{module}:app", "--host=127.0.0.1", f"--port={port}"]
        argv += ["--loop=uvloop", "--http=httptools", "--no-access-log", "--log-level=warning"]
        return [*argv, *options]

    return command


@dataclass(frozen=True)
class Running:
    """A server that has been started."""

    server: Server
    process: Process
    port: int

    @property
    def url(self) -> str:
        """What the load asks."""
        return f"http://127.0.0.1:{self.port}{self.server.path}"

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        """Status and body; status 0 while nothing listens."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path, body, dict(headers or {}))
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException) as error:
            return 0, str(error).encode()
        finally:
            connection.close()

    def authorization(self) -> str:
        """The header of a client that has logged in, once the server lets it.

        One that knows no login gets a header as long, so that all receive the same request.
        """
        if not self.server.logs_in:
            return UNREAD_TOKEN
        form = {"username": LOGIN["BUDGET_USERNAME"], "password": LOGIN["BUDGET_PWD"]}
        answer = self._until_200("/token", urllib.parse.urlencode(form), "application/x-www-form-urlencoded")
        return f"Bearer {json.loads(answer)['access_token']}"

    def check(self, authorization: str) -> None:
        """Ask once what the load will ask, and compare the answer with the workload's own."""
        workload = work.named(self.server.workload)
        body = json.dumps({"payload": workload.PAYLOAD})
        extra = {"Authorization": authorization}
        answer = json.loads(self._until_200(self.server.path, body, "application/json", extra))
        if not agrees(workload.work(workload.PAYLOAD), answer):
            raise DevError(f"{self.server.name} answers {str(answer)[:300]}, which is not what was computed.")

    def rss_mib(self) -> float:
        """Memory of the whole process tree; pages that processes share count in each."""
        return sum(rss_mib(pid) for pid in self.pids())

    def pids(self) -> list[int]:
        """All its processes."""
        return process.marked(self.process.mark)

    def _until_200(
        self, path: str, body: str, content_type: str, extra: Mapping[str, str] | None = None
    ) -> bytes:
        status, answer = 0, b""

        def answered() -> bool:
            nonlocal status, answer
            headers = {"Content-Type": content_type, **(extra or {})}
            status, answer = self.ask("POST", path, body.encode(), headers)
            if self.process.pid() is None:
                raise DevError(f"{self.server.name} ended:\n{self.process.log_tail()}")
            return status == 200

        def failure() -> str:
            told = f"{self.server.name} answers {path} with {status} {answer[:300]!r}"
            return f"{told} {START_SECONDS} s after its start:\n{self.process.log_tail()}"

        until(answered, START_SECONDS, failure, interval=0.05)
        return answer


def agrees(expected: Any, answer: Any) -> bool:
    """Equal, but for the rounding of floats."""
    if isinstance(expected, dict) and isinstance(answer, dict):
        return expected.keys() == answer.keys() and all(agrees(expected[key], answer[key]) for key in answer)
    if isinstance(expected, list) and isinstance(answer, list):
        return len(expected) == len(answer) and all(map(agrees, expected, answer))
    if isinstance(expected, float) and isinstance(answer, int | float):
        return math.isclose(expected, answer, rel_tol=1e-3, abs_tol=1e-5)
    return bool(expected == answer)


@contextmanager
def running(server: Server, core: int) -> Iterator[Running]:
    """Start the server on this core alone, and end it and all its children."""
    child = Process(MAIN, f"bench-{server.name}")
    port = MAIN.port("bench")
    inherited = {name: os.environ[name] for name in ("HOME", "LANG", "TMPDIR") if name in os.environ}
    env = {
        **inherited,
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        work.VARIABLE: server.workload,
        **ONE_THREAD,
        **server.env,
    }
    try:
        with on_core(core):
            child.start(server.command(port), env)
        yield Running(server, child, port)
    finally:
        child.stop(seconds=10)


def rss_mib(pid: int) -> float:
    """Resident memory of one process; 0 if it has just ended."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0.0
    return next((int(row.split()[1]) / 1024 for row in text.splitlines() if row.startswith("Rss:")), 0.0)


def children(pid: int) -> list[int]:
    """The processes that this one has started itself."""
    found: list[int] = []
    for listed in Path(f"/proc/{pid}/task").glob("*/children"):
        found += [int(word) for word in listed.read_text().split()]
    return found
