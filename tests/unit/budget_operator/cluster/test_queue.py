"""The work queue: earliest due time wins, one worker per key, no lost wake-up."""

import threading
from collections import Counter

import pytest

from budget_operator.cluster.queue import BRIEF_SECONDS, WorkQueue


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_earliest_due_time_of_a_key_wins() -> None:
    clock = Clock()
    queue: WorkQueue[str] = WorkQueue(clock)
    queue.add("a", 30)
    queue.add("a", 0)
    queue.add("a", 60)
    assert queue.take() == "a"
    assert queue.depth() == 0


def test_keys_come_in_the_order_of_their_due_times() -> None:
    clock = Clock()
    queue: WorkQueue[str] = WorkQueue(clock)
    queue.add("late", 5)
    queue.add("early", 1)
    clock.now = 10
    assert [queue.take(), queue.take()] == ["early", "late"]


def test_a_key_that_is_added_while_it_runs_runs_again() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    assert queue.take() == "a"
    queue.add("a")
    assert queue.depth() == 0, "a running key must not be handed out twice"
    queue.done("a")
    assert queue.take() == "a"


def test_a_new_request_beats_the_pause_that_done_asks_for() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    queue.take()
    queue.add("a", 0)
    queue.done("a", again_after=3600)
    assert queue.take() == "a"


def test_close_ends_waiting_workers() -> None:
    queue: WorkQueue[str] = WorkQueue()
    taken: list[str | None] = []
    worker = threading.Thread(target=lambda: taken.append(queue.take()))
    worker.start()
    queue.close()
    worker.join(5)
    assert taken == [None]


def test_many_workers_never_work_on_one_key_at_once_and_lose_nothing() -> None:
    queue: WorkQueue[int] = WorkQueue()
    running: Counter[int] = Counter()
    overlaps: list[int] = []
    lock = threading.Lock()
    last_seen: dict[int, int] = {}
    versions = dict.fromkeys(range(20), 0)

    def work() -> None:
        while (key := queue.take()) is not None:
            with lock:
                running[key] += 1
                if running[key] > 1:
                    overlaps.append(key)
                last_seen[key] = versions[key]
            with lock:
                running[key] -= 1
            queue.done(key)

    workers = [threading.Thread(target=work) for _ in range(8)]
    for worker in workers:
        worker.start()
    for round_ in range(1, 201):
        for key in versions:
            with lock:
                versions[key] = round_
            queue.add(key)
    while not (queue.drained(30) and queue.depth() == 0):
        pass
    queue.close()
    for worker in workers:
        worker.join(5)
    assert overlaps == []
    assert last_seen == versions


def test_a_pause_that_is_overtaken_does_not_hand_the_key_out_twice() -> None:
    clock = Clock()
    queue: WorkQueue[str] = WorkQueue(clock)
    queue.add("a", 30)
    queue.add("b", 10)
    queue.add("a", 5)
    clock.now = 60
    assert [queue.take(), queue.take()] == ["a", "b"]
    assert queue.depth() == 0


def test_a_key_that_is_due_earlier_than_the_one_waited_for_is_handed_out_at_once() -> None:
    queue: WorkQueue[str] = WorkQueue()
    taken: list[str | None] = []
    workers = [threading.Thread(target=lambda: taken.append(queue.take())) for _ in range(3)]
    queue.add("late", 3600)
    for worker in workers:
        worker.start()
    queue.add("now")
    while not taken:
        pass
    queue.add("soon", 0.01)
    while len(taken) < 2:
        pass
    queue.close()
    for worker in workers:
        worker.join(5)
    assert taken == ["now", "soon", None]


def test_what_somebody_waits_for_goes_before_what_time_has_brought() -> None:
    clock = Clock()
    queue: WorkQueue[str] = WorkQueue(clock)
    for number in range(5):
        queue.add(f"repair-{number}")
    clock.now = 10
    queue.add_first("repair-3")
    queue.add_first("edited")
    queue.add_first("edited")
    taken = [queue.take() for _ in range(6)]
    assert taken == ["repair-3", "edited", "repair-0", "repair-1", "repair-2", "repair-4"]
    assert queue.depth() == 0
    for key in taken:
        queue.done(str(key))
    queue.add("later", 5)
    queue.add_first("later")
    assert queue.take() == "later", "also one whose time has not come"
    queue.done("later")
    queue.close()
    assert queue.take() is None, "nothing is handed out twice"


def test_one_that_is_edited_while_it_is_worked_on_goes_first_again() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    assert queue.take() == "a"
    queue.add("b")
    queue.add_first("a")
    queue.done("a", again_after=60)
    assert [queue.take(), queue.take()] == ["a", "b"]


def test_one_that_had_to_wait_comes_back_as_it_came() -> None:
    """Others that are due meanwhile do not go before it once it can be worked on."""
    clock = Clock()
    queue: WorkQueue[str] = WorkQueue(clock)
    queue.add_first("edited")
    queue.add("waits")
    for key in (queue.take(), queue.take()):
        queue.done(str(key), 0.5, brief=True, waits=True)
    for number in range(3):
        queue.add(f"repair-{number}", 0.1)
    clock.now = 0.2
    assert queue.take() == "repair-0", "its time has not come"
    clock.now = 0.6
    assert [queue.take() for _ in range(2)] == ["edited", "repair-1"]
    queue.done("edited", 0.5)
    clock.now = 2.0
    assert [queue.take() for _ in range(3)] == ["repair-2", "waits", "edited"]


def test_what_waits_and_is_edited_again_need_not_wait_for_its_time() -> None:
    queue: WorkQueue[str] = WorkQueue(Clock())
    queue.add_first("edited")
    queue.done(str(queue.take()), 0.5, waits=True)
    queue.add_first("edited")
    assert queue.take() == "edited"


@pytest.fixture
def brief() -> tuple[Clock, WorkQueue[str]]:
    """The work on all five was brief the last time, and is due."""
    clock = Clock()
    queue: WorkQueue[str] = WorkQueue(clock)
    for key in "abcde":
        queue.done(key, 0, brief=True)
    return clock, queue


Brief = tuple[Clock, WorkQueue[str]]


def offered(queue: WorkQueue[str]) -> str | None:
    """What another worker gets now, if it need not wait."""
    got: list[str | None] = []
    worker = threading.Thread(target=lambda: got.append(queue.take()), daemon=True)
    worker.start()
    worker.join(0.2)
    return got[0] if got else None


def test_what_is_brief_is_left_to_the_worker_that_has_begun(brief: Brief) -> None:
    _, queue = brief
    assert queue.take() == "a"
    assert offered(queue) is None
    queue.done("a", 60, brief=True)
    assert queue.take() == "b"


def test_one_that_is_not_as_brief_as_expected_holds_nobody_up(brief: Brief) -> None:
    clock, queue = brief
    assert queue.take() == "a"
    clock.now += BRIEF_SECONDS
    assert offered(queue) == "b"


def test_other_work_goes_on_beside_what_is_brief(brief: Brief) -> None:
    _, queue = brief
    queue.add("long")
    assert queue.take() == "a"
    queue.add_first("e")
    assert offered(queue) == "e", "somebody waits for it"
    assert offered(queue) == "long"
    assert offered(queue) is None


def test_one_that_says_so_holds_nobody_up_at_all(brief: Brief) -> None:
    _, queue = brief
    got: list[str | None] = []
    assert queue.take() == "a"
    worker = threading.Thread(target=lambda: got.append(queue.take()))
    worker.start()
    queue.lengthens("a")
    worker.join(5)
    assert got == ["b"]


def test_what_is_brief_does_not_wait_for_whoever_has_gone_on_to_other_work(brief: Brief) -> None:
    _, queue = brief
    got: list[str | None] = []
    assert queue.take() == "a"
    worker = threading.Thread(target=lambda: got.append(queue.take()))
    worker.start()
    queue.done("a", 60, brief=True)
    queue.add_first("edited")
    taken = queue.take()
    worker.join(5)
    assert {taken, *got} == {"edited", "b"}


def test_many_workers_hand_out_all_that_is_brief() -> None:
    queue: WorkQueue[int] = WorkQueue()
    taken: list[int] = []

    def work() -> None:
        while (key := queue.take()) is not None:
            taken.append(key)
            queue.done(key, brief=True)

    workers = [threading.Thread(target=work) for _ in range(8)]
    for key in range(2000):
        queue.done(key, 0, brief=True)
    for worker in workers:
        worker.start()
    while len(taken) < 2000:
        pass
    queue.close()
    for worker in workers:
        worker.join(5)
    assert sorted(taken) == list(range(2000))
