"""Schedules are read in the zone of their job, and bad ones are refused by name."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from localcloud.services.scheduler.cron import BadScheduleError, BadTimeZoneError, next_tick, time_zone


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("schedule", "zone", "after", "expected"),
    [
        ("* * * * *", "Etc/UTC", "2026-03-01T10:00:00", "2026-03-01T10:01:00"),
        ("* * * * *", "Etc/UTC", "2026-03-01T10:00:59.999", "2026-03-01T10:01:00"),
        ("*/5 * * * *", "Etc/UTC", "2026-03-01T10:01:00", "2026-03-01T10:05:00"),
        ("0 9 * * 1", "", "2026-03-02T09:00:00", "2026-03-09T09:00:00"),
        ("0 9 * * *", "America/New_York", "2026-01-15T00:00:00", "2026-01-15T14:00:00"),
        ("0 9 * * *", "America/New_York", "2026-07-15T00:00:00", "2026-07-15T13:00:00"),
        ("0 0 29 2 *", "Etc/UTC", "2026-03-01T00:00:00", "2028-02-29T00:00:00"),
    ],
)
def test_next_tick(schedule: str, zone: str, after: str, expected: str) -> None:
    assert next_tick(schedule, zone, at(after)) == at(expected)


def test_a_daily_job_ticks_once_on_the_day_that_has_an_hour_twice() -> None:
    tick = next_tick("30 1 * * *", "Europe/London", at("2026-10-24T12:00:00"))
    again = next_tick("30 1 * * *", "Europe/London", tick)
    assert (tick, again) == (at("2026-10-25T00:30:00"), at("2026-10-26T01:30:00"))


def test_an_hour_that_does_not_exist_is_not_skipped_for_the_day() -> None:
    tick = next_tick("30 1 * * *", "Europe/London", at("2026-03-28T12:00:00"))
    assert tick - at("2026-03-28T12:00:00") < timedelta(hours=24)


@pytest.mark.parametrize(
    ("day", "ticks"),
    [
        ("2026-03-28T12:00:00", ["2026-03-29T01:00:00", "2026-03-30T00:30:00"]),
        ("2026-10-24T12:00:00", ["2026-10-25T00:30:00", "2026-10-26T01:30:00"]),
    ],
    ids=["02:30 is not there: as soon as it would be over", "02:30 is there twice: the first"],
)
def test_half_past_two_in_berlin_ticks_once_on_both_days_of_change(day: str, ticks: list[str]) -> None:
    found = [next_tick("30 2 * * *", "Europe/Berlin", at(day))]
    found.append(next_tick("30 2 * * *", "Europe/Berlin", found[-1]))
    assert found == [at(each) for each in ticks]


@pytest.mark.parametrize("day", ["2026-03-29", "2026-10-25"])
def test_every_hour_of_a_day_of_change_has_its_tick(day: str) -> None:
    tick = at(f"{day}T00:00:00") - timedelta(hours=3)
    for _ in range(30):
        tick, before = next_tick("0 * * * *", "Europe/Berlin", tick), tick
        assert tick - before == timedelta(hours=1)


@pytest.mark.parametrize(
    "schedule", ["", "* * * *", "0 * * * * *", "61 * * * *", "every 5 minutes", "0 0 30 2 *"]
)
def test_bad_schedules_are_refused(schedule: str) -> None:
    with pytest.raises(BadScheduleError):
        next_tick(schedule, "Etc/UTC", at("2026-01-01T00:00:00"))


@pytest.mark.parametrize("zone", ["Mars/Olympus", "../etc/passwd", "UTC+25"])
def test_bad_zones_are_refused(zone: str) -> None:
    with pytest.raises(BadTimeZoneError):
        time_zone(zone)
