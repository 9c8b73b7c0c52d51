"""The benchmark of the model server: `make bench-serving`.

The servers take turns, round after round, so that what disturbs the machine meets all alike. Servers run on
one core, the load and this program on another. What is measured is `results`, by what is `wrk`, and against
what is `servers` and `peers`.
"""

import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median

from dev.bench import peers, work, wrk
from dev.bench.cores import clock, on_core
from dev.bench.results import (
    HEADER,
    IDLE_GOAL_MIB,
    READY_GOAL_SECONDS,
    Case,
    Row,
    Sample,
    Start,
    is_wanted,
    line,
    middle,
    rows,
    start_json,
    verdict,
    with_references,
)
from dev.bench.servers import Running, Server, budget, children, ours_and_theirs, rss_mib, running
from dev.errors import DevError
from dev.paths import LOCAL, locked
from dev.progress import step, until

FOLDER = LOCAL / "bench"
RESULTS = FOLDER / "serving.json"
START_RESULTS = FOLDER / "serving-start.json"
START = "start"
"""The word of `--only` for the starts without a model."""
WARM_UP_SECONDS = 1
BUSY = 0.5
TRIES = 3
"""Until one of them is calm."""
LOAD_LIMIT = 0.8
"""Of its core: a load that takes more may be what limits the server."""


@dataclass(frozen=True)
class Options:
    """How much is measured."""

    rounds: int = 5
    seconds: int = 3
    only: Sequence[str] = ()
    peers: bool = False


@dataclass
class Bench:
    """A run under way."""

    options: Options
    program: wrk.Program
    server_core: int
    load_core: int
    servers: list[Server]
    samples: dict[Case, list[Sample]] = field(default_factory=dict)
    starts: list[Start] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    load_share: float = 0.0

    def play(self) -> None:
        """All rounds."""
        for number in range(self.options.rounds):
            with step(f"round {number + 1} of {self.options.rounds}"):
                if not self.options.only or START in self.options.only:
                    self._try(START, self._start)
                for server in self.servers:
                    name = f"{server.name}/{server.workload}/{server.predictor}"
                    if not self._try(name, partial(self._measure, server)):
                        for case in server.cases:
                            self.samples.pop(case, None)

    def _try(self, name: str, measure: Callable[[], None]) -> bool:
        """A server that fails has no row, costs no other its own, and is not asked again."""
        if name not in self.failures:
            try:
                measure()
            except DevError as error:
                self.failures[name] = str(error)
        return name not in self.failures

    def _measure(self, server: Server) -> None:
        with running(server, self.server_core) as started:
            authorization = started.authorization()
            started.check(authorization)
            for case in server.cases:
                if case in self.samples:
                    self.samples[case].append(self._sample(started, case, authorization))

    def _sample(self, started: Running, case: Case, authorization: str) -> Sample:
        """After warming up, the least disturbed of a few tries; on a quiet machine there is only one."""
        load = wrk.Load(self.program, started.url, body(case.workload), authorization, case.connections)
        self._try_once(started, load, WARM_UP_SECONDS)
        tries: list[Sample] = []
        while len(tries) < TRIES and not any(sample.is_calm for sample in tries):
            tries.append(self._try_once(started, load, self.options.seconds))
        return min(tries, key=lambda sample: sample.others)

    def _try_once(self, started: Running, load: wrk.Load, seconds: int) -> Sample:
        before = clock(self.server_core, started.pids()), clock(self.load_core, ())
        report, share = load.run(seconds)
        after = clock(self.server_core, started.pids()), clock(self.load_core, ())
        if report.problem:
            raise DevError(f"{report.problem}; {started.process.log_file} may say why.")
        self.load_share = max(self.load_share, share)
        others = max(before[0].others(after[0]), before[1].others(after[1]) - share)
        return Sample(report.rps, report.p50_ms, report.p99_ms, started.rss_mib(), others)

    def _start(self) -> None:
        """From exec to the first 200, and the memory right after it."""
        began = time.perf_counter()
        with running(budget("echo", "async", ()), self.server_core) as started:
            until(
                lambda: started.ask("GET", "/healthz/ready")[0] == 200,
                60,
                lambda: f"It does not get ready:\n{started.process.log_tail()}",
                interval=0.005,
            )
            seconds = time.perf_counter() - began
            workers = children(started.process.pid() or 0)
            if len(workers) != 1:
                raise DevError(f"gunicorn was to have one worker and has {len(workers)}.")
            self.starts.append(Start(seconds, rss_mib(workers[0]), started.rss_mib()))


def run(options: Options) -> bool:
    """Measure, print and write down; false if a server failed (a missed goal is no failure)."""
    with locked("bench"):
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) < 2:
            raise DevError("The benchmark needs two cores: one for the servers, one for the load.")
        bench, refused = _prepared(options, cores[0], cores[1])
        with on_core(cores[1]):
            bench.play()
    table = rows(bench.samples)
    _write(bench, table)
    _print(bench, table, refused)
    return not bench.failures


def _prepared(options: Options, server_core: int, load_core: int) -> tuple[Bench, dict[str, str]]:
    FOLDER.mkdir(parents=True, exist_ok=True)
    with step("wrk") as current:
        program = wrk.program()
        current.note = program.path
    servers = ours_and_theirs()
    refused: dict[str, str] = {}
    if options.peers:
        there, refused = peers.installed()
        servers += [server for peer in there for server in peer.servers()]
    servers.sort(key=lambda server: server.workload)
    cases = with_references(
        case for server in servers for case in server.cases if is_wanted(case, options.only)
    )
    if options.only and not cases and START not in options.only:
        raise DevError(f"No row has one of these words: {', '.join(options.only)}.")
    chosen = [server for server in servers if cases.intersection(server.cases)]
    for workload in work.WORKLOADS:
        body(workload).write_text(json.dumps({"payload": work.named(workload).PAYLOAD}))
    load = os.getloadavg()[0]
    if load > BUSY:
        print(
            f"           ...     the machine is busy (load {load:.1f}): something else runs, and disturbs",
            flush=True,
        )
    samples: dict[Case, list[Sample]] = {
        case: [] for server in chosen for case in server.cases if case in cases
    }
    return Bench(options, program, server_core, load_core, chosen, samples), refused


def body(workload: str) -> Path:
    """What is posted, for wrk to read."""
    return FOLDER / f"{workload}.json"


def _write(bench: Bench, table: Sequence[Row]) -> None:
    if table:
        RESULTS.write_text(json.dumps([row.as_json() for row in table], indent=1) + "\n")
    if bench.starts:
        START_RESULTS.write_text(json.dumps(start_json(middle(bench.starts)), indent=1) + "\n")


def _print(bench: Bench, table: Sequence[Row], refused: dict[str, str]) -> None:
    if table:
        print(f"\n{HEADER}")
        for row in table:
            print(line(row))
        others = [sample.others for taken in bench.samples.values() for sample in taken]
        limits = " It may be what limits the fastest." if bench.load_share > LOAD_LIMIT else ""
        print(f"\nThe load took {bench.load_share:.0%} of its core at most.{limits}")
        print(f"Others took {median(others):.0%} of a core, {max(others):.0%} at most.")
    if bench.starts:
        start = middle(bench.starts)
        ready = verdict(start.ready_seconds, READY_GOAL_SECONDS, at_most=True)
        memory = verdict(start.worker_mib, IDLE_GOAL_MIB, at_most=True)
        print("\nWithout a model")
        print(f"  start to ready      {start.ready_seconds:8.2f} s    {ready}")
        print(f"  idle worker         {start.worker_mib:8.1f} MiB  {memory}")
        print(f"  with gunicorn's own {start.tree_mib:8.1f} MiB")
    for name, why in bench.failures.items():
        print(f"\nFAILED  {name}: {why}")
    for name, why in refused.items():
        print(f"\nNot installed  {name}: {why}")
    if table:
        print(f"\nAlso in {RESULTS}")
