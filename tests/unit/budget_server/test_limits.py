"""How much runs and waits at a time, and how large a body may be."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import ClientDisconnect

from budget_server.errors import BodyTooLarge, TooManyRequests
from budget_server.limits import Admission, check_length, read_body, turn_or_gone


def test_as_many_run_and_wait_as_are_allowed() -> None:
    async def run() -> None:
        admission = Admission(running=2, queue=1)
        for _ in range(3):
            admission.admit()
        assert (admission.running, admission.queued) == (0, 3)
        assert admission.turn() is None
        assert admission.turn() is None
        third = admission.turn()
        assert third is not None
        assert (admission.running, admission.queued) == (2, 1)
        with pytest.raises(TooManyRequests) as caught:
            admission.admit()
        assert caught.value.headers["Retry-After"] == "1"
        admission.done()
        admission.leave()
        await asyncio.wait_for(third, 1)
        assert (admission.running, admission.queued) == (2, 0)
        admission.admit()

    asyncio.run(run())


def test_the_longest_waiting_is_next() -> None:
    async def run() -> None:
        admission = Admission(running=1, queue=9)
        assert admission.turn() is None
        order: list[int] = []

        async def wait(number: int) -> None:
            turn = admission.turn()
            assert turn
            await turn
            order.append(number)
            admission.done()

        waiting = [asyncio.ensure_future(wait(number)) for number in range(5)]
        await asyncio.sleep(0)
        admission.done()
        await asyncio.gather(*waiting)
        assert order == [0, 1, 2, 3, 4]
        assert admission.running == 0

    asyncio.run(run())


@given(st.lists(st.sampled_from(["enter", "end", "cancel", "cancel-late"]), max_size=40))
def test_no_turn_is_lost_or_doubled(events: list[str]) -> None:
    async def run() -> None:
        admission = Admission(running=2, queue=100)
        running: set[int] = set()
        tasks: list[asyncio.Task[None]] = []
        ends: dict[int, asyncio.Event] = {}

        async def one(number: int) -> None:
            turn = admission.turn()
            if turn is not None:
                await turn
            running.add(number)
            assert len(running) <= 2
            try:
                await ends[number].wait()
            finally:
                running.discard(number)
                admission.done()

        for number, event in enumerate(events):
            if event == "enter":
                ends[number] = asyncio.Event()
                tasks.append(asyncio.ensure_future(one(number)))
                await asyncio.sleep(0)
            elif event == "end" and running:
                ends[min(running)].set()
                await asyncio.sleep(0)
            elif tasks:
                if event == "cancel-late" and running:
                    ends[min(running)].set()
                tasks[-1].cancel()
        for end in ends.values():
            end.set()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert admission.running == 0

    asyncio.run(run())


def test_who_hangs_up_while_waiting_takes_no_turn() -> None:
    async def run() -> None:
        admission = Admission(running=1, queue=5)
        assert admission.turn() is None
        gone = asyncio.Event()

        async def receive() -> dict[str, Any]:
            await gone.wait()
            return {"type": "http.disconnect"}

        turn = admission.turn()
        assert turn is not None
        waiting = asyncio.ensure_future(turn_or_gone(turn, receive))
        await asyncio.sleep(0)
        gone.set()
        assert await waiting is False
        admission.done()
        assert admission.running == 0
        assert admission.turn() is None

    asyncio.run(run())


def messages(*chunks: bytes, end: str = "http.request") -> Any:
    def told() -> Iterator[dict[str, Any]]:
        for index, chunk in enumerate(chunks):
            last = index == len(chunks) - 1 and end == "http.request"
            yield {"type": "http.request", "body": chunk, "more_body": not last}
        yield {"type": "http.disconnect"}

    source = told()

    async def receive() -> dict[str, Any]:
        return next(source)

    return receive


@given(st.lists(st.binary(max_size=8), min_size=1, max_size=6), st.integers(0, 40))
def test_a_body_is_received_up_to_the_limit(chunks: list[bytes], most: int) -> None:
    whole = b"".join(chunks)
    if len(whole) <= most:
        assert asyncio.run(read_body(messages(*chunks), most)) == whole
    else:
        with pytest.raises(BodyTooLarge, match=f"larger than {most} bytes"):
            asyncio.run(read_body(messages(*chunks), most))


def test_no_more_is_received_than_it_takes_to_see_that_it_is_too_much() -> None:
    received = []

    async def receive() -> dict[str, Any]:
        received.append(1)
        return {"type": "http.request", "body": b"x" * 10, "more_body": True}

    with pytest.raises(BodyTooLarge):
        asyncio.run(read_body(receive, 25))
    assert len(received) == 3


def test_a_declared_length_is_refused_before_anything_is_received() -> None:
    scope = {"headers": [(b"host", b"x"), (b"content-length", b"33554433")]}
    with pytest.raises(BodyTooLarge, match="larger than 32 MiB"):
        check_length(scope, 32 * 2**20)
    check_length(scope, 33554433)
    check_length({"headers": []}, 1)


@pytest.mark.parametrize("chunks", [(), (b"begun",)])
def test_who_hangs_up_while_sending_is_told_apart(chunks: tuple[bytes, ...]) -> None:
    with pytest.raises(ClientDisconnect):
        asyncio.run(read_body(messages(*chunks, end="http.disconnect"), 100))
