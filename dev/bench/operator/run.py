"""The story: some deployments at rest, many brought up, more at rest, a storm; and whether all is well."""

import json
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta

from budget_operator.process import WORKERS
from dev.bench.operator import replay
from dev.bench.operator.stage import Stage, cloud, opened
from dev.bench.results import verdict
from dev.paths import BENCH, LOCAL
from dev.progress import announce, step, until

RESULTS = LOCAL / "bench" / "operator.json"
READY_GOAL, CPU_GOAL, STORM_GOAL = 1.5, 5.0, 10.0
RSS_GOAL = 300e6 / 2**20  # 300 MB
#: Of the calls a minute: one that comes every few minutes may fall into the one window and not the other.
SAME = 1.0
SETTLE_SECONDS = 90.0
FEW_SECONDS = 180.0


@dataclass(frozen=True)
class Options:
    """How many deployments, for how long, and how long a call to the cloud takes."""

    few: int = 100
    ready: int = 500
    many: int = 2000
    idle_minutes: float = 10.0
    latency: float = 0.1


@dataclass(frozen=True)
class Ready:
    """Seconds from the first apply until the last is Ready; and those of its calls alone."""

    seconds: float
    cloud_seconds: float
    ratio: float


@dataclass(frozen=True)
class Rest:
    """Of the operator's process, while nothing happens."""

    cloud_calls_per_minute: float
    cpu_percent: float
    rss_mib: float


def run(options: Options) -> bool:
    """Measure, print and write down; a missed goal is no failure."""
    with opened(options.latency) as stage:
        few = _few(stage, options)
        ready = _ready(stage, options)
        many, writes = _many(stage, options)
        storm = _storm(stage, options.many)
    results = {
        f"ready_{options.ready}": asdict(ready),
        f"rest_{options.many}": asdict(many),
        f"rest_{options.few}": asdict(few),
        f"storm_{options.many}_seconds": storm,
        "idle_writes": writes,
    }
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    for line in table(options, ready, many, few, storm, writes):
        print(line)
    return True


def _few(stage: Stage, options: Options) -> Rest:
    stage.start_operator()
    with step(f"{options.few} deployments Ready"):
        stage.apply(0, options.few)
        stage.until_ready(options.few, 900)
    rest, _ = _rest(stage, min(FEW_SECONDS, options.idle_minutes * 60))
    with step(f"{options.few} deployments deleted"):
        stage.delete(0, options.few)
        stage.until_gone(900)
    stage.operator.stop()
    return rest


def _ready(stage: Stage, options: Options) -> Ready:
    calls = stage.folder / "calls"
    stage.start_operator(calls)
    with step(f"{options.ready} deployments Ready") as taken:
        stage.apply(0, options.ready)
        stage.until_ready(options.ready, 3600)
    stage.operator.stop()
    port = BENCH.port("localcloud-replay")
    made = replay.read(calls, stage.url, f"http://127.0.0.1:{port}")
    with (
        cloud(stage.folder / "replay", port, "simulated", options.latency),
        step(f"the same {len(made)} calls alone"),
    ):
        alone = replay.play(made, WORKERS)
    return Ready(round(taken.seconds, 1), round(alone, 1), round(taken.seconds / alone, 2))


def _many(stage: Stage, options: Options) -> tuple[Rest, int]:
    stage.cloud.delete("/faults").raise_for_status()
    stage.start_operator()
    with step(f"{options.many} deployments Ready"):
        stage.apply(options.ready, options.many)
        stage.until_ready(options.many, 7200)
    if wait := beyond_midnight(datetime.now(UTC), SETTLE_SECONDS + options.idle_minutes * 60):
        announce(f"the hour after midnight UTC, in which statuses are written: {wait:.0f} s to its end")
        time.sleep(wait)
    return _rest(stage, options.idle_minutes * 60)


def beyond_midnight(now: datetime, seconds: float) -> float:
    """Seconds to the end of the hour after midnight, in which each status gets its month to date, if any of
    so many from now would fall into it; else 0."""
    midnight = (now + timedelta(seconds=seconds)).replace(hour=0, minute=0, second=0, microsecond=0)
    return max(0.0, (midnight + timedelta(hours=1) - now).total_seconds())


def _rest(stage: Stage, seconds: float) -> tuple[Rest, int]:
    """Once all has settled; and how many writes there were besides Leases."""
    with step("settled"):
        time.sleep(min(SETTLE_SECONDS, seconds))
    before, resources = stage.read(), stage.writes()
    with step(f"at rest for {seconds:.0f} s") as current:
        time.sleep(seconds)
        after, now = stage.read(), stage.writes()
        written = {kind: count - resources.get(kind, 0) for kind, count in now.items()}
        current.note = f"writes: {({kind: count for kind, count in written.items() if count}) or 'none'}"
    minutes = (after.at - before.at) / 60
    rest = Rest(
        cloud_calls_per_minute=round((after.calls - before.calls) / minutes, 1),
        cpu_percent=round((after.cpu_seconds - before.cpu_seconds) / (after.at - before.at) * 100, 2),
        rss_mib=round(stage.rss_mib(), 1),
    )
    return rest, after.writes - before.writes


def _storm(stage: Stage, count: int) -> float:
    """Seconds from the last of the edits until the operator has answered a change of a spec made then."""
    with step(f"a status edit storm of {count}"):
        stage.edit_status(0, count, "storm")
    started = time.monotonic()
    with step("absorbed"):
        generation = stage.edit(count - 1, "after the storm")
        until(lambda: stage.observed(count - 1) >= generation, 300, "the storm is not absorbed")
        absorbed = time.monotonic() - started
    with step("every status is right again"):
        until(lambda: "storm" not in stage.column("State"), 600, "a status stays wrong", interval=1.0)
    return round(absorbed, 2)


def table(options: Options, ready: Ready, many: Rest, few: Rest, storm: float, writes: int) -> list[str]:
    """For people."""

    def row(what: str, value: str, goal: str) -> str:
        return f"{what:<44}{value:>22}   {goal}"

    calls, same = many.cloud_calls_per_minute, few.cloud_calls_per_minute + SAME
    return [
        row(
            f"{options.ready} Ready, by the cloud's calls alone",
            f"{ready.seconds} s / {ready.cloud_seconds} s",
            f"{ready.ratio}; {verdict(ready.ratio, READY_GOAL, at_most=True)}",
        ),
        row(f"at rest with {options.few}: cloud calls", f"{few.cloud_calls_per_minute} /min", ""),
        row("  processor, memory", f"{few.cpu_percent} %, {few.rss_mib} MiB", ""),
        row(f"at rest with {options.many}: cloud calls", f"{calls} /min", verdict(calls, same, at_most=True)),
        row("  processor", f"{many.cpu_percent} %", verdict(many.cpu_percent, CPU_GOAL, at_most=True)),
        row("  memory", f"{many.rss_mib} MiB", verdict(many.rss_mib, RSS_GOAL, at_most=True)),
        row(f"storm of {options.many} status edits", f"{storm} s", verdict(storm, STORM_GOAL, at_most=True)),
        row(
            f"writes in {options.idle_minutes:g} idle minutes", f"{writes}", verdict(writes, 0, at_most=True)
        ),
    ]
