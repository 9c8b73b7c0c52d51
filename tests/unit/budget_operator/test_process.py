"""What the process counts of its passes, which pass a line is of, when it lists, and when it ends."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from prometheus_client import REGISTRY

from budget_operator import metrics
from budget_operator.cluster.contact import Contact
from budget_operator.cluster.lease import Lease, LeaseRecord, Timing
from budget_operator.core import trail
from budget_operator.core.clocks import wall_clock
from budget_operator.core.errors import Unavailable
from budget_operator.core.gateways import Document
from budget_operator.core.names import Shared
from budget_operator.core.observed import Inventory, Topic
from budget_operator.core.orphans.model import Report, Seen
from budget_operator.core.orphans.verdicts import report
from budget_operator.core.prices.table import shipped
from budget_operator.core.steps import Passed
from budget_operator.process import Operator, Pace
from dev.progress import until
from tests.unit.budget_operator.cluster.test_lease import MemoryStore


class Passes:
    """Stands in for the reconciler: the next pass ends like this."""

    def __init__(self, end: Passed | Exception) -> None:
        self.end = end

    def reconcile(self, namespace: str, name: str, *, quiet: bool, lengthens: Any) -> Passed:
        assert (namespace, name, quiet) == ("default", "iris", True)
        if isinstance(self.end, Exception):
            raise self.end
        return self.end


def counted() -> dict[str, float]:
    name = "budget_operator_passes_total"
    return {word: REGISTRY.get_sample_value(name, {"result": word}) or 0.0 for word in ("ok", "error")}


@pytest.mark.parametrize(
    ("end", "word", "after"),
    [
        (Passed(30.0), "ok", 30.0),
        (Passed(None), "ok", None),
        (Passed(60.0, ok=False), "error", 60.0),
        (RuntimeError("a bug"), "error", Pace().unexpected),
    ],
)
def test_a_pass_that_failed_is_counted_as_such(
    end: Passed | Exception, word: str, after: float | None
) -> None:
    nothing: Any = None
    reconciler: Any = Passes(end)
    operator = Operator(nothing, nothing, nothing, reconciler)
    before = counted()
    assert operator._pass(("default", "iris")).after == after
    assert counted() == {**before, word: before[word] + 1}


def test_who_waits_for_the_picture_has_made_no_pass() -> None:
    """A cloud that hangs would drown its errors: every deployment that is due asks twice a second."""
    nothing: Any = None
    reconciler: Any = Passes(Passed(0.5, waits=True))
    operator = Operator(nothing, nothing, nothing, reconciler)
    before = counted(), sample("pass_seconds_count")
    assert operator._pass(("default", "iris")).after == 0.5
    assert (counted(), sample("pass_seconds_count")) == before
    reconciler.end = RuntimeError("a bug")
    operator._pass(("default", "iris"))
    assert sample("pass_seconds_count") == before[1] + 1


@dataclass
class Lists:
    """The API server: the first lists fail."""

    failures: int = 0
    made: int = 0

    def all_deployments(self) -> tuple[Document, ...]:
        self.made += 1
        if self.made <= self.failures:
            raise Unavailable(f"list {self.made}")
        return ({"metadata": {"namespace": "default", "name": "iris"}},)


class Awake:
    """Stands in for the reconciler: nothing is at rest."""

    known: frozenset[tuple[str, str]] = frozenset()

    def is_current(self, document: Document) -> bool:
        return False

    def remembered(self) -> frozenset[tuple[str, str]]:
        return self.known

    def wake(self, namespace: str, name: str) -> None:
        pass


@dataclass
class Watched:
    """The watch, in whatever state."""

    troubled: bool = False
    ended: bool = False
    contact: Contact = field(default_factory=Contact)
    seen: list[str] = field(default_factory=list)

    def start(self) -> None:
        pass

    def see(self, kind: str | None, body: Document) -> None:
        self.seen.append(body["metadata"]["name"])


@contextmanager
def supervised(kube: Lists, watch: Watched, pace: Pace) -> Iterator[Operator]:
    """The threads that list and judge, without the others."""
    nothing: Any = None
    lease: Any = type("Held", (), {"held": threading.Event(), "holder": "me", "contact": Contact()})
    api_server: Any = kube
    reconciler: Any = Awake()
    made = Operator(api_server, lease, nothing, reconciler, pace)
    watched: Any = watch
    made.watch = watched
    threads = [threading.Thread(target=each) for each in (made._resync, made._oversee)]
    for thread in threads:
        thread.start()
    try:
        yield made
    finally:
        made.stopping.set()
        for thread in threads:
            thread.join(10)


def soon(condition: Callable[[], bool]) -> None:
    until(condition, 10, "that does not come", interval=0.01)


def test_a_list_that_failed_is_tried_again_and_its_failure_is_told() -> None:
    kube, watch = Lists(failures=2), Watched()
    with supervised(kube, watch, Pace(retry=0.2, look=0.01)) as operator:
        soon(lambda: operator.listing.read().failure == "list 2")
        soon(lambda: operator.queue.depth() == 1)
        assert operator.listing.read().failing_for is None
    assert (kube.made, watch.seen) == (3, [])


def test_while_the_watch_fails_lists_stand_in_for_it() -> None:
    kube, watch = Lists(), Watched()
    with supervised(kube, watch, Pace(fallback=0.02, look=0.01)) as operator:
        soon(lambda: operator.queue.depth() == 1)
        assert watch.seen == []
        watch.troubled = True
        soon(lambda: len(watch.seen) > 2)
        assert operator.exit_code == 0


@pytest.mark.parametrize("troubled", [False, True])
def test_a_list_wakes_what_has_gone_unnoticed(*, troubled: bool) -> None:
    """Somebody took its finalizer, and the watch was interrupted then."""
    kube, watch = Lists(), Watched(troubled=troubled)
    with supervised(kube, watch, Pace(fallback=0.02, look=0.01)) as operator:
        soon(lambda: operator.queue.take() == ("default", "iris"))
        reconciler: Any = operator.reconciler
        reconciler.known = frozenset({("default", "iris"), ("default", "gone")})
        if not troubled:
            operator._list(lambda found: None)
        soon(lambda: operator.queue.depth() == 1)
        assert operator.queue.take() == ("default", "gone")


def test_a_watch_that_has_ended_ends_the_process() -> None:
    watch = Watched()
    with supervised(Lists(), watch, Pace(look=0.01)) as operator:
        assert not operator.stopping.wait(0.1)
        watch.ended = True
        assert operator.stopping.wait(10)
        assert operator.exit_code == 1


def test_a_list_that_hangs_ends_the_process() -> None:
    class Hanging(Lists):
        def all_deployments(self) -> tuple[Document, ...]:
            self.made += 1
            operator.stopping.wait(30)
            return ()

    kube = Hanging()
    with supervised(kube, Watched(), Pace(resync=0.1, look=0.01)) as operator:
        assert operator.stopping.wait(10)
        assert (operator.exit_code, kube.made) == (1, 1)


def test_a_lease_call_that_hangs_ends_who_stands_by(caplog: pytest.LogCaptureFixture) -> None:
    class Hanging(MemoryStore):
        def read_lease(self) -> LeaseRecord:
            asked.set()
            released.wait(30)
            return self.record

    asked, released, now = threading.Event(), threading.Event(), [0.0]
    lease = Lease(Hanging(), "me", lambda: None, clock=lambda: now[0])
    nothing: Any = None
    operator = Operator(nothing, lease, nothing, nothing, Pace(farewell=0.1))
    ended: list[int] = []
    running = threading.Thread(target=lambda: ended.append(operator.run()))
    running.start()
    try:
        assert asked.wait(10)
        now[0] = 61.0
        running.join(10)
        assert ended == [1]
        assert "the lease was neither read nor written for 61 s: the process ends" in caplog.text
    finally:
        operator.stopping.set()
        released.set()


@dataclass
class Hanging(Awake):
    """Stands in for the reconciler: a pass ends when it is told to."""

    begun: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)

    def reconcile(self, namespace: str, name: str, *, quiet: bool, lengthens: Any) -> Passed:
        self.begun.set()
        self.ended.wait(30)
        return Passed(None)


@pytest.mark.parametrize(("hangs", "holder"), [(True, "me"), (False, "")])
def test_the_lease_is_given_back_once_all_passes_have_ended(hangs: bool, holder: str) -> None:
    store, lost = MemoryStore(), threading.Event()
    nothing: Any = None
    api_server: Any = Lists()
    reconciler: Any = Hanging()
    pace = Pace(look=0.01, drain=0.1 if hangs else 30.0, lease=Timing(retry=0.01))
    lease = Lease(store, "me", lost.set, pace.lease)
    operator = Operator(api_server, lease, nothing, reconciler, pace)
    watch: Any = Watched()
    operator.watch = watch
    running = threading.Thread(target=operator.run)
    running.start()
    try:
        assert reconciler.begun.wait(10)
        operator.stopping.set()
        if not hangs:
            reconciler.ended.set()
        running.join(10)
        assert (running.is_alive(), store.record.holder) == (False, holder)
        assert not lost.is_set()
        lease.fence()
        assert lost.is_set() == hangs, "a pass that goes on none the less makes no call"
    finally:
        operator.stopping.set()
        reconciler.ended.set()
        running.join(10)


def test_a_bug_in_the_lists_ends_the_process() -> None:
    broken: Any = None
    with supervised(broken, Watched(), Pace(look=0.01)) as operator:
        assert operator.stopping.wait(10)
        assert operator.exit_code == 1


def sample(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"budget_operator_{name}", labels) or 0.0


def test_deployments_are_told_by_their_state_until_they_are_gone() -> None:
    nothing: Any = None
    reconciler: Any = Passes(Passed(30.0, state="Serving", preemptions=2))
    operator = Operator(nothing, nothing, nothing, reconciler)
    preemptions = sample("preemptions_total")
    operator._pass(("default", "iris"))
    assert sample("deployments", state="Serving") == 1
    assert sample("preemptions_total") == preemptions + 2
    reconciler.end = Passed(30.0, ok=False)
    operator._pass(("default", "iris"))
    assert sample("deployments", state="Serving") == 1, "as before"
    reconciler.end = Passed(None)
    operator._pass(("default", "iris"))
    assert sample("deployments", state="Serving") == 0


def test_the_queue_is_looked_at_when_it_is_asked_for() -> None:
    nothing: Any = None
    operator = Operator(nothing, nothing, nothing, nothing)
    operator.queue.add(("default", "iris"), delay=-5.0)
    assert sample("queue_depth") == 1
    assert sample("queue_age_seconds") >= 5
    operator.queue.take()
    assert (sample("queue_depth"), sample("queue_age_seconds")) == (0, 0)


def test_what_is_logged_in_a_pass_says_which_one_it_is() -> None:
    class Seen:
        def reconcile(self, namespace: str, name: str, *, quiet: bool, lengthens: Any) -> Passed:
            seen.append(trail.current())
            return Passed(None)

    nothing: Any = None
    seen: list[trail.Trail | None] = []
    reconciler: Any = Seen()
    operator = Operator(nothing, nothing, nothing, reconciler)
    for _ in range(2):
        operator._pass(("default", "iris"))
    first, second = seen
    assert first is not None
    assert second is not None
    assert (first.namespace, first.name, first.id != second.id) == ("default", "iris", True)
    assert trail.current() is None


def one_orphan() -> Report:
    shared, now = Shared("default"), wall_clock()
    picture = Inventory(now, topic=Topic(shared.keep_alive, shared.labels))
    return report(Seen(picture, frozenset()), shared, shipped(), now)


def test_orphans_are_counted_again_and_again_and_a_look_that_fails_leaves_no_number() -> None:
    ends: list[Report | Exception] = [one_orphan(), Unavailable("503"), one_orphan(), RuntimeError("a bug")]
    seen: list[float | None] = []

    def look() -> Report:
        seen.append(REGISTRY.get_sample_value("budget_operator_orphans", {"kind": "topic"}))
        if len(seen) > len(ends):
            operator.stopping.set()
            return one_orphan()
        end = ends[len(seen) - 1]
        if isinstance(end, Exception):
            raise end
        return end

    nothing: Any = None
    operator = Operator(nothing, nothing, nothing, nothing, Pace(first_orphans=0.0, orphans=0.0), look)
    operator._count_orphans(look)
    assert seen == [None, 1, None, 1, None], "as each look began"
    assert (sample("orphans", kind="topic"), sample("orphans", kind="instance")) == (1, 0)
    metrics.ORPHANS.tell({})
