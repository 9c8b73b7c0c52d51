"""When a cron expression ticks, in the time zone of its job.

Owns the reading of schedules; the jobs, and the clock they are compared with, live beside it.
"""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError


class BadScheduleError(ValueError):
    """The expression is not one of five cron fields that ever come true."""


class BadTimeZoneError(ValueError):
    """The zone is not a name of the tz database."""


def time_zone(name: str) -> ZoneInfo:
    """Look up a zone by name; the empty name is UTC, as Cloud Scheduler has it."""
    try:
        return ZoneInfo(name or "Etc/UTC")
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise BadTimeZoneError(f"unknown time zone {name!r}: use a name of the tz database") from error


def next_tick(schedule: str, zone: str, after: datetime) -> datetime:
    """Return the first tick strictly after a moment, in UTC."""
    local = after.astimezone(time_zone(zone))
    if len(schedule.split()) != 5:
        # cronsim would read six fields as having seconds; Cloud Scheduler's resolution is a minute.
        raise BadScheduleError(f"schedule {schedule!r} must have five cron fields")
    try:
        return next(CronSim(schedule, local)).astimezone(UTC)
    except (CronSimError, StopIteration) as error:
        raise BadScheduleError(f"schedule {schedule!r} is not a cron expression that ever ticks") from error
