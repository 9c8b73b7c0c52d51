"""Jobs fire at their own times on a clock that is turned by hand."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from localcloud.app import ground
from localcloud.clock import ManualClock
from localcloud.services.pubsub.broker import Broker
from localcloud.services.scheduler.jobs import Jobs
from localcloud.services.scheduler.ticker import Ticker
from localcloud.settings import Settings

PARENT = "projects/p/locations/l"
JOB = f"{PARENT}/jobs/j"
TOPIC = "projects/p/topics/ttt"
SUBSCRIPTION = "projects/p/subscriptions/sss"


class World:
    """A ground without a server: the test makes the steps of the ticker itself."""

    def __init__(self, home: Path, start: datetime = datetime(2026, 1, 1, 10, 0, 30, tzinfo=UTC)) -> None:
        self.clock = ManualClock(start)
        context = ground(Settings(home), self.clock)
        self.store = context.store
        self.ticks = context.ticks
        self.broker = Broker(context)
        self.jobs = Jobs(context, self.broker)
        self.ticker = Ticker(context, self.jobs)
        self.broker.create_topic(TOPIC, {})
        self.broker.create_subscription(SUBSCRIPTION, {"topic": TOPIC})
        self.create("* * * * *")

    def create(self, schedule: str) -> None:
        target = {"topicName": TOPIC, "attributes": {"schedule": schedule}}
        self.jobs.create(PARENT, {"name": JOB, "schedule": schedule, "pubsubTarget": target})

    def fired(self) -> int:
        return len(self.broker.backlog(SUBSCRIPTION, self.broker.subscription(SUBSCRIPTION)))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.store.close()


def test_it_fires_at_the_minute_and_says_when_the_next_is(world: World) -> None:
    assert (world.ticker.step(), world.fired()) == (30.0, 0)
    world.clock.advance(29.9)
    assert (round(world.ticker.step() or 0, 3), world.fired()) == (0.1, 0)
    world.clock.advance(0.1)
    assert (world.ticker.step(), world.fired()) == (60.0, 1)
    job = world.jobs.get(JOB)
    assert job["lastAttemptTime"] == "2026-01-01T10:01:00.000Z"
    assert job["scheduleTime"] == "2026-01-01T10:02:00.000Z"
    assert job["status"] == {}


@pytest.mark.parametrize("start", ["2026-03-28T12:00", "2026-10-24T12:00"])
def test_a_nightly_job_fires_once_in_the_night_of_a_change(tmp_path: Path, start: str) -> None:
    world = World(tmp_path, datetime.fromisoformat(start).replace(tzinfo=UTC))
    world.jobs.change(JOB, {"schedule": "30 2 * * *", "timeZone": "Europe/Berlin"}, "schedule,timeZone")
    for _ in range(26 * 12):
        world.ticker.step()
        world.clock.advance(300)
    assert world.fired() == 1
    world.store.close()


def test_missed_ticks_are_made_up_for_once(world: World) -> None:
    world.clock.advance(3600)
    world.ticker.step()
    assert (world.ticker.step(), world.fired()) == (30.0, 1)


def test_a_paused_job_does_not_fire_and_a_resumed_one_has_missed_nothing(world: World) -> None:
    world.jobs.pause(JOB)
    world.clock.advance(600)
    assert (world.ticker.step(), world.fired()) == (None, 0)
    world.jobs.resume(JOB)
    assert (world.ticker.step(), world.fired()) == (30.0, 0)


def test_a_new_schedule_holds_from_now_on(world: World) -> None:
    world.jobs.change(JOB, {"schedule": "0 12 * * *"}, "schedule")
    world.clock.advance(600)
    assert (world.ticker.step(), world.fired()) == (6570.0, 0)


def test_a_missing_topic_stands_in_the_status_and_does_not_stop_the_ticker(world: World) -> None:
    world.broker.delete_topic(TOPIC)
    world.clock.advance(30)
    assert world.ticker.step() == 60.0
    assert world.jobs.get(JOB)["status"]["code"] == 5
    world.broker.create_topic(TOPIC, {})
    world.clock.advance(60)
    world.ticker.step()
    assert world.jobs.get(JOB)["status"] == {}


def test_a_run_that_failed_is_tried_again_as_its_retry_policy_says(world: World) -> None:
    policy = {"retryCount": 2, "minBackoffDuration": "4s", "maxDoublings": 1}
    world.jobs.change(JOB, {"schedule": "0 11 * * *", "retryConfig": policy}, "schedule,retryConfig")
    world.broker.delete_topic(TOPIC)
    world.clock.advance(3570)
    assert world.ticker.step() == 4.0
    world.clock.advance(4)
    assert world.ticker.step() == 8.0
    world.clock.advance(8)
    assert world.ticker.step() == 24 * 3600 - 12, "no more of them before the next tick"
    assert world.jobs.get(JOB)["status"]["code"] == 5


def test_a_retry_that_succeeds_is_the_last_and_a_paused_job_makes_none(world: World) -> None:
    policy = {"retryCount": 5, "minBackoffDuration": "10s"}
    world.jobs.change(JOB, {"schedule": "0 11 * * *", "retryConfig": policy}, "schedule,retryConfig")
    world.broker.delete_topic(TOPIC)
    world.clock.advance(3570)
    world.ticker.step()
    world.jobs.pause(JOB)
    world.clock.advance(10)
    assert world.ticker.step() is None
    world.jobs.resume(JOB)
    world.broker.create_topic(TOPIC, {})
    assert world.ticker.step() == 24 * 3600 - 10
    assert world.jobs.get(JOB)["status"] == {}


def test_ticks_that_nothing_waits_for_are_jumped_and_counted(world: World) -> None:
    world.ticks.idle, world.ticks.kept = lambda: True, 3
    for _ in range(7):
        world.ticker.step()
        world.clock.advance(60)
    assert (world.ticks.sent, world.ticks.jumped, world.fired()) == (2, 4, 2)


def test_a_tick_that_something_waits_for_is_sent_at_its_time_after_jumps(world: World) -> None:
    world.ticks.idle = lambda: True
    for _ in range(5):
        world.clock.advance(60)
        world.ticker.step()
    world.ticks.idle = lambda: False
    assert world.ticker.step() == 30.0
    assert world.fired() == 0
    world.clock.advance(30)
    assert (world.ticker.step(), world.fired()) == (60.0, 1)


def test_a_job_that_is_changed_forgets_its_jumps(world: World) -> None:
    world.ticks.idle = lambda: True
    world.clock.advance(30)
    world.ticker.step()
    world.jobs.change(JOB, {"schedule": "*/30 * * * *"}, "schedule")
    world.ticks.idle = lambda: False
    assert world.ticker.step() == 29 * 60.0
