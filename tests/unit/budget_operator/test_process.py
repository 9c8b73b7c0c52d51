"""What the process counts of its passes, when it lists, and when it ends."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from prometheus_client import REGISTRY

from budget_operator.cluster.contact import Contact
from budget_operator.core.errors import Unavailable
from budget_operator.core.gateways import Document
from budget_operator.core.steps import Passed
from budget_operator.process import Operator, Pace
from dev.progress import until


class Passes:
    """Stands in for the reconciler: the next pass ends like this."""

    def __init__(self, end: Passed | Exception) -> None:
        self.end = end

    def reconcile(self, namespace: str, name: str) -> Passed:
        assert (namespace, name) == ("default", "iris")
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
    assert operator._pass(("default", "iris")) == after
    assert counted() == {**before, word: before[word] + 1}


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


@dataclass
class Watched:
    """The watch, in whatever state."""

    troubled: bool = False
    ended: bool = False
    contact: Contact = field(default_factory=Contact)
    seen: list[str] = field(default_factory=list)

    def see(self, kind: str | None, body: Document) -> None:
        self.seen.append(body["metadata"]["name"])


@contextmanager
def supervised(kube: Lists, watch: Watched, pace: Pace) -> Iterator[Operator]:
    """The thread that lists and judges, without the others."""
    nothing: Any = None
    lease: Any = type("Held", (), {"held": threading.Event(), "holder": "me", "contact": Contact()})
    api_server: Any = kube
    made = Operator(api_server, lease, nothing, nothing, pace)
    watched: Any = watch
    made.watch = watched
    thread = threading.Thread(target=made._supervise)
    thread.start()
    try:
        yield made
    finally:
        made.stopping.set()
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


def test_a_watch_that_has_ended_ends_the_process() -> None:
    watch = Watched()
    with supervised(Lists(), watch, Pace(look=0.01)) as operator:
        assert not operator.stopping.wait(0.1)
        watch.ended = True
        assert operator.stopping.wait(10)
        assert operator.exit_code == 1


def test_a_bug_in_the_supervision_ends_the_process() -> None:
    broken: Any = None
    with supervised(broken, Watched(), Pace(look=0.01)) as operator:
        assert operator.stopping.wait(10)
        assert operator.exit_code == 1
