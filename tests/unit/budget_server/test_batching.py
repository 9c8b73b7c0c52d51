"""Who shares a batch, when it goes, and who gets which result. Time is the loop's, and goes only in jumps."""

import asyncio
import contextvars
import gc
import selectors
import traceback
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from budget_server.batching import Batcher, WrongResults

WINDOW = 0.005


class JumpingLoop(asyncio.SelectorEventLoop):
    """A loop whose clock stands still while anything can run, then jumps to the next timer."""

    def __init__(self) -> None:
        super().__init__(JumpingSelector(self))
        self.now = 100.0
        self.timers = 0
        self.before_jump: Callable[[], None] = lambda: None

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        self.timers += 1
        return super().call_at(when, callback, *args, context=context)

    def time(self) -> float:
        return self.now


class JumpingSelector(selectors.DefaultSelector):
    def __init__(self, loop: JumpingLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> Any:
        events = super().select(0)
        if not events and timeout is None:
            raise AssertionError("everybody waits and nothing will ever happen")
        if not events and timeout:
            self._loop.before_jump()
            self._loop.now += timeout
        return events


def run(main: Coroutine[Any, Any, Any]) -> Any:
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        return runner.run(main)


def now() -> float:
    return round(asyncio.get_running_loop().time() - 100.0, 6)


async def turns(count: int = 10) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@dataclass
class Held:
    """A predict_batch whose calls end when they are told to."""

    calls: list[list[Any]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    ends: list["asyncio.Future[None]"] = field(default_factory=list)

    async def __call__(self, items: list[Any]) -> list[Any]:
        self.calls.append(list(items))
        self.times.append(now())
        self.ends.append(asyncio.get_running_loop().create_future())
        await self.ends[-1]
        return [f"r{item}" for item in items]

    def batcher(self, max_size: int = 4, threads: int = 2, window: float = WINDOW) -> Batcher:
        return Batcher(self, max_size, window, threads, self.sizes.append)

    def end(self, number: int) -> None:
        self.ends[number].set_result(None)


def submit(batcher: Batcher, *items: Any) -> list["asyncio.Task[Any]"]:
    return [asyncio.ensure_future(batcher.submit(item)) for item in items]


def answer(
    call: Callable[[list[Any]], Any], *items: Any, sizes: list[int] | None = None, max_size: int = 32
) -> list[Any]:
    """What each of the items, submitted in one turn, gets: a result or an exception."""

    async def called(given: list[Any]) -> Any:
        return call(given)

    async def main() -> list[Any]:
        batcher = Batcher(called, max_size, WINDOW, 1, (sizes if sizes is not None else []).append)
        return await asyncio.gather(*submit(batcher, *items), return_exceptions=True)

    return list(run(main()))


# When a batch goes.


def test_a_lone_call_waits_for_nobody() -> None:
    async def main() -> None:
        held = Held()
        (task,) = submit(held.batcher(window=60.0), 1)
        await turns(4)
        assert (held.calls, held.times) == ([[1]], [0.0])
        held.end(0)
        assert await task == "r1"
        assert now() == 0.0

    run(main())


def test_what_arrives_in_one_turn_shares_a_batch() -> None:
    async def main() -> None:
        held = Held()
        tasks = submit(held.batcher(), 1, 2, 3)
        await turns()
        assert held.calls == [[1, 2, 3]]
        held.end(0)
        assert await asyncio.gather(*tasks) == ["r1", "r2", "r3"]
        assert held.sizes == [3]

    run(main())


def test_calls_gather_while_all_threads_are_busy_and_the_oldest_go_first() -> None:
    async def main() -> None:
        held = Held()
        batcher = held.batcher(max_size=2, threads=1)
        tasks = submit(batcher, 0)
        await turns()
        for item in (1, 2, 3):
            tasks += submit(batcher, item)
            await turns(3)
        await asyncio.sleep(10 * WINDOW)
        assert held.calls == [[0]]
        held.end(0)
        await turns()
        assert held.calls == [[0], [1, 2]]
        held.end(1)
        await turns()
        assert held.calls == [[0], [1, 2], [3]]
        held.end(2)
        assert await asyncio.gather(*tasks) == ["r0", "r1", "r2", "r3"]

    run(main())


def test_when_one_of_all_busy_threads_ends_what_gathered_goes_at_once() -> None:
    async def main() -> None:
        held = Held()
        batcher = held.batcher(max_size=2, window=60.0)
        submit(batcher, 0, 1, 2, 3)
        await turns()
        submit(batcher, 4)
        await turns()
        assert held.calls == [[0, 1], [2, 3]]
        held.end(1)
        await turns()
        assert (held.calls[2:], now()) == ([[4]], 0.0)
        for number in (0, 2):
            held.end(number)
        await turns()

    run(main())


def test_while_a_thread_is_free_a_batch_goes_when_its_oldest_waited_the_window() -> None:
    async def main() -> None:
        held = Held()
        batcher = held.batcher()
        submit(batcher, 0)
        await asyncio.sleep(0.001)
        submit(batcher, 1)
        await asyncio.sleep(0.003)
        submit(batcher, 2)
        await asyncio.sleep(0.1)
        assert held.calls == [[0], [1, 2]]
        assert held.times == [0.0, 0.001 + WINDOW]
        for number in (0, 1):
            held.end(number)
        await turns()

    run(main())


def test_there_is_one_timer_however_many_wait() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, JumpingLoop)
        held = Held()
        batcher = held.batcher(max_size=100)
        for item in range(50):
            submit(batcher, item)
            await turns()
        assert (held.calls, loop.timers) == ([[0]], 1)
        await asyncio.sleep(WINDOW)
        assert held.calls[1:] == [[*range(1, 50)]]
        for number in (0, 1):
            held.end(number)
        await turns()

    run(main())


def test_a_full_batch_does_not_wait_for_the_window() -> None:
    async def main() -> None:
        held = Held()
        batcher = held.batcher(max_size=2, window=60.0)
        submit(batcher, 0)
        await turns()
        submit(batcher, 1)
        await turns()
        assert held.calls == [[0]]
        submit(batcher, 2)
        await turns()
        assert held.calls == [[0], [1, 2]]
        assert now() == 0.0
        for number in (0, 1):
            held.end(number)
        await turns()

    run(main())


def test_more_than_a_batch_in_one_turn_uses_the_other_threads() -> None:
    async def main() -> None:
        held = Held()
        tasks = submit(held.batcher(max_size=2, threads=3), *range(5))
        await turns()
        assert held.calls == [[0, 1], [2, 3]]
        await asyncio.sleep(2 * WINDOW)
        assert (held.calls[2], held.times[2]) == ([4], WINDOW)
        for number in (2, 1, 0):
            held.end(number)
        assert await asyncio.gather(*tasks) == ["r0", "r1", "r2", "r3", "r4"]

    run(main())


def test_what_waits_goes_when_the_last_running_batch_ends() -> None:
    async def main() -> None:
        held = Held()
        batcher = held.batcher(window=60.0)
        submit(batcher, 0)
        await turns()
        submit(batcher, 1)
        await turns()
        held.end(0)
        await turns()
        assert (held.calls, now()) == ([[0], [1]], 0.0)
        held.end(1)
        await turns()

    run(main())


def test_a_batch_runs_in_no_request_s_context() -> None:
    variable = contextvars.ContextVar("variable", default="none")
    seen = []

    async def call(items: list[Any]) -> list[Any]:
        seen.append(variable.get())
        return items

    async def main() -> None:
        variable.set("of the server")
        batcher = Batcher(call, 4, WINDOW, 1, lambda _: None)
        variable.set("of a request")
        assert await asyncio.gather(*submit(batcher, 1, 2)) == [1, 2]
        assert await batcher.submit(3) == 3

    run(main())
    assert seen == ["of the server"] * 2


# Who gets what.


def test_each_gets_its_own_object() -> None:
    made = [object() for _ in range(5)]
    answers = answer(lambda items: [made[item] for item in items], *range(5))
    assert all(got is wanted for got, wanted in zip(answers, made, strict=True))


@pytest.mark.parametrize(
    "results", [np.array([[1.0, 2.0], [3.0, 4.0]]), ([1.0, 2.0], [3.0, 4.0])], ids=["array", "tuple"]
)
def test_anything_with_a_length_and_an_order_is_taken(results: Any) -> None:
    calls: list[int] = []

    def call(items: list[Any]) -> Any:
        calls.append(len(items))
        return results

    assert [list(row) for row in answer(call, "a", "b")] == [[1.0, 2.0], [3.0, 4.0]]
    assert calls == [2]


def test_the_bad_item_stands_alone_and_the_others_get_their_results() -> None:
    calls: list[list[int]] = []
    sizes: list[int] = []

    def call(items: list[int]) -> list[int]:
        calls.append(list(items))
        if 5 in items:
            raise ValueError(f"among {items}")
        return [10 * item for item in items]

    answers = answer(call, *range(8), sizes=sizes)
    assert str(answers[5]) == "among [5]"
    assert [*answers[:5], *answers[6:]] == [0, 10, 20, 30, 40, 60, 70]
    assert calls == [[*range(8)], [0, 1, 2, 3], [4, 5, 6, 7], [4, 5], [4], [5], [6, 7]]
    assert sizes == [8], "a batch that is tried again is one batch"


def test_a_returned_exception_fails_its_item_alone_and_without_another_call() -> None:
    calls: list[int] = []

    def call(items: list[int]) -> list[Any]:
        calls.append(len(items))
        return [KeyError(item) if item % 2 else item for item in items]

    answers = answer(call, 0, 1, 2, 3)
    assert answers[::2] == [0, 2]
    assert [error.args for error in answers[1::2]] == [(1,), (3,)]
    assert calls == [4]


@pytest.mark.parametrize(
    ("results", "told"),
    [
        (None, "returned NoneType; return a list"),
        ("a", "returned str; return a list"),
        ({"a": 1}, "returned dict; return a list"),
        ({1}, "returned set; return a list"),
        (np.float64(1.0), "returned float64; return a list"),
        (iter([1]), "return a list"),
        ([], "returned 0 results for 1 inputs"),
        ([1, 2, 3], "returned 3 results for 1 inputs"),
    ],
)
def test_a_wrong_return_value_is_told_as_such(results: Any, told: str) -> None:
    for error in answer(lambda _items: results, 1, 2):
        assert isinstance(error, WrongResults)
        assert told in str(error)


def test_a_data_frame_is_not_iterated_by_columns() -> None:
    class Frame(list[str]):
        columns = ("a", "b")

    answers = answer(lambda _items: Frame(["a", "b"]), 1, 2)
    assert [type(error) for error in answers] == [WrongResults] * 2


@pytest.mark.parametrize("kind", [SystemExit, asyncio.CancelledError, KeyboardInterrupt, MemoryError])
def test_no_exception_of_the_predictor_ends_more_than_its_item(kind: type[BaseException]) -> None:
    async def call(items: list[int]) -> list[int]:
        if 1 in items:
            raise kind
        return items

    async def caught(batcher: Batcher, item: int) -> Any:
        try:
            return await batcher.submit(item)
        except BaseException as error:
            return type(error)

    async def main() -> None:
        batcher = Batcher(call, 4, WINDOW, 1, lambda _: None)
        assert await asyncio.gather(*(caught(batcher, item) for item in range(3))) == [0, kind, 2]
        assert await batcher.submit(7) == 7

    run(main())


def test_a_returned_stop_iteration_is_an_error_like_any_other() -> None:
    first, second = answer(lambda _items: [StopIteration("end"), 2], 1, 2)
    assert isinstance(first, RuntimeError)
    assert isinstance(first.__cause__, StopIteration)
    assert second == 2


def test_the_caller_s_list_is_not_the_predictor_s() -> None:
    def call(items: list[int]) -> list[int]:
        taken = [items.pop(0) for _ in list(items)]
        if len(taken) > 1:
            raise ValueError
        return taken

    assert answer(call, 1, 2, 3) == [1, 2, 3]


def test_an_error_returned_again_and_again_does_not_gather_frames() -> None:
    constant = ValueError("always the same")

    async def call(items: list[int]) -> list[Any]:
        return [constant for _ in items]

    async def main() -> list[int]:
        batcher = Batcher(call, 4, WINDOW, 1, lambda _: None)
        depths = []
        for item in range(4):
            with pytest.raises(ValueError, match="always the same"):
                await batcher.submit(item)
            depths.append(len(traceback.extract_tb(constant.__traceback__)))
        return depths

    assert len(set(run(main()))) == 1


def test_a_raised_error_keeps_the_predictor_s_frames() -> None:
    def guilty(_items: list[Any]) -> Any:
        raise ValueError

    (error,) = answer(guilty, 1)
    assert traceback.extract_tb(error.__traceback__)[-1].name == "guilty"


@contextmanager
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def test_a_failed_item_is_freed_without_the_garbage_collector() -> None:
    class Payload:
        pass

    async def call(items: list[Any]) -> list[Any]:
        raise ValueError

    async def main() -> None:
        batcher = Batcher(call, 4, WINDOW, 1, lambda _: None)
        payload = Payload()
        seen = weakref.ref(payload)
        with no_collector():
            try:
                await batcher.submit(payload)
            except ValueError:
                del payload
            await turns()
            assert seen() is None

    run(main())


# Cancellation.


def test_who_is_cancelled_before_dispatch_is_dropped_and_its_item_freed() -> None:
    class Payload:
        pass

    async def main() -> None:
        held = Held()
        batcher = held.batcher(threads=1)
        submit(batcher, 0)
        await turns()
        payload = Payload()
        seen = weakref.ref(payload)
        gone, stays = submit(batcher, payload, 2)
        await turns()
        gone.cancel()
        del payload
        with pytest.raises(asyncio.CancelledError):
            await gone
        del gone
        await turns()
        assert seen() is None, "an item of nobody is kept while the threads are busy"
        held.end(0)
        await turns()
        assert held.calls == [[0], [2]]
        held.end(1)
        assert await stays == "r2"

    run(main())


def test_the_cancelled_do_not_fill_a_batch() -> None:
    async def main() -> None:
        held = Held()
        batcher = held.batcher(max_size=2, window=60.0)
        submit(batcher, 0)
        await turns()
        (gone,) = submit(batcher, 1)
        await turns()
        gone.cancel()
        await turns()
        submit(batcher, 2)
        await turns()
        assert held.calls == [[0]]
        submit(batcher, 3)
        await turns()
        assert held.calls == [[0], [2, 3]]
        for number in (0, 1):
            held.end(number)
        await turns()

    run(main())


def test_who_is_cancelled_while_running_leaves_the_others_their_results() -> None:
    async def main() -> None:
        held = Held()
        gone, stays = submit(held.batcher(), 1, 2)
        await turns()
        gone.cancel()
        await turns()
        held.end(0)
        assert await stays == "r2"
        assert gone.cancelled()

    run(main())


@pytest.mark.parametrize("after", range(6))
def test_only_what_is_called_is_counted_whenever_the_cancellation_comes(after: int) -> None:
    async def main() -> None:
        held = Held()
        batcher = held.batcher()
        stays, *gone = submit(batcher, 0, 1, 2)
        await turns(after)
        for task in gone:
            task.cancel()
        await turns()
        assert held.sizes == [len(call) for call in held.calls]
        held.end(0)
        assert await stays == "r0"

        (gone_alone,) = submit(batcher, 3)
        await turns(after)
        gone_alone.cancel()
        await turns()
        assert held.sizes == [len(call) for call in held.calls]
        for end in held.ends[1:]:
            end.set_result(None)
        await turns()
        (task,) = submit(batcher, 4)
        await turns()
        held.end(-1)
        assert await task == "r4"

    run(main())


def test_who_is_cancelled_while_a_batch_is_halved_is_not_asked_for_again() -> None:
    calls: list[list[int]] = []
    tasks: list[asyncio.Task[Any]] = []

    async def call(items: list[int]) -> list[int]:
        calls.append(list(items))
        if len(items) == 4:
            tasks[3].cancel()
            await turns()
            raise ValueError
        return items

    async def main() -> None:
        tasks.extend(submit(Batcher(call, 4, WINDOW, 1, lambda _: None), 0, 1, 2, 3))
        assert await asyncio.gather(*tasks[:3]) == [0, 1, 2]
        assert calls == [[0, 1, 2, 3], [0, 1], [2]]

    run(main())


def test_a_batch_that_is_ended_from_outside_leaves_nobody_waiting() -> None:
    async def main() -> None:
        held = Held()
        batcher = held.batcher(threads=1)
        first = submit(batcher, 1, 2)
        await turns()
        second = submit(batcher, 3)
        await turns()
        (batch,) = asyncio.all_tasks() - {asyncio.current_task(), *first, *second}
        batch.cancel()
        await turns()
        assert [task.cancelled() for task in first] == [True, True]
        assert held.calls == [[1, 2], [3]], "a batch that was told to end is not tried again"
        held.end(1)
        assert await second[0] == "r3"

    run(main())


def test_an_error_of_the_counter_reaches_those_who_wait() -> None:
    def on_batch(_size: int) -> None:
        raise OSError("no space for metrics")

    async def call(items: list[Any]) -> list[Any]:
        return items

    async def main() -> None:
        batcher = Batcher(call, 4, WINDOW, 1, on_batch)
        for item in range(2):
            with pytest.raises(OSError, match="no space"):
                await batcher.submit(item)

    run(main())


# All of it at random.


@dataclass(frozen=True)
class Arrival:
    after: int  # milliseconds since the one before
    outcome: str  # fine, raises, returns (an exception), wrong (length)
    cancelled: int | None  # milliseconds after its arrival


ARRIVALS = st.lists(
    st.builds(
        Arrival,
        after=st.sampled_from([0, 0, 0, 1, 2, 7]),
        outcome=st.sampled_from(["fine", "fine", "fine", "raises", "returns", "wrong"]),
        cancelled=st.sampled_from([None, None, None, 0, 1, 4, 12]),
    ),
    max_size=40,
)


class OwnError(Exception):
    """The error of one item, which names it."""


class World:
    """A model that keeps the books of every item: when it came, when it went, who runs."""

    def __init__(self, max_size: int, threads: int, millis: int) -> None:
        self.max_size, self.threads = max_size, threads
        self.seconds = millis / 1000
        self.sizes: list[int] = []
        self.first_calls: list[int] = []
        self.came: dict[int, float] = {}
        self.arrivals: list[Arrival] = []
        self.running = 0
        self.batcher = Batcher(self.call, max_size, WINDOW, threads, self.sizes.append)

    async def call(self, items: list[int]) -> Any:
        assert 0 < len(items) <= self.max_size
        assert items == sorted(items), "the order of arrival"
        self.running += 1
        assert self.running <= self.threads
        self.first_calls += [item for item in items if item in self.came]
        for item in items:
            self.came.pop(item, None)
        try:
            await asyncio.sleep(self.seconds)
        finally:
            self.running -= 1
        outcomes = {item: self.arrivals[item].outcome for item in items}
        if "raises" in outcomes.values():
            raise OwnError([item for item in items if outcomes[item] == "raises"])
        if "wrong" in outcomes.values():
            return items + items
        return [OwnError([item]) if outcomes[item] == "returns" else ("of", item) for item in items]

    def check(self) -> None:
        """Before time passes: nobody waits who could go."""
        if not self.came:
            return
        assert self.running, "something waits and nothing runs"
        if self.running < self.threads:
            assert len(self.came) < self.max_size, "a full batch waits"
            waited = asyncio.get_running_loop().time() - min(self.came.values())
            assert waited < WINDOW, "the window is over"

    async def one(self, number: int) -> Any:
        self.came[number] = asyncio.get_running_loop().time()
        try:
            return await self.batcher.submit(number)
        finally:
            self.came.pop(number, None)

    async def live(self) -> list[Any]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, JumpingLoop)
        loop.before_jump = self.check
        tasks = []
        for number, arrival in enumerate(self.arrivals):
            if arrival.after:
                await asyncio.sleep(arrival.after / 1000)
            tasks.append(asyncio.ensure_future(self.one(number)))
            if arrival.cancelled is not None:
                loop.call_later(arrival.cancelled / 1000, tasks[-1].cancel)
        return await asyncio.gather(*tasks, return_exceptions=True)


@given(
    arrivals=ARRIVALS,
    max_size=st.integers(1, 6),
    threads=st.integers(1, 3),
    millis=st.sampled_from([0, 1, 3, 8]),
)
def test_everybody_gets_its_own_in_order(
    arrivals: list[Arrival], max_size: int, threads: int, millis: int
) -> None:
    async def main() -> tuple[World, list[Any]]:
        world = World(max_size, threads, millis)
        world.arrivals = arrivals
        return world, await world.live()

    world, answers = run(main())
    for number, (arrival, got) in enumerate(zip(arrivals, answers, strict=True)):
        if isinstance(got, asyncio.CancelledError):
            assert arrival.cancelled is not None
        elif arrival.outcome == "fine":
            assert got == ("of", number)
        elif arrival.outcome == "wrong":
            assert isinstance(got, WrongResults)
            assert "2 results for 1 inputs" in str(got)
        else:
            assert isinstance(got, OwnError)
            assert got.args == ([number],)
    assert world.first_calls == sorted(set(world.first_calls)), "the oldest first, each once"
    assert sum(world.sizes) == len(world.first_calls)
    answered = {n for n, got in enumerate(answers) if not isinstance(got, asyncio.CancelledError)}
    assert answered <= set(world.first_calls)


def test_batches_are_asked_for_in_a_call_that_may_be_any_awaitable() -> None:
    def call(items: list[int]) -> Awaitable[list[int]]:
        future = asyncio.get_running_loop().create_future()
        future.set_result(items)
        return future

    async def main() -> None:
        assert await Batcher(call, 2, WINDOW, 1, lambda _: None).submit(3) == 3

    run(main())
