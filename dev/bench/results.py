"""The figures: medians over rounds, ratios to the bare callable, goals, and how all that is written down.

Nothing here measures; `serving` does.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

BARE = "bare"
BUDGET = "budget"

GOALS: Mapping[tuple[str, str], float] = {
    ("echo", "async"): 0.85,
    ("mlp", "async"): 0.80,
    ("echo", "plain"): 0.60,
    ("mlp", "plain"): 0.60,
    ("mlp", "batch"): 1.0,
}
"""Ratios to the bare callable that ours is to reach, by workload and predictor."""
READY_GOAL_SECONDS = 1.5
IDLE_GOAL_MIB = 80e6 / 2**20
"""80 MB."""

DISTURBED = 0.03
"""Of a core taken by others: such a measurement counts only where there is none without."""


@dataclass(frozen=True)
class Case:
    """What one row of the table is about."""

    server: str
    workload: str
    predictor: str
    connections: int

    @property
    def name(self) -> str:
        """What `--only` looks for words in."""
        return f"{self.server}/{self.workload}/{self.predictor}/{self.connections}"

    @property
    def reference(self) -> "Case":
        """The bare callable under the same load."""
        return Case(BARE, self.workload, "async", self.connections)


@dataclass(frozen=True)
class Sample:
    """One round of one case."""

    rps: float
    p50_ms: float
    p99_ms: float
    rss_mib: float
    others: float = 0.0
    """The part of the busier core that somebody else took: how disturbed the measurement was."""

    @property
    def is_calm(self) -> bool:
        """Whether the server and its load had their cores for themselves."""
        return self.others <= DISTURBED


@dataclass(frozen=True)
class Row:
    """All rounds of one case, or the calm ones alone."""

    case: Case
    rps: float
    p50_ms: float
    p99_ms: float
    rss_mib: float
    ratio: float
    lowest: float
    highest: float
    """The ratios of the rounds by themselves: how far they lie apart is how much to trust `ratio`."""
    calm: str
    """How many rounds were, of how many."""
    is_calm: bool = True
    """Whether only calm rounds count: every case with the same reference had one."""

    @property
    def goal(self) -> float | None:
        """The ratio to reach, if this row has one."""
        if self.case.server != BUDGET:
            return None
        return GOALS.get((self.case.workload, self.case.predictor))

    def as_json(self) -> dict[str, str | float]:
        """As it lies in serving.json."""
        return {
            "server": self.case.server,
            "workload": self.case.workload,
            "predictor": self.case.predictor,
            "connections": self.case.connections,
            "rps": round(self.rps, 1),
            "p50_ms": round(self.p50_ms, 3),
            "p99_ms": round(self.p99_ms, 3),
            "rss_mib": round(self.rss_mib, 1),
            "ratio": round(self.ratio, 3),
        }


def rows(samples: Mapping[Case, Sequence[Sample]]) -> list[Row]:
    """One row a case, in order; a case without a measured bare callable beside it has none."""
    there = {case: taken for case, taken in samples.items() if taken and samples.get(case.reference)}
    # A calm round beside a disturbed one would tell of the disturbance: what is compared is chosen alike.
    disturbed = {
        case.reference for case, taken in there.items() if not any(sample.is_calm for sample in taken)
    }
    return [
        _row(case, taken, there[case.reference], calm_alone=case.reference not in disturbed)
        for case, taken in there.items()
    ]


def _row(case: Case, taken: Sequence[Sample], bare: Sequence[Sample], *, calm_alone: bool) -> Row:
    kept, reference = ([one for one in all_ if one.is_calm or not calm_alone] for all_ in (taken, bare))
    rps = median(sample.rps for sample in kept)
    pairs = list(zip(taken, bare, strict=False))
    calm = [pair for pair in pairs if pair[0].is_calm and pair[1].is_calm]
    each = [ours.rps / theirs.rps for ours, theirs in calm or pairs]
    return Row(
        case,
        rps=rps,
        p50_ms=median(sample.p50_ms for sample in kept),
        p99_ms=median(sample.p99_ms for sample in kept),
        rss_mib=median(sample.rss_mib for sample in kept),
        ratio=rps / median(sample.rps for sample in reference),
        lowest=min(each),
        highest=max(each),
        calm=f"{sum(sample.is_calm for sample in taken)}/{len(taken)}",
        is_calm=calm_alone,
    )


def is_wanted(case: Case, only: Sequence[str]) -> bool:
    """Whether the name has one of these words; one with slashes must have its parts side by side."""
    return not only or any(f"/{word}/" in f"/{case.name}/" for word in only)


def with_references(cases: Iterable[Case]) -> set[Case]:
    """The cases, and the bare callable that each is compared with."""
    return {wanted for case in cases for wanted in (case, case.reference)}


def verdict(value: float, goal: float, *, at_most: bool = False) -> str:
    """The goal, and whether it is met."""
    met = value <= goal if at_most else value >= goal
    return f"{'at most' if at_most else 'at least'} {goal:.4g}: {'met' if met else 'NOT met'}"


HEADER = (
    f"{'server':<10}{'workload':<10}{'predictor':<11}{'conns':>5}{'req/s':>10}{'p50 ms':>9}{'p99 ms':>9}"
    f"{'MiB':>8}{'ratio':>8}  {'of the rounds':<15}{'calm':<6}goal"
)


def line(row: Row) -> str:
    """A row of the table for people."""
    case = row.case
    goal = verdict(row.ratio, row.goal) if row.goal is not None else ""
    if goal and not row.is_calm:
        goal += ", but disturbed"
    spread = f"{row.lowest:.2f}-{row.highest:.2f}"
    return (
        f"{case.server:<10}{case.workload:<10}{case.predictor:<11}{case.connections:>5}"
        f"{row.rps:>10.0f}{row.p50_ms:>9.2f}{row.p99_ms:>9.2f}{row.rss_mib:>8.1f}"
        f"{row.ratio:>8.3f}  {spread:<15}{row.calm:<6}{goal}"
    ).rstrip()


@dataclass(frozen=True)
class Start:
    """One start of ours without a model."""

    ready_seconds: float
    worker_mib: float
    tree_mib: float


def middle(starts: Sequence[Start]) -> Start:
    """The medians, each by itself."""
    return Start(
        median(start.ready_seconds for start in starts),
        median(start.worker_mib for start in starts),
        median(start.tree_mib for start in starts),
    )


def start_json(start: Start) -> dict[str, float]:
    """As it lies in serving-start.json."""
    return {
        "ready_seconds": round(start.ready_seconds, 3),
        "worker_rss_mib": round(start.worker_mib, 1),
        "tree_rss_mib": round(start.tree_mib, 1),
    }
