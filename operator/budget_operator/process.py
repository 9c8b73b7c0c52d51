"""The running operator: the lease, then the watch, the list and the workers, until it is to end.

What one pass does is in `reconcile`, what the process says of itself in `health`; here is decided when a pass
runs and when the process must end. It ends, to be started again, whenever it cannot be sure to see every
change; it ends at once, without a drain, when it is no longer the one that may act.
"""

import logging
import os
import random
import socket
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from budget_operator import metrics
from budget_operator.cluster.access import Access
from budget_operator.cluster.contact import Contact
from budget_operator.cluster.kube import Kube
from budget_operator.cluster.lease import Lease, Timing
from budget_operator.cluster.queue import WorkQueue
from budget_operator.cluster.watch import STREAM_SECONDS, Watch
from budget_operator.core import trail
from budget_operator.core.errors import BudgetError
from budget_operator.core.gateways import Document
from budget_operator.core.orphans.model import Report
from budget_operator.core.orphans.told import tallies
from budget_operator.core.steps import Passed
from budget_operator.health import Snapshot, alive
from budget_operator.reconcile import Reconciler

log = logging.getLogger(__name__)

WORKERS = 8
_OK, _ERROR = metrics.PASSES.labels("ok"), metrics.PASSES.labels("error")

Key = tuple[str, str]


def _key(document: Document) -> Key:
    return document["metadata"]["namespace"], document["metadata"]["name"]


@dataclass(frozen=True)
class Pace:
    """Seconds."""

    resync: float = 300.0  # between two lists; nothing that the watch missed stays missed for longer
    fallback: float = 15.0  # the same, while the watch fails
    retry: float = 5.0  # until a list that failed is tried again
    look: float = 1.0  # between two looks at whether a list is due, or whether all is well
    stream: int = STREAM_SECONDS  # that one request of the watch lasts
    unexpected: float = 60.0  # until a pass that failed unexpectedly is tried again
    drain: float = 25.0  # that passes under way get at the end
    farewell: float = 10.0  # that giving the Lease back gets then
    grace: float = 15.0  # a failure that is over by then is no news
    first_orphans: float = 60.0  # until what nobody owns is counted for the first time
    orphans: float = 600.0  # and from then on
    first_prices: float = 30.0  # until list prices are fetched for the first time
    prices: float = 86_400.0  # and from then on
    lease: Timing = field(default_factory=Timing)


USUAL = Pace()


def identity() -> str:
    """Unique for this process: two containers may share both host name and process id."""
    return f"{socket.gethostname()}_{uuid.uuid4().hex[:12]}"


def lose_lease() -> None:
    """Nothing may go on acting beside the next holder, not even for a drain."""
    os._exit(1)


class Operator:
    """Everything that runs while this process lives."""

    def __init__(
        self,
        kube: Kube,
        lease: Lease,
        access: Callable[[], Access],
        reconciler: Reconciler,
        pace: Pace = USUAL,
        orphans: Callable[[], Report] | None = None,
        prices: Callable[[], None] | None = None,
    ) -> None:
        self.kube = kube
        self.lease = lease
        self.reconciler = reconciler
        self.pace = pace
        self.orphans = orphans
        self.prices = prices
        self.queue: WorkQueue[Key] = WorkQueue()
        self.stopping = threading.Event()
        self.exit_code = 0
        self.watch = Watch(self.heard, self.saw, access, pace.stream)
        self.listing = Contact()
        metrics.QUEUE_DEPTH.set_function(self.queue.depth)
        metrics.QUEUE_AGE.set_function(self.queue.age)
        self._threads: list[threading.Thread] = []
        self._passes: dict[Key, float] = {}  # those under way, and when they began

    def heard(self, namespace: str, name: str) -> None:
        """Somebody has changed an object: the next pass over it is a full one, and goes first."""
        self.reconciler.wake(namespace, name)
        self.queue.add_first((namespace, name))

    def saw(self, namespace: str, name: str, version: str) -> None:
        """The watch shows an object, whoever has written it: the next quiet pass compares."""
        self.reconciler.saw(namespace, name, version)

    def end(self, exit_code: int) -> None:
        """Ask the main thread to stop everything."""
        self.exit_code = exit_code
        self.stopping.set()

    def snapshot(self) -> Snapshot:
        """What `health` judges."""
        now = time.monotonic()
        dead = [thread.name for thread in self._threads if not thread.is_alive()]
        active = self.lease.held.is_set()
        if self.watch.ended:
            dead.append("watch")
        return Snapshot(
            active=active,
            holder=self.lease.holder,
            lease=self.lease.contact.read(),
            list=self.listing.read(),
            watch=self.watch.contact.read(),
            ended=dead[0] if dead else "",
            longest_pass=max((now - began for began in list(self._passes.values())), default=0.0),
            stopping=self.stopping.is_set(),
            grace=self.pace.grace,
            resync=self.pace.resync,
        )

    def run(self) -> int:
        """Run until `stopping`; the exit code."""
        lease = self._start("lease", self.lease.run)
        self._start("lease-guard", self.lease.guard, daemon=True)
        acts = True
        try:
            acts = self._wait_for_lease() and not self._work()
        finally:
            self.lease.stop(acts=acts)
            lease.join(self.pace.farewell)
        return self.exit_code

    def _start(self, name: str, target: Callable[[], None], *, daemon: bool = False) -> threading.Thread:
        thread = threading.Thread(target=target, name=name, daemon=daemon)
        thread.start()
        self._threads.append(thread)
        return thread

    def _wait_for_lease(self) -> bool:
        while not self.stopping.is_set():
            if self.lease.held.wait(0.5):
                return True
            self._judge()
        return False

    def _work(self) -> bool:
        """Until `stopping`; whether all passes have come to their end then."""
        self.watch.start()
        for number in range(WORKERS):
            self._start(f"worker-{number}", self._worker)
        self._start("resync", self._resync)
        if self.orphans is not None:
            self._start("orphans", partial(self._count_orphans, self.orphans), daemon=True)
        if self.prices is not None:
            self._start("prices", partial(self._renew_prices, self.prices), daemon=True)
        self._oversee()
        self.queue.close()
        drained = self.queue.drained(self.pace.drain)
        if not drained:
            log.warning(
                "some passes did not end within %.0f s: the lease expires by itself, and the next operator "
                "repeats them",
                self.pace.drain,
            )
        return drained

    def _resync(self) -> None:
        try:
            self._keep_listing()
        except Exception:
            log.exception("the lists have ended: the process ends so that it is started again")
            self.end(1)

    def _keep_listing(self) -> None:
        """The lists that keep the watch honest."""
        self.listing.begin()
        whole_at = news_at = time.monotonic()
        while not self.stopping.is_set():
            now = time.monotonic()
            listed = True
            if now >= whole_at:
                listed = self._list(self._compare)
                whole_at = now + self.pace.resync * random.uniform(0.9, 1.1)  # noqa: S311 (jitter)
            elif now >= news_at and self.watch.troubled:
                listed = self._list(lambda found: self.watch.see(None, found))
                news_at = now + self.pace.fallback
            if not listed:
                whole_at = now + self.pace.retry
            self.stopping.wait(self.pace.look)

    def _count_orphans(self, look: Callable[[], Report]) -> None:
        """A look that fails leaves nothing to count: no number rather than a wrong one."""
        pause = self.pace.first_orphans
        while not self.stopping.wait(pause):
            pause = self.pace.orphans
            try:
                metrics.ORPHANS.tell(tallies(look()))
            except BudgetError as error:
                log.warning("orphans cannot be told: %s", error.message)
                metrics.ORPHANS.tell({})
            except Exception:
                log.exception("the look for orphans failed unexpectedly")
                metrics.ORPHANS.tell({})

    def _renew_prices(self, renew: Callable[[], None]) -> None:
        """Where that fails the last ones are good; how old they are the status says."""
        pause = self.pace.first_prices
        while not self.stopping.wait(pause):
            pause = self.pace.prices
            try:
                renew()
            except BudgetError as error:
                log.warning("%s; tried again in a day", error.message)
            except Exception:
                log.exception("prices could not be renewed, unexpectedly")

    def _compare(self, found: Document) -> None:
        """With what is known to be at rest: only what differs is looked at."""
        if not self.reconciler.is_current(found):
            self._wake(_key(found))

    def _wake(self, key: Key) -> None:
        self.reconciler.wake(*key)
        self.queue.add(key)

    def _list(self, each: Callable[[Document], None]) -> bool:
        try:
            known, found = self.reconciler.remembered(), self.kube.all_deployments()
            for document in found:
                each(document)
            for gone in known - set(map(_key, found)):  # a pass finds nothing, and forgets it
                self._wake(gone)
        except BudgetError as error:
            if self.listing.failed(error.message):
                log.warning("the list failed and is tried again: %s", error.message)
            return False
        self.listing.succeeded()
        return True

    def _oversee(self) -> None:
        while not self.stopping.wait(self.pace.look):
            self._judge()

    def _judge(self) -> None:
        """The end once only a restart helps. In the main thread, which makes no call that could hang."""
        verdict = alive(self.snapshot())
        if not verdict.ok:
            log.error("%s: the process ends so that it is started again", verdict.message)
            self.end(1)

    def _worker(self) -> None:
        while (key := self.queue.take()) is not None:
            self._passes[key] = time.monotonic()
            try:
                passed = self._pass(key)
            finally:
                del self._passes[key]
            self.queue.done(key, passed.after, brief=passed.brief, waits=passed.waits)

    def _pass(self, key: Key) -> Passed:
        began = time.monotonic()
        with trail.following(*key):
            try:
                passed = self.reconciler.reconcile(*key, quiet=True, lengthens=self.queue.lengthens)
            except Exception:
                log.exception("the pass failed unexpectedly")
                passed = Passed(self.pace.unexpected, ok=False)
        if not passed.waits:
            metrics.PASS_SECONDS.observe(time.monotonic() - began)
            _count(key, passed)
        return passed


def _count(key: Key, passed: Passed) -> None:
    (_OK if passed.ok else _ERROR).inc()
    if passed.preemptions:
        metrics.PREEMPTIONS.inc(passed.preemptions)
    for outage in passed.ended:
        metrics.DOWN_SECONDS.labels(outage.found).observe(outage.down_seconds or 0)
        if outage.cause == "Preempted":
            metrics.PREEMPTION_SECONDS.observe(outage.down_seconds or 0)
    if passed.after is None:
        metrics.DEPLOYMENTS.forget(key)
        metrics.COSTS.forget(key)
    elif passed.state:
        metrics.DEPLOYMENTS.tell(key, passed.state)
    if passed.figures is not None:
        metrics.COSTS.tell(key, passed.figures)
