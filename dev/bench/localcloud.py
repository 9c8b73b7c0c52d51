"""How fast the local cloud is: `make bench-localcloud`, with simulated VMs and its durations turned down.

The cloud runs on one core; the client is the real one (google-cloud-compute, over HTTP). The baseline of the
same run is the cheapest call that this client can make to this server. A month is simulated in this process,
on one core as well, with the operator and the function.
"""

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx

from dev.bench.cores import on_core
from dev.bench.results import verdict
from dev.conformance import bodies, clients
from dev.conformance.bodies import PROJECT, ZONE
from dev.conformance.server import until
from dev.paths import LOCAL, VENV_BIN, locked
from localcloud.ports import free_port

INSTANCES, SECONDS_GOAL = 1000, 60.0
RESTING, REST_SECONDS, REST_GOAL = 50, 30.0, 0.01
CALLERS, BASELINE_CALLS = 8, 400
DEPLOYMENTS, DAYS, MONTH_GOAL = 100, 30, 60.0
#: About two losses for each deployment, as waves and alone.
WAVES, ALONE = 8, 6
#: Of so many passes that find nothing to do one is made: about one a day.
KEPT = 288_000
RESULTS = LOCAL / "bench" / "localcloud.json"
AT: dict[str, Any] = {"project": PROJECT, "zone": ZONE}
_NOTHING = ("provisioning", "staging", "operation", "notice", "stop_spot")
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Server:
    """A local cloud as a process of its own."""

    url: str
    pid: int

    def cpu_seconds(self) -> float:
        """What it has used so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS


@contextmanager
def served(*options: str) -> Iterator[Server]:
    """On core 0 alone."""
    place, port = Path(tempfile.mkdtemp(prefix="bench-localcloud-")), free_port()
    argv = [
        str(VENV_BIN / "localcloud"),
        "serve",
        f"--home={place / 'home'}",
        "--backend=simulated",
        *options,
    ]
    argv += [f"--listen=127.0.0.1:{port}", "--subnet=127.77.0.0/16"]
    with on_core(0), (place / "log").open("wb") as log:
        process = subprocess.Popen(argv, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    try:
        until(lambda: _answers(url), "the local cloud", 30)
        yield Server(url, process.pid)
    finally:
        process.terminate()
        process.wait(30)
        shutil.rmtree(place)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/_localcloud/v1/health", trust_env=False).is_success
    except httpx.TransportError:
        return False


def run(instances: int) -> bool:
    """Measure, print and write down; a missed goal is no failure."""
    with locked("bench"):
        with served(*(f"--duration={name}=0" for name in _NOTHING)) as server:
            bare = _bare(server)
            calls, seconds = _story(server, instances)
        with served() as server:
            resting = _resting(server)
        month = _month()
    per_call = seconds / calls
    rows = [
        {"row": "one call of zones.get", "seconds": bare},
        {"row": f"{instances} instances made, preempted, restarted", "seconds": seconds, "calls": calls},
        {"row": "one call of these", "seconds": per_call, "ratio": per_call / bare},
        {"row": f"at rest with {RESTING} instances", "cores": resting},
        {"row": f"a month of {DEPLOYMENTS} deployments", **asdict(month)},
    ]
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(rows, indent=1) + "\n")
    wanted = SECONDS_GOAL * instances / INSTANCES
    print(f"{'one call of zones.get, the same client':<45}{bare * 1000:8.1f} ms")
    print(
        f"{f'{instances} instances made, preempted, restarted':<45}{seconds:8.1f} s"
        f"   {calls} calls of {per_call * 1000:.1f} ms ({per_call / bare:.1f} x zones.get); "
        f"{verdict(seconds, wanted, at_most=True)}"
    )
    print(
        f"{f'at rest with {RESTING} instances':<45}{resting * 100:8.2f} % of a core; "
        f"{verdict(resting, REST_GOAL, at_most=True)}"
    )
    print(
        f"{f'a month of {DEPLOYMENTS} deployments':<45}{month.seconds:8.1f} s   {month.losses} VMs lost; "
        f"{month.calls} calls, {month.passes} passes and {month.ticks} ticks made, {month.jumped_passes} and "
        f"{month.jumped_ticks} jumped over; {verdict(month.seconds, MONTH_GOAL, at_most=True)}"
    )
    return True


def _api(url: str) -> Any:
    from google.cloud import compute_v1

    return compute_v1.InstancesClient(**clients.options(url))


def _bare(server: Server) -> float:
    from google.cloud import compute_v1

    zones = compute_v1.ZonesClient(**clients.options(server.url))
    return _timed(lambda _: zones.get(**AT), range(BASELINE_CALLS)) / BASELINE_CALLS


def _story(server: Server, instances: int) -> tuple[int, float]:
    """How many calls were made, and how long it took."""
    from google.cloud import compute_v1

    api = _api(server.url)
    operations = compute_v1.ZoneOperationsClient(**clients.options(server.url))

    def done(operation: Any) -> None:
        while operation.status != compute_v1.Operation.Status.DONE:
            operation = operations.wait(operation=operation.name, **AT)
        if operation.error.errors:
            raise RuntimeError(operation.error.errors[0].code)

    def live(number: int) -> None:
        name = f"vm-{number:04d}"
        body = compute_v1.Instance.from_json(json.dumps(bodies.spot_instance(name)))
        done(api.insert_unary(instance_resource=body, **AT))
        done(api.simulate_maintenance_event_unary(instance=name, **AT))
        while api.get(instance=name, **AT).status != "TERMINATED":
            time.sleep(0.01)
        done(api.start_unary(instance=name, **AT))

    seconds = _timed(live, range(instances))
    journal = httpx.get(f"{server.url}/_localcloud/v1/journal", params={"limit": 10**6}, timeout=60).json()
    asked = [entry for entry in journal["entries"] if "zones.get" not in entry["permission"]]
    running = sum(each.status == "RUNNING" for each in api.list(**AT))
    if running != instances:
        raise RuntimeError(f"{running} of {instances} instances run in the end")
    return len(asked), seconds


def _timed(work: Callable[[int], object], numbers: Iterable[int]) -> float:
    started = time.perf_counter()
    with ThreadPoolExecutor(CALLERS) as pool:
        for _ in pool.map(work, numbers):
            pass
    return time.perf_counter() - started


@dataclass(frozen=True)
class Month:
    """What one took, and what was done and not done in it."""

    seconds: float
    losses: int
    calls: int
    passes: int
    jumped_passes: int
    ticks: int
    jumped_ticks: int


def _month() -> Month:
    _simulate(1, 1, losses=0)  # imports take seconds of their own
    return _simulate(DEPLOYMENTS, DAYS, losses=1)


def _simulate(deployments: int, days: int, losses: int) -> Month:
    from dev.simulation import month
    from dev.simulation.world import world

    names = [f"model-{number:03d}" for number in range(deployments)]
    market = month.losses(names, days, WAVES * losses, ALONE * losses, seed=1)
    started = time.perf_counter()
    with on_core(0), world(kept=KEPT) as made:
        taken = month.play(made, names, days, market)
        seconds = time.perf_counter() - started
        if problems := month.problems(made, names):
            raise RuntimeError(f"not all is well after a month: {problems[:3]}")
        calls = made.cloud.context.journal.entries(limit=1)[-1].id
        passes, ticks = made.passes, made.ticks
        return Month(seconds, taken, calls, passes.made, passes.jumped, ticks.sent, ticks.jumped)


def _resting(server: Server) -> float:
    """The part of a core that it takes while nobody asks."""
    api = _api(server.url)
    for number in range(RESTING):
        resource = bodies.spot_instance(f"vm-{number}")
        httpx.post(f"{server.url}/compute/v1/projects/{PROJECT}/zones/{ZONE}/instances", json=resource)
    until(lambda: all(each.status == "RUNNING" for each in api.list(**AT)), "all to run", 60)
    before, started = server.cpu_seconds(), time.monotonic()
    time.sleep(REST_SECONDS)
    return (server.cpu_seconds() - before) / (time.monotonic() - started)
