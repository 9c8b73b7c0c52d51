"""Durable tasks: order, restarts, roll-backs, failures."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from localcloud.clock import ManualClock
from localcloud.operations import Tasks
from localcloud.store import Store

WAIT = 5.0


def tasks_with(store: Store, clock: ManualClock, **handlers: Callable[[Any], None]) -> Tasks:
    tasks = Tasks("test", store, clock)
    for verb, handler in handlers.items():
        tasks.on(verb, handler)
    return tasks


def test_a_lane_keeps_its_order_and_another_goes_beside_it(store: Store, clock: ManualClock) -> None:
    seen: list[int] = []
    gate, beside, last = threading.Event(), threading.Event(), threading.Event()

    def slow(args: Any) -> None:
        assert gate.wait(WAIT)
        seen.append(args["n"])

    tasks = tasks_with(store, clock, slow=slow, quick=lambda _: beside.set(), last=lambda _: last.set())
    tasks.start()
    for n in range(3):
        tasks.add("a", "slow", {"n": n})
    tasks.add("a", "last", {})
    tasks.add("b", "quick", {})
    assert beside.wait(WAIT), "lane b does not wait for lane a"
    assert seen == []
    assert tasks.busy("a")
    gate.set()
    assert last.wait(WAIT)
    assert seen == [0, 1, 2]
    tasks.stop()


def test_an_interrupted_task_runs_again_after_a_restart(store: Store, clock: ManualClock) -> None:
    began, done = threading.Event(), threading.Event()

    def first(_: Any) -> None:
        began.set()
        tasks.sleep(3600)
        raise AssertionError("not reached")

    tasks = tasks_with(store, clock, work=first)
    tasks.start()
    tasks.add("a", "work", {"n": 1})
    assert began.wait(WAIT)
    tasks.stop()

    args: list[Any] = []

    def second(found: Any) -> None:
        args.append(found)
        done.set()

    again = tasks_with(store, clock, work=second)
    again.start()
    assert done.wait(WAIT)
    assert args == [{"n": 1}]
    again.stop()
    assert store.list("test.task") == []


def test_tasks_added_before_the_start_run_once(store: Store, clock: ManualClock) -> None:
    seen, done = [], threading.Event()
    tasks = tasks_with(store, clock, work=lambda args: seen.append(args["n"]), last=lambda _: done.set())
    tasks.add("a", "work", {"n": 1})
    tasks.add("a", "last", {})
    tasks.start()
    assert done.wait(WAIT)
    tasks.stop()
    assert seen == [1]


def test_a_roll_back_takes_the_task_back(store: Store, clock: ManualClock) -> None:
    seen, done = [], threading.Event()
    tasks = tasks_with(store, clock, work=lambda args: seen.append(args["n"]), last=lambda _: done.set())
    tasks.start()
    with pytest.raises(RuntimeError), store.transaction():
        tasks.add("a", "work", {"n": 1})
        raise RuntimeError
    tasks.add("a", "last", {})
    assert done.wait(WAIT)
    assert seen == []
    tasks.stop()


def test_a_failed_task_is_reported_and_over(store: Store, clock: ManualClock) -> None:
    reported, done = [], threading.Event()

    def broken(_: Any) -> None:
        raise ValueError("no")

    tasks = tasks_with(store, clock, broken=broken, last=lambda _: done.set())
    tasks.on_failure(lambda args, error: reported.append((args["n"], str(error))))
    tasks.start()
    tasks.add("a", "broken", {"n": 7})
    tasks.add("a", "last", {})
    assert done.wait(WAIT)
    assert reported == [(7, "no")]
    tasks.stop()
    assert store.list("test.task") == []


def test_a_task_whose_work_is_over_is_forgotten_and_not_repeated(store: Store, clock: ManualClock) -> None:
    seen, done = [], threading.Event()
    tasks = tasks_with(store, clock, work=lambda args: seen.append(args["n"]), last=lambda _: done.set())
    tasks.unless(lambda args: args.get("n") == 1)
    for n in range(3):
        tasks.add("a", "work", {"n": n})
    tasks.add("a", "last", {})
    tasks.start()
    assert done.wait(WAIT)
    tasks.stop()
    assert seen == [0, 2]
    assert store.list("test.task") == []
