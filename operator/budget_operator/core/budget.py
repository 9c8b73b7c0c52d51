"""Until when a VM may run, so that the month never costs more than `spec.budget.monthly`. Pure.

While it runs a month costs `running` an hour, from then on `stopped`, until it ends: so the moment at which
it has to go off stays the same for as long as it runs, and is only put off by times at which it does not. The
moment and the rates stand in the VM's metadata. There the VM's host (`boot/startup.sh`) and the restart
function read them, and go by the same arithmetic as `Limit.until` while the operator is away.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from math import ceil
from typing import ClassVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from budget_operator.core.api import Budget, Spec
from budget_operator.core.conditions import Reason, Verdict
from budget_operator.core.cost.ledger import Month
from budget_operator.core.errors import InvalidSpec
from budget_operator.core.names import METADATA_LIMIT
from budget_operator.core.prices.model import HOURS_A_MONTH, PriceList, Rates

NANO = 1_000_000_000
LONGEST_MONTH = 744  # hours
SHARE = 0.1  # of a month that a budget has to pay at least
#: A VM that is off is not started for less.
WORTH_A_START = timedelta(hours=1)
#: How much later the moment has to be before the VM is told: the less, the sooner it comes.
LEAST_NEWS, MOST_NEWS = timedelta(minutes=1), timedelta(hours=1)
_CENT_FRACTION = 1e-6


@dataclass(frozen=True)
class Limit:
    """As it stands in the VM's metadata. Whole numbers, because the host's shell has no others."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(strict=True, extra="forbid")

    month: str  # `2026-11`, in UTC
    deadline: int  # of that month, in seconds since 1970; its end where the VM need not stop
    monthly: int  # billionths of a dollar
    running: int  # the same, an hour
    stopped: int  # the same, an hour, with an address that is kept

    @property
    def document(self) -> str:
        """One line without spaces: the host reads it with sed."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def read(cls, metadata: Mapping[str, str]) -> "Limit | None":
        """What stands on a VM; None if nothing does that could be understood."""
        try:
            return _LIMITS.validate_json(metadata.get(METADATA_LIMIT) or "null")
        except ValidationError:
            return None

    def same_terms(self, other: "Limit | None") -> bool:
        """Whether only the moment differs."""
        return other is not None and replace(other, deadline=self.deadline) == self

    def until(self, now: datetime) -> datetime:
        """Until when the VM may run in the month that it is now.

        Of a later month than it was written for nobody knows what has been spent: it counts as having run
        from the beginning. Where a VM that is off costs more than one that runs, that month has no limit.
        """
        month = Month.of(now)
        if month.name <= self.month:
            return datetime.fromtimestamp(self.deadline, UTC)
        if self.running <= self.stopped:
            return month.next.begin
        hours = _hours(month)
        left = max(0, self.monthly - self.stopped * hours)
        seconds = min(left * 3600 // (self.running - self.stopped), hours * 3600)
        return month.begin + timedelta(seconds=seconds)

    def is_over(self, now: datetime) -> bool:
        """Whether the VM has to be off."""
        return self.until(now) <= now


_LIMITS = TypeAdapter(Limit)


def _hours(month: Month) -> int:
    return (month.next.begin - month.begin) // timedelta(hours=1)


@dataclass(frozen=True)
class Terms:
    """What the limit is found from. `releasable`: the address is given back while the VM is off."""

    budget: Budget
    rates: Rates
    releasable: bool

    @property
    def off(self) -> float | None:
        """Dollars an hour while the VM is off. None: it would save nothing.

        Where an unused address makes that more than a VM that runs, it is worth it only without the address,
        which the operator alone can give back.
        """
        if self.rates.stopped < self.rates.running:
            return self.rates.stopped
        return self.rates.disk if self.releasable else None

    @property
    def least(self) -> float:
        """Dollars a month that are enough."""
        running, off = self.rates.running, self.rates.stopped
        if self.budget.on_exceeded == "Warn":
            return LONGEST_MONTH * running * SHARE
        # Without an operator nobody gives the address back: then it runs on, because that costs less.
        return LONGEST_MONTH * (running if off >= running else off + SHARE * (running - off))


def terms(budget: Budget, rates: Rates, spec: Spec) -> Terms:
    """Of a spec. A host name of its owner's points to the address."""
    return Terms(budget, rates, releasable=spec.endpoint.host is None)


def agreed(asked: Budget, prices: PriceList, spec: Spec, region: str) -> Terms | None:
    """What a budget is kept by in a region; None if a price is not known.

    Raises:
        InvalidSpec: it cannot pay a tenth of a month.
    """
    machine = spec.machine
    rates = prices.rates(region, machine.type, machine.provisioning, machine.disk_gib)
    if rates is None:
        return None
    found = terms(asked, rates, spec)
    check_pays(found, f"{machine.type} ({machine.provisioning}) in {region}")
    return found


def months_share(found: Terms) -> float:
    """Of a month of 730 hours, how much it pays for; 1 at most."""
    off = found.off
    if off is None:
        return min(1.0, found.budget.dollars / (found.rates.running * HOURS_A_MONTH))
    left = found.budget.dollars - off * HOURS_A_MONTH
    return max(0.0, min(1.0, left / ((found.rates.running - off) * HOURS_A_MONTH)))


def check_pays(found: Terms, where: str) -> None:
    """Raise `InvalidSpec` for a budget that cannot pay a tenth of a month. `where`: what it would be for."""
    if found.budget.dollars + _CENT_FRACTION >= found.least:
        return
    rates = found.rates
    on, off = rates.running * LONGEST_MONTH, rates.stopped * LONGEST_MONTH
    message = (
        f"spec.budget.monthly: ${found.budget.dollars:.2f} cannot pay for {where}: a month of it costs "
        f"${on:.2f}, and one in which the VM is off ${off:.2f} for disk and address; "
    )
    if found.budget.on_exceeded == "Stop" and rates.stopped >= rates.running:
        message += "so stopping it saves nothing, and a budget has to pay for all of it: "
    else:
        message += "a budget has to pay at least a tenth of a month: "
    least = ceil(found.least * 100 - _CENT_FRACTION) / 100
    raise InvalidSpec(f"{message}give ${least:.2f} or more, or take a smaller spec.machine")


@dataclass(frozen=True)
class Spending:
    """What the month has cost so far, and what stands on the VM."""

    spent: float
    held: Limit | None
    running: bool  # the VM is on


def limit(found: Terms, spending: Spending, now: datetime) -> Limit:
    """What is to stand on the VM."""
    month, rates = Month.of(now), found.rates
    wanted = Limit(
        month=month.name,
        deadline=0,
        monthly=round(found.budget.dollars * NANO),
        running=round(rates.running * NANO),
        stopped=round(rates.stopped * NANO),
    )
    held = spending.held if wanted.same_terms(spending.held) else None
    if held is not None and held.is_over(now):
        return held  # once it is off it stays off: what is saved meanwhile would only buy minutes
    at = _deadline(found, spending.spent, now)
    if not spending.running and at < month.next.begin and at - now < WORTH_A_START:
        at = min(at, now)
    wanted = replace(wanted, deadline=int(at.timestamp()))
    return held if held is not None and not _is_news(held, wanted, now) else wanted


def _deadline(found: Terms, spent: float, now: datetime) -> datetime:
    month, off = Month.of(now), found.off
    begin, end = month.begin, month.next.begin
    if off is None:
        return end
    hours_left = (end - now) / timedelta(hours=1)
    slack = found.budget.dollars - spent - off * hours_left
    hours = slack / (found.rates.running - off)
    return max(begin, min(end, now + timedelta(hours=min(hours, hours_left))))


def _is_news(held: Limit, wanted: Limit, now: datetime) -> bool:
    later = timedelta(seconds=wanted.deadline - held.deadline)
    left = datetime.fromtimestamp(held.deadline, UTC) - now
    return not -LEAST_NEWS <= later <= min(MOST_NEWS, max(LEAST_NEWS, left / 10))


@dataclass(frozen=True)
class Standing:
    """How a deployment stands with its budget. `changes`: the next moment at which something does."""

    verdict: Verdict
    limit: Limit | None = None
    over: bool = False
    changes: datetime | None = None


def standing(found: Terms, spending: Spending, now: datetime) -> Standing:
    """The verdict, and what is to be done."""
    if found.budget.on_exceeded == "Warn":
        return _warned(found, spending, now)
    told = limit(found, spending, now)
    until, end = told.until(now), Month.of(now).next.begin
    if told.is_over(now):
        again = f"it starts again on {end:%Y-%m-%d}, or when spec.budget.monthly is raised"
        return Standing(_exceeded(found, now, again), told, over=True, changes=end)
    lasts = _lasts(until, now)
    off = found.off or 0.0
    bound = spending.spent + off * ((end - now) / timedelta(hours=1))
    near = _moment(found, bound, found.rates.running - off, now)
    changes = min(each for each in (near, until, end) if each > now)
    return Standing(_told(found, near, now, lasts), told, changes=changes)


def _warned(found: Terms, spending: Spending, now: datetime) -> Standing:
    end, rate = Month.of(now).next.begin, found.rates.running
    near = _moment(found, spending.spent, rate, now)
    gone = _moment(found, spending.spent, rate, now, percent=100)
    changes = min(each for each in (near, gone, end) if each > now)
    if gone <= now:
        runs_on = "the VM runs on, because spec.budget.onExceeded is Warn"
        return Standing(_exceeded(found, now, runs_on), changes=changes)
    return Standing(_told(found, near, now, "nothing is stopped"), changes=changes)


def _moment(found: Terms, gone: float, rate: float, now: datetime, percent: int | None = None) -> datetime:
    """When that share of the budget is gone; not after the month's end, after which it begins anew."""
    share = (found.budget.warn_at if percent is None else percent) / 100
    left = found.budget.dollars * share - gone
    end = Month.of(now).next.begin
    if left <= _CENT_FRACTION:
        return now
    if rate <= 0:
        return end
    return now + min(timedelta(hours=min(left / rate, float(LONGEST_MONTH))), end - now)


def _lasts(until: datetime, now: datetime) -> str:
    if until >= Month.of(now).next.begin:
        return "it pays for the rest of the month"
    return f"it lasts until {until:%Y-%m-%d %H:%M} UTC, when the VM is stopped for the rest of the month"


def _amount(found: Terms, now: datetime) -> str:
    return f"${found.budget.dollars:.2f} for {now:%B %Y}"


def _told(found: Terms, near: datetime, now: datetime, lasts: str) -> Verdict:
    if near <= now:
        message = f"{found.budget.warn_at} % of {_amount(found, now)} is spent or bound; {lasts}"
        return Verdict("True", Reason.BUDGET_NEARLY_SPENT, message)
    return Verdict("True", Reason.WITHIN_BUDGET, f"{_amount(found, now)}: {lasts}")


def _exceeded(found: Terms, now: datetime, what: str) -> Verdict:
    return Verdict("False", Reason.BUDGET_EXCEEDED, f"{_amount(found, now)} is spent: {what}")
