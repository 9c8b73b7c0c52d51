"""What the process says of itself: /healthz, /readyz and /metrics, for the kubelet, Prometheus and people.

`alive` and `ready` decide from a frozen `Snapshot`; `serve` is the HTTP server around them. /healthz fails
only where a restart helps. /readyz fails while the operator cannot do its work; an operator that stands by is
ready, or a rolling update would wait for ever for the one that it is to replace. What they say is open to
everybody in the cluster, so it names no deployment.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from budget_operator.cluster.contact import UNHEARD, Reading

log = logging.getLogger(__name__)

SILENT_SECONDS = 150.0  # three times what a watch lasts
STUCK_SECONDS = 900.0  # far beyond what all timeouts of one pass can add up to
LEASE_SILENT_SECONDS = 60.0  # far beyond those of one try
LISTS_MISSED = 3


@dataclass(frozen=True)
class Snapshot:
    """The process at one moment."""

    active: bool  # it holds the lease
    holder: str = ""  # who does
    lease: Reading = UNHEARD
    list: Reading = UNHEARD
    watch: Reading = UNHEARD
    ended: str = ""  # a thread that has ended although it should run
    longest_pass: float = 0.0  # seconds that the oldest pass under way has taken
    stopping: bool = False
    grace: float = 0.0  # seconds that a failure lasts before it counts
    resync: float = 300.0  # seconds between two lists


@dataclass(frozen=True)
class Verdict:
    """One answer."""

    ok: bool
    message: str


def alive(seen: Snapshot) -> Verdict:
    """For /healthz: False means that only a restart helps. The process judges itself by it too."""
    if seen.stopping:
        return Verdict(True, "stopping")
    if seen.ended:
        return Verdict(False, f"the {seen.ended} has ended")
    if silence := _silence(seen):
        return Verdict(False, silence)
    if seen.longest_pass > STUCK_SECONDS:
        return Verdict(False, f"a pass has been running for {seen.longest_pass:.0f} s")
    return Verdict(True, _role(seen))


def ready(seen: Snapshot) -> Verdict:
    """For /readyz: False means that the operator cannot work now; the message says why."""
    verdict = alive(seen)
    if not verdict.ok or seen.stopping:
        return Verdict(False, verdict.message)
    problem = _lease_problem(seen) or (_work_problem(seen) if seen.active else "")
    return Verdict(not problem, problem or verdict.message)


def _silence(seen: Snapshot) -> str:
    """Of calls that neither succeed nor fail: whoever makes them hangs."""
    if (quiet := seen.watch.quiet_for or 0.0) > SILENT_SECONDS:
        return f"the watch has made no request for {quiet:.0f} s"
    if (quiet := seen.lease.quiet_for or 0.0) > LEASE_SILENT_SECONDS:
        return f"the lease was neither read nor written for {quiet:.0f} s"
    if (quiet := seen.list.quiet_for or 0.0) > LISTS_MISSED * seen.resync:
        return f"deployments were not listed for {quiet:.0f} s"
    return ""


def _lease_problem(seen: Snapshot) -> str:
    if seen.lease.ok_age is None or _lasts(seen.lease, seen.grace):
        return f"the lease cannot be read or written: {seen.lease.failure or 'not tried yet'}"
    return ""


def _work_problem(seen: Snapshot) -> str:
    if seen.list.ok_age is None:
        return "; ".join(filter(None, ["active: waiting for the first list", seen.list.failure]))
    if _lasts(seen.list, seen.grace):
        return f"deployments cannot be listed: {seen.list.failure}"
    return f"the watch fails: {seen.watch.failure}" if _lasts(seen.watch, seen.grace) else ""


def _role(seen: Snapshot) -> str:
    if seen.active:
        return "active"
    return f"standing by: {seen.holder or 'nobody yet'} is active"


def _lasts(reading: Reading, grace: float) -> bool:
    return reading.failing_for is not None and reading.failing_for > grace


def report(seen: Snapshot, verdict: Verdict) -> str:
    """The verdict's line, and one for each kind of calls."""
    contacts = {"lease": seen.lease, "list": seen.list, "watch": seen.watch}
    lines = [f"{name}: {_told(reading)}" for name, reading in contacts.items()]
    return "\n".join([verdict.message, *lines, ""])


def _told(reading: Reading) -> str:
    since = "no answer yet" if reading.ok_age is None else f"answered {reading.ok_age:.0f} s ago"
    if reading.failing_for is None:
        return since
    return f"{since}, failing for {reading.failing_for:.0f} s: {reading.failure}"


class _Gauges(Collector):
    """The snapshot as metrics."""

    def __init__(self, take: Callable[[], Snapshot]) -> None:
        self._take = take

    def collect(self) -> Iterator[Metric]:
        seen = self._take()
        yield _gauge("active", "1 while this operator holds the lease.", seen.active)
        yield _gauge("ready", "1 while /readyz says so.", ready(seen).ok)
        ages = GaugeMetricFamily(
            "budget_operator_contact_age_seconds",
            "Seconds since the API server last answered a call of this kind as it should.",
            labels=["call"],
        )
        for call, reading in (("lease", seen.lease), ("list", seen.list), ("watch", seen.watch)):
            if reading.ok_age is not None:
                ages.add_metric([call], reading.ok_age)
        yield ages


def _gauge(name: str, documentation: str, value: float) -> Metric:
    return GaugeMetricFamily(f"budget_operator_{name}", documentation, value=value)


@contextmanager
def serve(port: int, take: Callable[[], Snapshot]) -> Iterator[int]:
    """Answers in threads of its own until the block ends; gives the port.

    Raises:
        OSError: the port is taken.
    """
    registry = CollectorRegistry()
    registry.register(_Gauges(take))

    class Handler(BaseHTTPRequestHandler):
        timeout = 10

        def do_GET(self) -> None:
            if self.path == "/metrics":
                text = generate_latest(REGISTRY) + generate_latest(registry)
                self._answer(200, text, "text/plain; version=0.0.4")
            elif judge := {"/healthz": alive, "/readyz": ready}.get(self.path):
                seen = take()
                verdict = judge(seen)
                self._answer(200 if verdict.ok else 503, report(seen, verdict).encode(), "text/plain")
            else:
                self._answer(404, b"not found\n", "text/plain")

        def _answer(self, status: int, body: bytes, content_type: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            log.debug(format, *args)

    server = ThreadingHTTPServer(("", port), Handler)
    threading.Thread(target=server.serve_forever, name="health", daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
