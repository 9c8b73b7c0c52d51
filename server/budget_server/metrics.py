"""What Prometheus reads: numbers in memory that all workers of one gunicorn share.

The master makes a `Board` before it forks; each worker writes to a slot of its own, without locks, and
whichever worker is asked adds up all slots. prometheus_client writes the text; its own multiprocess files
would cost a tenth of a small request. Counters stay when a worker is replaced in its slot, gauges begin anew.
"""

import mmap
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from enum import IntEnum

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

ROUTES = (
    "/",
    "/token",
    "/predict",
    "/predict_dict",
    "/predict_image",
    "/healthz/live",
    "/healthz/ready",
    "/metrics",
    "/docs",
    "/openapi.json",
    "/v2",
    "/v2/health/live",
    "/v2/health/ready",
    "/v2/models/{name}",
    "/v2/models/{name}/ready",
    "/v2/models/{name}/infer",
    "other",
)
"""Label values; whatever is asked for besides is "other", so that callers cannot make new series."""
ROUTE_INDEX = {route: index for index, route in enumerate(ROUTES)}
OTHER = ROUTE_INDEX["other"]

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
SIZES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0)
_STATUSES = 600  # an HTTP status is its own index
_TIMING = len(SECONDS) + 2  # the buckets, the one beyond them, the sum
_BATCH = len(SIZES) + 2


class State(IntEnum):
    """What a worker tells the master."""

    LOADING = 0
    LOADED = 1
    TOLD = 2  # its model could not be loaded, and it has said why


class _Cell(IntEnum):
    """Where the single numbers of a slot lie; gauges come first."""

    STATE = 0
    IN_FLIGHT = 1
    ADMITTED = 2
    LOAD_SECONDS = 3
    GAUGES = 4  # how many there are
    EXCEPTIONS = 4
    RESTARTS = 5
    SINGLES = 6


_BATCHES = int(_Cell.SINGLES)
_TIMINGS = _BATCHES + _BATCH
_REQUESTS = _TIMINGS + len(ROUTES) * _TIMING
_CELLS = _REQUESTS + len(ROUTES) * _STATUSES


class Slot:
    """One worker's numbers. Written by that worker's event loop alone."""

    __slots__ = ("_cells",)

    def __init__(self, cells: "memoryview[float]") -> None:
        self._cells = cells

    def clear(self) -> None:
        """The worker has ended; what it counted stays."""
        for cell in range(_Cell.GAUGES):
            self._cells[cell] = 0.0

    def answered(self, route: int, status: int, seconds: float) -> None:
        """A request is over."""
        cells, timing = self._cells, _TIMINGS + route * _TIMING
        cells[_REQUESTS + route * _STATUSES + status] += 1.0
        cells[timing + bisect_left(SECONDS, seconds)] += 1.0
        cells[timing + _TIMING - 1] += seconds

    def batch(self, size: int) -> None:
        """A call of predict_batch begins."""
        self._cells[_BATCHES + bisect_left(SIZES, size)] += 1.0
        self._cells[_BATCHES + _BATCH - 1] += size

    def occupied(self, running: int, admitted: int) -> None:
        """How many predictions run now, and how many there are with those that wait."""
        cells = self._cells
        cells[1] = running
        cells[2] = admitted

    def exception(self) -> None:
        """The predictor raised."""
        self._cells[_Cell.EXCEPTIONS] += 1.0

    def restarted(self) -> None:
        """A worker that had served ended by itself; written by the master."""
        self._cells[_Cell.RESTARTS] += 1.0

    def loaded(self, seconds: float) -> None:
        self._cells[_Cell.LOAD_SECONDS] = seconds
        self._cells[_Cell.STATE] = State.LOADED

    def told(self) -> None:
        """The load failed and whoever started us knows why."""
        self._cells[_Cell.STATE] = State.TOLD

    @property
    def state(self) -> State:
        return State(int(self._cells[_Cell.STATE]))


class Board:
    """The slots of all workers; anonymous memory, so a fork shares it."""

    def __init__(self, slots: int = 1) -> None:
        size = _CELLS * 8
        memory = memoryview(mmap.mmap(-1, slots * size))
        self._cells = [memory[i * size : (i + 1) * size].cast("d") for i in range(slots)]
        self.slots = [Slot(cells) for cells in self._cells]
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def exposition(self) -> bytes:
        """Prometheus' text format, all workers together."""
        return generate_latest(self._registry)

    def any_loaded(self) -> bool:
        return any(slot.state is State.LOADED for slot in self.slots)

    def collect(self) -> Iterator[Metric]:
        """What prometheus_client asks a collector."""
        yield from self._requests()
        yield from self._singles()
        histogram = HistogramMetricFamily("budget_server_batch_size", "Items in a call of predict_batch")
        histogram.add_metric((), *self._histogram(_BATCHES, SIZES))
        yield histogram

    def _requests(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "budget_server_requests", "Requests answered", labels=("route", "status")
        )
        timing = HistogramMetricFamily(
            "budget_server_request_seconds", "From the head of a request to its answer", labels=("route",)
        )
        for index, route in enumerate(ROUTES):
            counts = self._sum(range(start := _REQUESTS + index * _STATUSES, start + _STATUSES))
            answered = {status: count for status, count in enumerate(counts) if count}
            for status, count in answered.items():
                requests.add_metric((route, str(status)), count)
            if answered:
                timing.add_metric((route,), *self._histogram(_TIMINGS + index * _TIMING, SECONDS))
        yield requests
        yield timing

    def _singles(self) -> Iterator[Metric]:
        in_flight, admitted, exceptions, restarts = self._sum(
            (_Cell.IN_FLIGHT, _Cell.ADMITTED, _Cell.EXCEPTIONS, _Cell.RESTARTS)
        )
        loads = [cells[_Cell.LOAD_SECONDS] for cells in self._cells]
        loaded = sum(slot.state is State.LOADED for slot in self.slots)
        yield GaugeMetricFamily("budget_server_in_flight", "Predictions running", in_flight)
        yield GaugeMetricFamily(
            "budget_server_queue", "Predictions waiting for their turn", admitted - in_flight
        )
        yield GaugeMetricFamily("budget_server_workers", "Workers whose model is loaded", loaded)
        yield GaugeMetricFamily("budget_server_load_seconds", "The slowest worker's load()", max(loads))
        yield CounterMetricFamily(
            "budget_server_predictor_exceptions", "Exceptions that left the predictor", exceptions
        )
        yield CounterMetricFamily(
            "budget_server_worker_restarts", "Workers that ended by themselves and were replaced", restarts
        )

    def _sum(self, indices: Iterable[int]) -> list[float]:
        return [sum(cells[index] for cells in self._cells) for index in indices]

    def _histogram(self, start: int, bounds: tuple[float, ...]) -> tuple[list[tuple[str, float]], float]:
        """Buckets as Prometheus has them, each with all below it, and the sum."""
        *counts, total = self._sum(range(start, start + len(bounds) + 2))
        buckets, below = [], 0.0
        for bound, count in zip((*map(str, bounds), "+Inf"), counts, strict=True):
            below += count
            buckets.append((bound, below))
        return buckets, total
