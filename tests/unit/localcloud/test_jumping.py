"""Threads of a jumping clock take turns, and time is what the next of them waits for."""

from __future__ import annotations

import threading
from functools import partial

import pytest

from localcloud.jumping import JumpingClock

MONTH = 31 * 86_400.0


def ticking(clock: JumpingClock, seconds: float, told: list[tuple[float, str]], name: str) -> None:
    for _ in range(3):
        clock.sleep(seconds)
        told.append((clock.monotonic(), name))


def test_time_jumps_to_what_is_due_in_order() -> None:
    clock, told = JumpingClock(), list[tuple[float, str]]()
    for name, seconds in (("slow", 10.0), ("fast", 4.0)):
        clock.thread(partial(ticking, clock, seconds, told, name), name).start()
    clock.sleep(MONTH)
    assert told == [(4, "fast"), (8, "fast"), (10, "slow"), (12, "fast"), (20, "slow"), (30, "slow")]
    assert clock.monotonic() == MONTH
    assert clock.now().month == 2


def test_who_is_due_at_the_same_time_goes_in_the_order_of_asking() -> None:
    clock, told = JumpingClock(), list[str]()

    def work(name: str) -> None:
        clock.sleep(5)
        told.append(name)

    for name in "abc":
        clock.thread(partial(work, name), name).start()
    clock.sleep(6)
    assert told == ["a", "b", "c"]


def test_what_is_woken_goes_on_at_once() -> None:
    clock, wake, told = JumpingClock(), threading.Event(), list[tuple[float, bool]]()
    clock.thread(lambda: told.append((clock.monotonic(), clock.wait(100, wake))), "sleeper").start()

    def work() -> None:
        clock.sleep(7)
        wake.set()
        clock.sleep(1)

    clock.thread(work, "waker").start()
    clock.sleep(7.5)
    assert told == [(0, True)]


def test_nothing_runs_while_another_has_its_turn() -> None:
    clock, told = JumpingClock(), list[str]()
    clock.thread(lambda: told.append("other"), "other").start()
    assert told == []
    clock.sleep(0)
    assert told == ["other"]


def test_join_waits_for_the_end_or_for_so_long() -> None:
    clock = JumpingClock()
    short, endless = (clock.thread(partial(clock.sleep, seconds), "thread") for seconds in (3.0, MONTH))
    short.start()
    endless.start()
    short.join()
    assert clock.monotonic() == 3
    endless.join(2)
    assert clock.monotonic() == 5


def test_a_thread_that_fails_passes_its_turn_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    clock = JumpingClock()
    failing = clock.thread(lambda: 1 / 0, "failing")
    failing.start()
    failing.join()
    assert clock.monotonic() == 0


def test_it_says_when_everything_waits_for_ever() -> None:
    clock = JumpingClock()
    with pytest.raises(RuntimeError, match="waits for another"):
        clock.wait(float("inf"), threading.Event())
