"""A world to simulate: one project, one installation, any number of deployments, and the time.

Whoever simulates turns the time with `run`, and in between does what users, Google and bad luck do.
"""

import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from budget_operator.cloud.inventory import one_after_another
from budget_operator.cloud.probe import HttpProber
from budget_operator.cloud.wiring import cloud_of, services
from budget_operator.core.budget import Limit
from budget_operator.core.desired import WANTED_STOPPED
from budget_operator.core.names import LABEL_WANTED, Owner
from budget_operator.core.settings import Settings
from budget_operator.reconcile import Means, Reconciler
from dev.simulation import guests
from dev.simulation.apiserver import ApiServer, Crash, Journal
from dev.simulation.function import InProcess
from dev.simulation.hosts import Hosts
from dev.simulation.passes import IDLE_SECONDS, Key, Passes
from dev.simulation.repeats import Repeats
from dev.simulation.sessions import Carrier, calling_as, carried, mounted
from localcloud.jumping import JumpingClock
from localcloud.mounted import Mounted
from localcloud.services.compute.records import INSTANCE, Record
from localcloud.settings import GOOGLES, Durations
from localcloud.settings import Settings as CloudSettings

PROJECT = "simulated"
START = datetime(2026, 1, 1, tzinfo=UTC)
ZONES = ("us-central1-a", "us-central1-b")
#: Nobody has to watch simulated VMs: they do not die by themselves.
DURATIONS = replace(GOOGLES, watch=3600)
NAMESPACE = "default"
OPERATOR = f"operator@{PROJECT}.iam.gserviceaccount.com"
RESTART_SECONDS = 5.0


@dataclass
class Active:
    """An operator, if it is not off, and when its passes are due."""

    operator: Reconciler | None
    passes: Passes


@dataclass
class World:
    """`kept`: of so many passes, and of a thousand ticks, that nothing is due for, one is really made."""

    folder: Path
    kept: int = 1000
    zones: tuple[str, ...] = ZONES
    durations: Durations = DURATIONS
    clock: JumpingClock = field(default_factory=lambda: JumpingClock(START))
    restarts: bool = True
    """Whether an operator that dies is started again at once."""
    clock_error: timedelta = timedelta(0)
    """Of the operator's machine."""
    _touched: set[str] = field(default_factory=set)
    _idle: tuple[tuple[int, int], bool] = ((-1, 0), False)

    def __post_init__(self) -> None:
        place = CloudSettings(
            self.folder / "cloud",
            host="cloud.simulated",
            port=80,
            subnet="10.0.0.0/16",
            durations=self.durations,
        )
        self.function = InProcess(self.folder / "function", self.clock)
        self.cloud = Mounted(place, self.clock, self.function)
        self._streets = guests.install(self.cloud)
        self._hosts = Hosts(self.cloud, self.clock)
        self.store = self.cloud.context.store
        self.ticks = self.cloud.context.ticks
        self.ticks.idle, self.ticks.kept = self._nothing_waits, min(self.kept, 1000)
        self._changed = threading.Event()
        self.store.on_write = self._note
        self._repeats = Repeats(self.cloud)
        self.journal = Journal()
        self.kube = ApiServer(self.clock.now, self.journal)
        self.settings = Settings(
            project=PROJECT,
            zones=self.zones,
            bucket="simulated-budgetml",
            image="registry/server:1",
            api_endpoint=place.base_url,
            credentials="anonymous",
            tls_mode="Off",
            logs_command="logs {name} {project} {zone}",
        )
        self._first = Active(self.new_operator(), Passes(self.kept))
        self._second = Active(self.new_operator(), Passes(kept=1))
        self._turn = self._first
        self._both_until = 0.0

    @property
    def operator(self) -> Reconciler | None:
        return self._first.operator

    @operator.setter
    def operator(self, operator: Reconciler | None) -> None:
        self._first.operator = operator

    @property
    def passes(self) -> Passes:
        return self._first.passes

    @property
    def active(self) -> list[Active]:
        """The operators that make passes now."""
        both = self.clock.monotonic() < self._both_until
        found = (self._first, self._second) if both else (self._first,)
        return [each for each in found if each.operator is not None]

    @property
    def rival(self) -> Reconciler | None:
        """The operator that does not make the pass that is under way, or made the last one."""
        return (self._second if self._turn is self._first else self._first).operator

    def new_operator(self, kube: ApiServer | None = None, **settings: Any) -> Reconciler:
        """A process that has just started and remembers nothing; perhaps of another cluster."""
        now, wall, changed = self.clock.now, self._wall, replace(self.settings, **settings)
        reached = self._repeats.remembering(services(changed), changed)
        cloud = cloud_of(reached, changed, now, wall, one_after_another)
        cloud = replace(cloud, prober=HttpProber(self._streets))
        return Reconciler(changed, kube or self.kube, Means(cloud, now, wall, jitter=lambda: 0.5))

    def new_cluster(self, uid: str) -> ApiServer:
        """An empty one; `kube` and `operator` stay those of the first until somebody changes them."""
        return ApiServer(self.clock.now, self.journal, uid=uid)

    def _wall(self) -> datetime:
        return self.clock.now() + self.clock_error

    def restart(self) -> None:
        """Whatever the operator was about, another process takes over, and looks at everything."""
        self._restart(self._first)

    def _restart(self, active: Active) -> None:
        active.operator = self.new_operator()
        active.passes.add_all(self.clock.monotonic() + RESTART_SECONDS)

    def run_both(self, seconds: float) -> None:
        """For so long a second operator is active as well, by mistake. It remembers what it saw when it was
        active last."""
        now = self.clock.monotonic()
        self._both_until = now + seconds
        for key in self.passes.keys:
            self._second.passes.add(key, now)

    # -- what users and Google do

    def apply(self, name: str, spec: dict[str, Any] | None = None) -> None:
        self.kube.apply(name, spec, NAMESPACE)
        self.heard(name)

    def delete(self, name: str) -> None:
        self.kube.delete(name, NAMESPACE)
        self.heard(name)

    def heard(self, name: str) -> None:
        """The watch tells that somebody has changed it."""
        for each in (self._first, self._second):
            if each.operator is not None:
                each.operator.wake(NAMESPACE, name)
            each.passes.add((NAMESPACE, name), self.clock.monotonic())

    def preempt(self, name: str) -> None:
        """Raises ApiError where there is no running Spot VM."""
        self.cloud.context.registry.verbs["preempt"](vm(name))

    def look_again(self) -> None:
        """Something changed that is not a deployment's own: quiet passes are made when their turn comes."""
        self.passes.wake(set(self.passes.keys), self.clock.monotonic())

    # -- what happens by itself

    def run(self, seconds: float) -> None:
        """Let time pass, with all passes that are due."""
        until = self.clock.monotonic() + seconds
        while True:
            self._notice_changes()
            now = self.clock.monotonic()
            due = [(each, key) for each in self.active for key in each.passes.due(now)]
            if due:
                for active, key in due:
                    self._make_pass(active, key)
            elif now < until:
                self._wait(now, until)
            else:
                return

    def _make_pass(self, active: Active, key: Key) -> None:
        """One pass over one deployment, now."""
        operator, self._turn = active.operator, active
        if operator is None:
            return  # it died in the pass before
        self._notice_changes()
        if key in self.kube.objects:  # the watch has told, whoever wrote it
            operator.saw(*key, self.kube.objects[key]["metadata"]["resourceVersion"])
        before = len(self.journal.calls), self.store.revision
        try:
            with calling_as(OPERATOR):
                passed = operator.reconcile(*key, quiet=True)
        except Crash:
            active.operator = None
            if self.restarts:
                self._restart(active)
            return
        if passed.after is None:
            active.passes.remove(key)
            self.kube.collect_garbage()
            return
        same = before == (len(self.journal.calls), self.store.revision)
        idle = same and passed.ok and passed.after >= IDLE_SECONDS and not self._waits(key)
        active.passes.done(key, self.clock.monotonic() + passed.after, idle=idle)

    def _waits(self, key: Key) -> bool:
        """Whether the deployment is between two attempts: a later pass makes the next one."""
        conditions = self.kube.objects[key].get("status", {}).get("conditions", ())
        return any((each["type"], each["status"]) == ("Reconciling", "True") for each in conditions)

    def _wait(self, now: float, until: float) -> None:
        """Until something is due or has changed."""
        active = self.active
        for each in active:
            until = min(until, each.passes.next(), now + each.passes.until_kept())
        until = min(until, self._hosts.due())
        self._changed.clear()
        self.clock.wait(until - now, self._changed)
        self._hosts.act()
        for each in active:
            each.passes.jump(self.clock.monotonic() - now, self.clock.monotonic())

    def _note(self, kind: str, key: str) -> None:
        if kind == INSTANCE:
            self._hosts.seen()
            self._touched.add(key)
            self._changed.set()

    def _notice_changes(self) -> None:
        """What happened to a VM is noticed by the next pass over its deployment."""
        touched, self._touched = self._touched, set()
        if touched:
            names = {key.rpartition("/")[2] for key in touched}
            affected = {key for key in self.passes.keys if vm(key[1]) in names}
            self.passes.wake(affected, self.clock.monotonic())

    def _nothing_waits(self) -> bool:
        """Whether a tick has nothing to start: every VM runs, or is off on purpose in this month."""
        now = self.clock.now()
        known = self.store.revision, now.month
        if self._idle[0] != known:
            states = self.store.column(INSTANCE, "body.status")
            self._idle = known, all(status == "RUNNING" or self._is_left_off(key) for key, status in states)
        return self._idle[1]

    def _is_left_off(self, key: str) -> bool:
        found = self.store.get(INSTANCE, key)
        if found is None:
            return False
        if found["body"].get("labels", {}).get(LABEL_WANTED) == WANTED_STOPPED:
            return True
        limit = Limit.read(Record(**found).metadata())
        return limit is not None and limit.is_over(self.clock.now())


@cache
def vm(name: str) -> str:
    """The deployment's VM."""
    return Owner("default", NAMESPACE, name).cloud_name


@contextmanager
def world(carrier: Carrier = carried, **settings: Any) -> Iterator[World]:
    """A new one, with the sessions of this process mounted on its cloud; nothing of it is left afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="simulation-"))
    try:
        made = World(folder, **settings)
        with mounted(made.cloud, carrier):
            made.cloud.start()
            yield made
            made.cloud.stop()
    finally:
        shutil.rmtree(folder)
