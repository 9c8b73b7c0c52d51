"""Plain functions in threads: bounded, in order, whatever they raise."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from budget_server.threads import Threads


def run(count: int, use: Callable[[Threads], Any]) -> Any:
    async def main() -> Any:
        threads = Threads(count, "test")
        try:
            return await use(threads)
        finally:
            threads.close()

    return asyncio.run(asyncio.wait_for(main(), 20))


def test_results_come_back_to_their_own_callers() -> None:
    async def use(threads: Threads) -> list[int]:
        return await asyncio.gather(*(threads.run(lambda n=n: n * n) for n in range(1000)))  # type: ignore[misc]

    assert run(3, use) == [n * n for n in range(1000)]


@pytest.mark.parametrize(
    "error", [ValueError("x"), SystemExit(1), KeyboardInterrupt(), asyncio.CancelledError()]
)
def test_whatever_is_raised_is_raised_to_the_caller_and_the_thread_lives_on(error: BaseException) -> None:
    def fail() -> None:
        raise error

    async def use(threads: Threads) -> int:
        with pytest.raises(type(error)):
            await threads.run(fail)
        return await threads.run(lambda: 5)

    assert run(1, use) == 5


def test_stop_iteration_becomes_an_error_that_a_coroutine_may_raise() -> None:
    async def use(threads: Threads) -> None:
        with pytest.raises(RuntimeError, match="StopIteration"):
            await threads.run(lambda: next(iter(())))

    run(1, use)


def test_no_more_run_at_a_time_than_there_are_threads() -> None:
    gate, most, now, lock = threading.Event(), 0, 0, threading.Lock()

    def work() -> None:
        nonlocal most, now
        with lock:
            now += 1
            most = max(most, now)
        gate.wait(10)
        with lock:
            now -= 1

    async def use(threads: Threads) -> None:
        calls = [threads.run(work) for _ in range(10)]
        while now < 3:
            await asyncio.sleep(0.001)
        gate.set()
        await asyncio.gather(*calls)

    run(3, use)
    assert most == 3


def test_a_cancelled_call_that_has_not_begun_is_left_out() -> None:
    gate, ran = threading.Event(), []

    async def use(threads: Threads) -> None:
        first = threads.run(lambda: gate.wait(10))
        second = threads.run(lambda: ran.append("second"))
        second.cancel()
        gate.set()
        await first
        await threads.run(lambda: None)

    run(1, use)
    assert ran == []


def test_a_result_is_not_kept_alive_by_an_idle_thread() -> None:
    import weakref

    class Big:
        pass

    async def use(threads: Threads) -> bool:
        seen = weakref.ref(await threads.run(Big))
        await threads.run(lambda: None)
        return seen() is None

    assert run(1, use)
