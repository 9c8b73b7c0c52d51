"""One picture for all deployments: fresh enough, never older than a change, never with holes."""

import threading
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from budget_operator.cloud.inventory import (
    LOOKS,
    POWER_WINDOW,
    Gateways,
    Inventories,
    at_once,
    rest_of,
)
from budget_operator.core.errors import PermissionDenied, Unavailable
from budget_operator.core.gateways import Scan
from budget_operator.core.names import Shared
from budget_operator.core.observed import Inventory, Topic

START = datetime(2026, 11, 24, 12, tzinfo=UTC)


class World:
    """All five gateways in one, counting calls; `on_list` runs inside the first list."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.now = START
        self.off = timedelta(0)  # of the wall clock
        self.on_list: Any = lambda: None
        self.topic_found: Topic | None = None
        self.failing: set[str] = set()
        self.silent: frozenset[str] = frozenset()

    def instances(self, label: str, value: str) -> Scan[Any]:
        self.calls.append(("instances", label, value))
        self.on_list()
        return Scan((), frozenset({"zones/a"}))

    def addresses(self, label: str, value: str) -> Scan[Any]:
        self.calls.append(("addresses", label, value))
        return Scan((), frozenset({"regions/r"}))

    def power_changes(self, since: datetime) -> Scan[Any]:
        self.calls.append(("power_changes", since))
        return Scan((), self.silent)

    def __getattr__(self, name: str) -> Any:
        def look(*args: str) -> Any:
            self.calls.append((name, *args))
            if name in self.failing:
                raise PermissionDenied(f"no {name}")
            return self.topic_found if name == "topic" else None

        return look

    @property
    def lists(self) -> int:
        return sum(call[0] == "instances" for call in self.calls)


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def inventories(world: World) -> Inventories:
    services: Any = SimpleNamespace(**dict.fromkeys(("c", "s", "p", "j", "f"), world))
    gateways = Gateways(services.c, services.s, services.p, services.j, services.f)
    return Inventories(
        gateways, "default", lambda: world.now, lambda: world.now + world.off, timedelta(seconds=5)
    )


def test_a_fixed_number_of_calls(world: World, inventories: Inventories) -> None:
    world.topic_found = Topic("t", {})
    taken = inventories.snapshot()
    shared = Shared("default")
    assert world.calls == [
        ("instances", "budgetml-installation", shared.hash),
        ("addresses", "budgetml-installation", shared.hash),
        ("power_changes", START - POWER_WINDOW),
        ("bucket",),
        ("read", "owner"),
        ("function", shared.keep_alive),
        ("topic", shared.keep_alive),
        ("job", shared.keep_alive),
        ("firewall", shared.firewall),
    ]
    assert taken.unknown == {"zones/a", "regions/r"}
    assert taken.topic == Topic("t", {})
    assert taken.job is None


def test_shared_until_it_is_too_old(world: World, inventories: Inventories) -> None:
    first = inventories.snapshot()
    world.now += timedelta(seconds=4)
    assert inventories.snapshot() is first
    world.now += timedelta(seconds=1)
    assert inventories.snapshot() is not first
    assert world.lists == 2


def test_only_operations_depend_on_the_wall_clock(world: World, inventories: Inventories) -> None:
    first = inventories.snapshot()
    world.off = timedelta(hours=-1)
    assert inventories.snapshot() is first
    world.now += timedelta(seconds=5)
    assert inventories.snapshot() is not first
    assert ("power_changes", world.now + world.off - POWER_WINDOW) in world.calls


def test_newer_than(world: World, inventories: Inventories) -> None:
    first = inventories.snapshot()
    world.now += timedelta(seconds=1)
    assert inventories.snapshot(newer_than=START) is first
    assert inventories.snapshot(newer_than=world.now).taken_at == world.now


def test_forget(world: World, inventories: Inventories) -> None:
    first = inventories.snapshot()
    inventories.forget()
    assert inventories.snapshot() is not first


def test_a_picture_begun_before_a_change_is_not_kept(world: World, inventories: Inventories) -> None:
    world.on_list = inventories.forget
    inventories.snapshot()
    world.on_list = lambda: None
    inventories.snapshot()
    assert world.lists == 2


def test_a_picture_that_took_long_is_still_shared(world: World, inventories: Inventories) -> None:
    def slow() -> None:
        world.now += timedelta(seconds=30)

    world.on_list = slow
    first = inventories.snapshot()
    assert first.taken_at == START
    assert inventories.snapshot() is first


def test_without_instances_there_is_no_picture(world: World, inventories: Inventories) -> None:
    def fail() -> None:
        raise Unavailable("no")

    world.on_list = fail
    with pytest.raises(Unavailable):
        inventories.snapshot()
    world.on_list = lambda: None
    world.now += timedelta(seconds=1)
    assert inventories.snapshot().taken_at == world.now, "a moment later it is looked again"


def test_a_part_that_cannot_be_seen_is_unknown_not_absent(world: World, inventories: Inventories) -> None:
    world.failing = {"topic", "job"}
    world.topic_found = Topic("t", {})
    taken = inventories.snapshot()
    assert taken.unknown == {"zones/a", "regions/r", "topic", "job"}
    assert taken.topic is None
    assert {part: error.message for part, error in taken.problems.items()} == {
        "topic": "no topic",
        "job": "no job",
    }


def test_a_zone_without_its_operations_makes_them_unknown(world: World, inventories: Inventories) -> None:
    world.silent = frozenset({"zones/b"})
    assert inventories.snapshot().unknown == {"zones/a", "regions/r", "power"}


def gather(inventories: Inventories, count: int) -> tuple[list[threading.Thread], list[Any]]:
    found: list[Any] = []

    def ask() -> None:
        try:
            found.append(inventories.snapshot())
        except Unavailable as error:
            found.append(error)

    threads = [threading.Thread(target=ask) for _ in range(count)]
    for thread in threads:
        thread.start()
    return threads, found


def test_waiting_deployments_share_one_picture(world: World, inventories: Inventories) -> None:
    inside, go = threading.Event(), threading.Event()

    def block() -> None:
        inside.set()
        assert go.wait(10)

    world.on_list = block
    threads, found = gather(inventories, 6)
    assert inside.wait(10)
    go.set()
    for thread in threads:
        thread.join(10)
    assert len(found) == 6
    assert len({id(item) for item in found}) == 1
    assert world.lists == 1


def test_waiting_deployments_share_one_failure(world: World, inventories: Inventories) -> None:
    inside, go = threading.Event(), threading.Event()

    def block_and_fail() -> None:
        inside.set()
        assert go.wait(10)
        raise Unavailable("timed out")

    world.on_list = block_and_fail
    first, found = gather(inventories, 1)
    assert inside.wait(10)
    rest, more = gather(inventories, 8)
    go.set()
    for thread in first + rest:
        thread.join(10)
    assert len(found + more) == 9
    assert all(isinstance(item, Unavailable) for item in found + more)
    assert world.lists == 1, "not one time-out after another"


def test_a_cloud_that_fails_is_asked_after_growing_pauses_however_many_ask(
    world: World, inventories: Inventories
) -> None:
    def fail() -> None:
        raise Unavailable("overloaded")

    world.on_list = fail
    for _ in range(120):  # two minutes, in which three deployments ask each second
        for ask in (inventories.snapshot, inventories.snapshot, inventories.resting):
            with pytest.raises(Unavailable, match="overloaded"):
                ask()
        world.now += timedelta(seconds=1)
    assert world.lists == 8, "after 0, 1, 3, 7, 15, 31, 61 and 91 seconds"
    world.on_list = lambda: None
    world.now += timedelta(seconds=30)
    assert inventories.snapshot() is inventories.snapshot()


def test_a_picture_that_is_good_enough_is_had_while_no_newer_one_can_be_taken(
    world: World, inventories: Inventories
) -> None:
    taken = inventories.snapshot()

    def fail() -> None:
        raise Unavailable("overloaded")

    world.on_list = fail
    world.now += timedelta(seconds=1)
    with pytest.raises(Unavailable):
        inventories.snapshot(newer_than=world.now)
    assert inventories.snapshot() is taken
    assert inventories.resting()[0] is taken


def test_at_rest_a_picture_is_shared_for_longer(world: World, inventories: Inventories) -> None:
    first, left = inventories.resting()
    assert left == timedelta(seconds=30)
    world.now += timedelta(seconds=29)
    assert inventories.resting() == (first, timedelta(seconds=1))
    world.now += timedelta(seconds=1)
    assert inventories.resting()[0] is not first
    world.now += timedelta(seconds=6)
    assert inventories.snapshot() is inventories.resting()[0]
    assert world.lists == 3, "one that was taken for a deployment in motion will do"


def test_a_picture_of_many_pages_is_shared_for_as_much_longer() -> None:
    def rest(count: int) -> tuple[float, float]:
        """Seconds from one picture to the next, and calls a minute."""
        many: Any = (None,) * count
        every = rest_of(Inventory(START, instances=many, addresses=many))
        pages = max(1, -(-count // 500))
        return every.total_seconds(), (LOOKS + 1 + 2 * pages) * timedelta(minutes=1) / every

    assert {rest(count) for count in (0, 100, 500)} == {(30.0, 20.0)}
    for count in (501, 2000):
        every, calls = rest(count)
        assert every == 58.0, "with each the endpoints are asked: at least once a minute"
        assert calls < 20
    every, calls = rest(20_000)
    assert every > 60
    assert calls == 20.0


def test_a_picture_for_rest_is_not_waited_for(world: World, inventories: Inventories) -> None:
    first, _ = inventories.resting()
    world.now += timedelta(seconds=30)
    inside, go = threading.Event(), threading.Event()

    def block() -> None:
        inside.set()
        assert go.wait(10)

    world.on_list = block
    taker = threading.Thread(target=inventories.resting)
    taker.start()
    assert inside.wait(10)
    assert inventories.resting()[0] is first
    assert inventories.awaited(world.now) == timedelta(seconds=0.5), "the last one took no time"
    world.now += timedelta(seconds=3)
    go.set()
    taker.join(10)
    assert inventories.awaited(world.now) is None


@pytest.mark.parametrize(("later", "left"), [(0, 3), (1, 2), (2.9, 0.5), (60, 0.5)])
def test_a_picture_takes_about_as_long_as_the_last_one(
    world: World, inventories: Inventories, later: float, left: float
) -> None:
    def slow() -> None:
        world.now += timedelta(seconds=3)

    world.on_list = slow
    inventories.snapshot()
    waits: list[timedelta | None] = []

    def looked() -> None:
        world.now += timedelta(seconds=later)
        waits.append(inventories.awaited(world.now))

    world.now += timedelta(seconds=30)
    world.on_list = looked
    inventories.snapshot()
    assert waits[0] == timedelta(seconds=left)


def test_parts_are_looked_at_together() -> None:
    meeting = threading.Barrier(3, timeout=10)
    at_once([meeting.wait] * 3)
    assert not meeting.broken
