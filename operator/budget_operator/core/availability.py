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
from budget_operator.core.timeline import Ended, moment

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
    down = {day.date: day.seconds for day in before.days} if before is not None else {}
    for each in ended:
        for date, seconds in _by_day(max(each.since, moment(since)), each.until):
            down[date] = down.get(date, 0) + seconds
    until = _as_of(moment(since), outages, now)
    oldest = _first(until, MONTH_DAYS).date().isoformat()
    days = tuple(DownDay(date=date, seconds=down[date]) for date in sorted(down) if date >= oldest)
    return Availability(
        since=since,
        last_7d=_percent(moment(since), days, outages, until, WEEK_DAYS),
        last_30d=_percent(moment(since), days, outages, until, MONTH_DAYS),
        days=days,
    )


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
    if total <= 0:
        return 100.0
    first = _first(until, count).date().isoformat()
    down = float(sum(day.seconds for day in days if day.date >= first))
    for each in outages:
        if each.down_since is not None and each.down_seconds is None:
            down += max(0.0, (until - max(begin, moment(each.down_since))).total_seconds())
    return math.floor(max(0.0, 1 - down / total) * 100_000) / 1000


def _first(until: datetime, count: int) -> datetime:
    """When the first of so many days began, of which `until` is in the last."""
    return _midnight(until) - (count - 1) * DAY


def _midnight(at: datetime) -> datetime:
    return at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
