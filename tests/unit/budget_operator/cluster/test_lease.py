"""The Lease: one holder at a time, judged on each process's own monotonic clock."""

import threading
from dataclasses import replace

import pytest

from budget_operator.cluster.contact import Reading
from budget_operator.cluster.lease import Lease, LeaseRecord, Step, Timing, decide
from budget_operator.core.errors import NotFound, PreconditionFailed, Unavailable


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
        self.reads = 0

    def read_lease(self) -> LeaseRecord:
        self.reads += 1
        if self.failing:
            raise Unavailable("no answer")
        return self.record

    def write_lease(self, record: LeaseRecord) -> LeaseRecord:
        if self.failing:
            raise Unavailable("no answer")
        if record.version and not self.record.version:
            self.record = replace(record, version="1")  # as the API server does
            raise NotFound("it had been deleted")
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


def test_the_time_of_day_of_neither_machine_matters() -> None:
    """The holder's clock is set by years, there and back; only a silence that the standby has seen counts."""
    clock, store = Clock(), MemoryStore()
    first = Lease(store, "first", lambda: None, clock=clock)
    second = Lease(store, "second", lambda: None, clock=clock)
    first.step()
    for written in ("1999-01-01T00:00:00.000000Z", "2099-01-01T00:00:00.000000Z", ""):
        store.write_lease(replace(store.record, renewed_at=written))
        second.step()
        clock.now += 14
        second.step()
        assert not second.held.is_set(), written
    clock.now += 2
    second.step()
    assert second.held.is_set()


def test_a_standby_says_once_who_is_active(caplog: pytest.LogCaptureFixture) -> None:
    clock, store = Clock(), MemoryStore()
    first = Lease(store, "first", lambda: None, clock=clock)
    second = Lease(store, "second", lambda: None, clock=clock)
    caplog.set_level("INFO")
    for _ in range(3):
        first.step()
        second.step()
    assert [record.message for record in caplog.records] == [
        "this operator is active now",
        "standing by: first is active",
    ]
    assert (second.holder, second.held.is_set()) == ("first", False)


def test_a_lease_that_cannot_be_read_is_told_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    clock, store = Clock(), MemoryStore()
    lease = Lease(store, "me", lambda: None, clock=clock)
    store.failing = True
    for _ in range(3):
        lease.step()
        clock.now += 5
    assert lease.contact.read() == Reading(None, 5.0, 15.0, "no answer")
    assert [record.message for record in caplog.records] == [
        "the lease could not be read or written: no answer"
    ]


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


def test_a_holder_renews_without_a_look() -> None:
    clock, store = Clock(), MemoryStore()
    lease = Lease(store, "me", lambda: None, clock=clock)
    for _ in range(5):
        lease.step()
        clock.now += 9
    assert (store.reads, store.record.version) == (1, "5")


@pytest.mark.parametrize("left", [LeaseRecord(), LeaseRecord("me", 15, version="70")])
def test_a_lease_that_somebody_deleted_or_changed_is_held_on_to(left: LeaseRecord) -> None:
    clock, store, lost = Clock(), MemoryStore(), []
    lease = Lease(store, "me", lambda: lost.append("me"), clock=clock)
    lease.step()
    store.record = left
    lease.step()
    assert (store.record.holder, lease.held.is_set(), lost) == ("me", True, [])


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


def test_a_lease_under_which_something_still_acts_is_kept_until_it_expires() -> None:
    clock, store, lost = Clock(), MemoryStore(), []
    first = Lease(store, "first", lambda: lost.append("first"), clock=clock)
    second = Lease(store, "second", lambda: None, clock=clock)
    first.step()
    first.fence()
    first.stop(acts=True)
    first.run()
    assert (store.record.holder, lost) == ("first", [])
    first.fence()
    assert lost == ["first"], "what still acts begins nothing"
    second.step()
    assert not second.held.is_set()
    clock.now += 16
    second.step()
    assert second.held.is_set()


def test_an_unexpected_error_does_not_leave_a_lease_held_for_ever() -> None:
    clock, store, lost = Clock(), MemoryStore(), []
    lease = Lease(store, "me", lambda: lost.append("me"), clock=clock)
    lease.step()

    def broken(record: LeaseRecord) -> LeaseRecord:
        raise ValueError("nobody expected this")

    store.write_lease = broken  # type: ignore[method-assign]
    clock.now += 11
    lease.step()
    assert lost == ["me"]


def test_the_deadline_is_noticed_while_a_call_hangs() -> None:
    store, lost = MemoryStore(), threading.Event()
    timing = Timing(duration=1, renew_deadline=0.2, retry=0.05)
    lease = Lease(store, "me", lost.set, timing)
    lease.step()
    hanging = threading.Event()

    def hang(record: LeaseRecord) -> LeaseRecord:
        hanging.wait(30)
        raise Unavailable("no answer")

    store.write_lease = hang  # type: ignore[method-assign]
    renewing = threading.Thread(target=lease.step)
    guarding = threading.Thread(target=lease.guard)
    renewing.start()
    guarding.start()
    try:
        assert lost.wait(10)
    finally:
        hanging.set()
        lease.stop()
        renewing.join(10)
        guarding.join(10)
