"""What the operator counts, for Prometheus: every metric but those that `health` makes of its snapshot.

All labels have few values: none holds the name of a deployment or of anything in the cloud.
"""

import threading
from collections import Counter as Tally
from collections.abc import Callable, Hashable, Iterator, Mapping
from datetime import UTC, datetime, time

from prometheus_client import REGISTRY, Counter, Gauge, Histogram
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from budget_operator.core.clocks import wall_clock
from budget_operator.core.cost.told import Figures
from budget_operator.core.orphans.told import Tally as Orphaned

PASSES = Counter("budget_operator_passes", "Passes over deployments.", ["result"])
"""`result`: ok, or error where the pass could not see all of the cloud or of what the spec refers to. One
that waits for the picture which is being taken is not made yet, and not counted.
"""

PASS_SECONDS = Histogram(
    "budget_operator_pass_seconds",
    "Seconds that one pass took.",
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120),
)
"""With the calls to Google and to the API server that the pass waited for."""

QUEUE_DEPTH = Gauge("budget_operator_queue_depth", "Deployments that are due and wait for a worker.")
"""At the moment of the scrape."""

QUEUE_AGE = Gauge("budget_operator_queue_age_seconds", "Seconds that the longest waiting one is overdue.")
"""At the moment of the scrape; 0 where none waits."""

CLOUD_CALLS = Counter("budget_operator_cloud_calls", "Calls to Google's APIs.", ["service", "method", "code"])
"""`method` as in Google's references (`instances.insert`), `code` of HTTP, or `none` without an answer."""

PREEMPTIONS = Counter("budget_operator_preemptions", "Preemptions of VMs that were noticed.")
"""Of all deployments; each has its own in its status."""


_DOWN = (5, 15, 30, 60, 90, 120, 180, 300, 600, 1800, 3600, 21_600, 86_400)

DOWN_SECONDS = Histogram(
    "budget_operator_down_seconds",
    "Seconds that callers got no answer, of outages that are over.",
    ["found"],
    buckets=_DOWN,
)
"""`found`: how the outage was noticed, as in `status.timeline`."""

PREEMPTION_SECONDS = Histogram(
    "budget_operator_preemption_down_seconds",
    "Seconds that callers got no answer because of a preemption, once it is over.",
    buckets=_DOWN,
)
"""These are among the others as well."""


class Deployments(Collector):
    """How many deployments are in each state, as their last passes have left them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._states: dict[Hashable, str] = {}

    def tell(self, key: Hashable, state: str) -> None:
        with self._lock:
            self._states[key] = state

    def forget(self, key: Hashable) -> None:
        """The object is gone, or was not there."""
        with self._lock:
            self._states.pop(key, None)

    def collect(self) -> Iterator[Metric]:
        with self._lock:
            tally = Tally(self._states.values())
        told = GaugeMetricFamily(
            "budget_operator_deployments", "Deployments by the state in their status.", labels=["state"]
        )
        for state, count in sorted(tally.items()):
            told.add_metric([state], count)
        yield told


DEPLOYMENTS = Deployments()
"""`state` as in `kubectl get bd`."""


class Costs(Collector):
    """What all deployments cost together: at the moment of the scrape, from what passes have metered."""

    def __init__(self, clock: Callable[[], datetime] = wall_clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._figures: dict[Hashable, Figures] = {}

    def tell(self, key: Hashable, figures: Figures) -> None:
        with self._lock:
            self._figures[key] = figures

    def forget(self, key: Hashable) -> None:
        """The object is gone, or was not there."""
        with self._lock:
            self._figures.pop(key, None)

    def collect(self) -> Iterator[Metric]:
        with self._lock:
            told = list(self._figures.values())
        now = self._clock()
        spent = [each.month_to_date(now) for each in told]
        unknown = [
            each for each, sum_ in zip(told, spent, strict=True) if sum_ is None or each.hourly is None
        ]
        yield _dollars("month_to_date", "Dollars since the month began, in UTC.", spent)
        yield _dollars("hourly", "Dollars an hour at present.", [each.hourly for each in told])
        yield _dollars("forecast", "Dollars of a month in which all run.", [each.forecast for each in told])
        yield GaugeMetricFamily(
            "budget_cost_unpriced_deployments",
            "Deployments that the sums leave out, because a price of theirs is not known.",
            value=len(unknown),
        )
        if told:
            day = datetime.combine(min(each.prices_as_of for each in told), time(), UTC)
            yield GaugeMetricFamily(
                "budget_cost_prices_timestamp_seconds",
                "The day of the list of prices.",
                value=day.timestamp(),
            )


def _dollars(name: str, help_: str, amounts: list[float | None]) -> Metric:
    known = [each for each in amounts if each is not None]
    return GaugeMetricFamily(f"budget_cost_{name}_dollars", help_, value=sum(known))


COSTS = Costs()
"""Without the deployments whose prices are not known, and without what the prices leave out."""

REGISTRY.register(DEPLOYMENTS)
REGISTRY.register(COSTS)


class Orphans(Collector):
    """What nobody owns, as the last look has found it; nothing while that has failed."""

    def __init__(self) -> None:
        self._tallies: Mapping[str, Orphaned] = {}

    def tell(self, tallies: Mapping[str, Orphaned]) -> None:
        self._tallies = tallies

    def collect(self) -> Iterator[Metric]:
        tallies = sorted(self._tallies.items())
        families = {
            "": ("Resources with the installation's mark that no deployment owns.", "count"),
            "_monthly_dollars": ("What those cost a month whose price is known.", "dollars"),
            "_unpriced": ("Those whose price is not known.", "unpriced"),
        }
        for name, (documentation, value) in families.items():
            family = GaugeMetricFamily(f"budget_operator_orphans{name}", documentation, labels=["kind"])
            for kind, tally in tallies:
                family.add_metric([kind], getattr(tally, value))
            yield family


ORPHANS = Orphans()
"""`kind` as in `budget-operator orphans`, without what lies in the bucket."""

REGISTRY.register(ORPHANS)
