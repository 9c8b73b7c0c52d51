"""For how much of the time callers got an answer, over the last 7 and 30 days. Pure.

Kept are the seconds without one, by day in UTC, so that the figures do not depend on how many outages the
status has room for. They are worked out anew when an outage begins or ends, then 1, 2, 4, 8 and 16 hours
later, and at every midnight: passes in between find the same, and write nothing.
"""

import math
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta

from budget_operator.core.api import Availability, DownDay, Outage
from budget_operator.core.conditions import timestamp
from budget_operator.core.timeline import PAUSED, Ended, moment

DAY = timedelta(days=1)
WEEK_DAYS, MONTH_DAYS = 7, 30
STEPS = tuple(timedelta(hours=hours) for hours in (0, 1, 2, 4, 8, 16))


def counted(
    before: Availability | None,
    outages: tuple[Outage, ...],
    ended: Iterable[Ended],
    now: datetime,
    *,
    serving: bool,
) -> Availability | None:
    """After a pass. None: it has never served."""
    if before is None and not serving:
        return None
    since = before.since if before is not None else timestamp(now)
    days = {day.date: day for day in before.days} if before is not None else {}
    for each in ended:
        for date, seconds in _by_day(max(each.since, moment(since)), each.until):
            days[date] = _added(days.get(date, DownDay(date=date, seconds=0)), each.outage, seconds)
    until = _as_of(moment(since), outages, now)
    oldest = _first(until, MONTH_DAYS).date().isoformat()
    kept = tuple(days[date] for date in sorted(days) if date >= oldest)
    return Availability(
        since=since,
        last_7d=_percent(moment(since), kept, outages, until, WEEK_DAYS),
        last_30d=_percent(moment(since), kept, outages, until, MONTH_DAYS),
        days=kept,
    )


def _added(day: DownDay, outage: Outage, seconds: int) -> DownDay:
    if outage.cause == PAUSED:
        return day.model_copy(update={"paused": (day.paused or 0) + seconds})
    return day.model_copy(update={"seconds": day.seconds + seconds})


def _by_day(since: datetime, until: datetime) -> Iterator[tuple[str, int]]:
    """The seconds of an interval, on the days that they belong to; together as many as it has."""
    spent, begun = 0, since
    while begun < until:
        end = min(until, _midnight(begun) + DAY)
        upto = round((end - since).total_seconds())
        if upto > spent:
            yield _midnight(begun).date().isoformat(), upto - spent
        spent, begun = upto, end


def _as_of(since: datetime, outages: Iterable[Outage], now: datetime) -> datetime:
    """The last moment at which the figures changed: the same for all passes until the next one."""
    flips = [
        moment(each.down_since) + timedelta(seconds=each.down_seconds or 0)
        for each in outages
        if each.down_since is not None
    ]
    last = max((since, *flips))
    steps = [last + step for step in STEPS]
    return max((last, *(each for each in (*steps, _midnight(now)) if each <= now)))


def _percent(
    since: datetime, days: Iterable[DownDay], outages: Iterable[Outage], until: datetime, count: int
) -> float:
    """Rounded down: 100 means that not one second is missing."""
    begin = max(since, _first(until, count))
    total = (until - begin).total_seconds()
    first = _first(until, count).date().isoformat()
    within = [day for day in days if day.date >= first]
    down = float(sum(day.seconds for day in within))
    total -= sum(day.paused or 0 for day in within)
    for each in outages:
        if each.down_since is not None and each.down_seconds is None:
            seconds = max(0.0, (until - max(begin, moment(each.down_since))).total_seconds())
            total, down = (total - seconds, down) if each.cause == PAUSED else (total, down + seconds)
    if total <= 0:
        return 100.0
    return math.floor(max(0.0, 1 - down / total) * 100_000) / 1000


def _first(until: datetime, count: int) -> datetime:
    """When the first of so many days began, of which `until` is in the last."""
    return _midnight(until) - (count - 1) * DAY


def _midnight(at: datetime) -> datetime:
    return at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
