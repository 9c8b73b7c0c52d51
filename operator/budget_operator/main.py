"""The operator's process: settings, wiring, workers, health, metrics and signals.

`budget-operator run` waits for the Lease, then lists, watches and reconciles until SIGTERM. What one pass
does is in `reconcile`; this module only decides when a pass runs and when the process must end.
"""

import logging
import os
import random
import signal
import socket
import sys
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import FrameType

import typer
from prometheus_client import Counter, Gauge, Histogram, generate_latest

from budget_operator.cloud.wiring import gateways
from budget_operator.cluster.kube import Kube, KubeLease, connect
from budget_operator.cluster.lease import Lease
from budget_operator.cluster.queue import WorkQueue
from budget_operator.cluster.watch import Watch
from budget_operator.core import crd as crd_document
from budget_operator.core.errors import BudgetError
from budget_operator.core.settings import Settings, SettingsError
from budget_operator.reconcile import Reconciler

log = logging.getLogger("budget_operator")

WORKERS = 8
RESYNC_SECONDS = 300.0
DRAIN_SECONDS = 25.0
UNEXPECTED_PAUSE_SECONDS = 60.0

PASSES = Counter("budget_operator_passes", "Passes over deployments.", ["result"])
PASS_SECONDS = Histogram("budget_operator_pass_seconds", "Seconds that one pass took.")
QUEUE_DEPTH = Gauge("budget_operator_queue_depth", "Deployments that are due and wait for a worker.")
ACTIVE = Gauge("budget_operator_active", "1 while this operator holds the lease.")

Key = tuple[str, str]

app = typer.Typer(add_completion=False, help="Keeps BudgetDeployments served on Spot VMs.")


def identity() -> str:
    """Unique for this process: two containers may share both host name and process id."""
    return f"{socket.gethostname()}_{uuid.uuid4().hex[:12]}"


class Operator:
    """Everything that runs while this process lives."""

    def __init__(
        self, settings: Settings, kube: Kube, lease_store: KubeLease, reconciler: Reconciler
    ) -> None:
        self.settings = settings
        self.kube = kube
        self.reconciler = reconciler
        self.queue: WorkQueue[Key] = WorkQueue()
        self.stopping = threading.Event()
        self.listed = threading.Event()
        self.exit_code = 0
        self.watch = Watch(lambda namespace, name: self.queue.add((namespace, name)))
        self.lease = Lease(lease_store, identity(), self.lose_lease)

    def lose_lease(self) -> None:
        """Nothing may go on acting beside the next holder, not even for a drain."""
        os._exit(1)

    def end(self, exit_code: int) -> None:
        """Ask the main thread to stop everything."""
        self.exit_code = exit_code
        self.stopping.set()

    def health(self) -> tuple[bool, str]:
        """Whether the process is well, and in what role."""
        if not self.lease.held.is_set():
            return True, "standing by: another operator holds the lease"
        if not self.listed.is_set():
            return True, "active: waiting for the first list"
        return self.watch.alive, "active" if self.watch.alive else "the watch has ended"

    def run(self) -> int:
        """Run until `stopping`; the exit code."""
        lease = threading.Thread(target=self.lease.run, name="lease")
        lease.start()
        threading.Thread(target=self.lease.guard, name="lease-guard", daemon=True).start()
        health = serve_health(self, self.settings.health_port)
        try:
            if self._wait_for_lease():
                self._work()
        finally:
            self.lease.stop()
            lease.join()
            health.shutdown()
        return self.exit_code

    def _wait_for_lease(self) -> bool:
        while not self.stopping.is_set():
            if self.lease.held.wait(0.5):
                ACTIVE.set(1)
                return True
        return False

    def _work(self) -> None:
        self.watch.start()
        workers = [threading.Thread(target=self._worker, name=f"worker-{n}") for n in range(WORKERS)]
        for worker in workers:
            worker.start()
        resync = threading.Thread(target=self._supervise, name="resync")
        resync.start()
        self.stopping.wait()
        self.queue.close()
        if not self.queue.drained(DRAIN_SECONDS):
            log.warning(
                "some passes did not end within %.0f s; the next operator repeats them", DRAIN_SECONDS
            )
        self.watch.stop()

    def _supervise(self) -> None:
        try:
            self._resync()
        except Exception:
            log.exception("the supervision has ended: the process ends so that it is started again")
            self.end(1)

    def _resync(self) -> None:
        """The list that keeps the watch honest: nothing that a watch missed stays missed."""
        while not self.stopping.is_set():
            pause = 5.0
            try:
                for document in self.kube.all_deployments():
                    self.queue.add((document["metadata"]["namespace"], document["metadata"]["name"]))
                self.listed.set()
                pause = RESYNC_SECONDS * random.uniform(0.9, 1.1)  # noqa: S311 (jitter)
            except BudgetError as error:
                log.warning("the list failed and is tried again: %s", error.message)
            if self._watch_ended_within(pause):
                log.error("the watch has ended: the process ends so that it is started again")
                self.end(1)

    def _watch_ended_within(self, pause: float) -> bool:
        until = time.monotonic() + pause
        while time.monotonic() < until and not self.stopping.wait(1.0):
            if not self.watch.alive:
                return True
        return False

    def _worker(self) -> None:
        while (key := self.queue.take()) is not None:
            QUEUE_DEPTH.set(self.queue.depth())
            self.queue.done(key, self._pass(key))

    def _pass(self, key: Key) -> float | None:
        namespace, name = key
        with PASS_SECONDS.time():
            try:
                passed = self.reconciler.reconcile(namespace, name)
                PASSES.labels("ok" if passed.ok else "error").inc()
            except Exception:
                log.exception("a pass over %s/%s failed unexpectedly", namespace, name)
                PASSES.labels("error").inc()
                return UNEXPECTED_PAUSE_SECONDS
            else:
                return passed.after


def serve_health(operator: Operator, port: int) -> ThreadingHTTPServer:
    """/healthz, /readyz and /metrics, for the kubelet and Prometheus."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/metrics":
                self._answer(200, generate_latest(), "text/plain; version=0.0.4")
            elif self.path in ("/healthz", "/readyz"):
                well, message = operator.health()
                started = self.path == "/healthz" or "waiting" not in message
                self._answer(200 if well and started else 503, f"{message}\n".encode(), "text/plain")
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
    return server


def build(settings: Settings) -> Operator:
    """Wire the rooms together."""
    api_client = connect(pool_size=WORKERS + 4)
    kube = Kube(api_client)
    reconciler = Reconciler(settings, kube, gateways(settings))
    return Operator(settings, kube, KubeLease(api_client, settings.system_namespace), reconciler)


@app.command()
def run() -> None:
    """Run the operator; its settings are environment variables (see docs)."""
    logging.basicConfig(
        level=os.environ.get("BUDGET_LOG_LEVEL", "INFO").upper(),
        format="%(asctime)s %(levelname)s %(threadName)s %(name)s: %(message)s",
    )
    for chatty in ("kopf.objects", "httpx"):  # a line for every event and every probe
        logging.getLogger(chatty).setLevel(logging.WARNING)
    try:
        operator = build(Settings.from_environment(os.environ))
    except (SettingsError, BudgetError) as error:
        log.error("cannot start: %s", error)  # noqa: TRY400 (the message says it all)
        sys.exit(2)

    def stop(number: int, _frame: FrameType | None) -> None:
        log.info("stopping on %s", signal.Signals(number).name)
        operator.stopping.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    code = operator.run()
    logging.shutdown()
    # kopf and gRPC leave threads behind that must not hold the process.
    os._exit(code)


@app.command()
def crd() -> None:
    """Print the CustomResourceDefinition that the models generate."""
    typer.echo(crd_document.render(), nl=False)


if __name__ == "__main__":
    app()
