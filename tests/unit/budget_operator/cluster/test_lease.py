"""The Lease: one holder at a time, judged on each process's own monotonic clock."""

from dataclasses import replace

import pytest

from budget_operator.cluster.lease import Lease, LeaseRecord, Step, decide
from budget_operator.core.errors import PreconditionFailed, Unavailable


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class MemoryStore:
    """A Lease object with the API server's optimistic concurrency."""

    def __init__(self) -> None:
        self.record = LeaseRecord()
        self.failing = False

    def read_lease(self) -> LeaseRecord:
        if self.failing:
            raise Unavailable("no answer")
        return self.record

    def write_lease(self, record: LeaseRecord) -> LeaseRecord:
        if self.failing:
            raise Unavailable("no answer")
        if record.version != self.record.version:
            raise PreconditionFailed("stale")
        self.record = replace(record, version=str(int(self.record.version or "0") + 1))
        return self.record


@pytest.mark.parametrize(
    ("record", "unchanged_for", "expected"),
    [
        (LeaseRecord(), 0, Step.ACQUIRE),
        (LeaseRecord(holder="me", duration_seconds=30, version="1"), 99, Step.RENEW),
        (LeaseRecord(holder="other", duration_seconds=30, version="1"), 30, Step.STAND_BY),
        (LeaseRecord(holder="other", duration_seconds=30, version="1"), 30.1, Step.ACQUIRE),
        (LeaseRecord(holder="", duration_seconds=30, version="4"), 0, Step.ACQUIRE),
    ],
)
def test_decide(record: LeaseRecord, unchanged_for: float, expected: Step) -> None:
    assert decide(record, "me", unchanged_for) is expected


def test_a_standby_takes_over_only_after_the_holder_was_silent_for_the_whole_duration() -> None:
    clock, store, lost = Clock(), MemoryStore(), []
    first = Lease(store, "first", lambda: lost.append("first"), clock=clock)
    second = Lease(store, "second", lambda: lost.append("second"), clock=clock)
    first.step()
    second.step()
    assert first.held.is_set()
    assert not second.held.is_set()
    clock.now += 14
    first.step()
    second.step()
    clock.now += 14
    second.step()
    assert not second.held.is_set(), "the holder renewed 14 s ago"
    clock.now += 2
    second.step()
    assert second.held.is_set()
    first.step()
    assert lost == ["first"], "the old holder must notice that it was replaced"


def test_a_holder_that_cannot_renew_gives_up_before_another_may_take_over() -> None:
    clock, store, lost = Clock(), MemoryStore(), []
    lease = Lease(store, "me", lambda: lost.append("me"), clock=clock)
    lease.step()
    store.failing = True
    clock.now += 9
    lease.step()
    assert lost == []
    clock.now += 2
    lease.step()
    assert lost == ["me"]
    assert not lease.held.is_set()


def test_two_that_start_together_do_not_both_hold_it() -> None:
    clock, store = Clock(), MemoryStore()
    stale = store.read_lease()
    first = Lease(store, "first", lambda: None, clock=clock)
    first.step()
    with pytest.raises(PreconditionFailed):
        store.write_lease(replace(stale, holder="second"))


def test_a_lease_that_is_given_back_is_free_at_once() -> None:
    clock, store = Clock(), MemoryStore()
    first = Lease(store, "first", lambda: None, clock=clock)
    first.step()
    first.stop()
    first.run()
    second = Lease(store, "second", lambda: None, clock=clock)
    second.step()
    assert second.held.is_set()
