"""The figures of one deployment as they stand in its status, and why some of them are missing."""

from dataclasses import dataclass
from datetime import date, datetime

from budget_operator.core.api import Cost, CostParts, Spec
from budget_operator.core.conditions import timestamp
from budget_operator.core.cost.ledger import Month
from budget_operator.core.cost.stretches import Book, spent
from budget_operator.core.names import region_of
from budget_operator.core.observed import UNCHARGED, Address, Instance
from budget_operator.core.prices.forecast import Forecast, forecast
from budget_operator.core.prices.model import OLD_DAYS, PriceList

NOT_INCLUDED = "egress: traffic that leaves the region"


@dataclass(frozen=True)
class There:
    """What of a deployment is there at present."""

    instances: tuple[Instance, ...] = ()
    addresses: tuple[Address, ...] = ()


@dataclass(frozen=True)
class Figures:
    """Of one deployment, for who adds them up at any time."""

    book: Book
    hourly: float | None
    forecast: float | None
    prices_as_of: date

    def month_to_date(self, now: datetime) -> float | None:
        """Dollars; None if a price is not known."""
        found = spent(self.book, Month.of(now).begin, now)
        return None if found is None else found.total


def cost(prices: PriceList, spec: Spec, region: str, there: There, now: datetime) -> Cost:
    """What the spec will cost there, and what is there costs now."""
    expected = forecast(prices, spec, region)
    told = Cost(
        hourly=hourly(prices, there),
        prices_as_of=prices.as_of.isoformat(),
        not_included=NOT_INCLUDED,
        note=_note(prices, spec, region, expected, now),
    )
    return told if expected is None else told.model_copy(update=_expected(expected))


def metered(told: Cost, book: Book, now: datetime) -> Cost:
    """With what this month cost so far.

    The figures are of the last change, or of midnight: so they are the same whoever looks, and change
    once a day where nothing else does.
    """
    if not book:
        return told.model_copy(update={"month_to_date": 0.0, "as_of": None})
    moment = as_of(book, now)
    found = spent(book, Month.of(now).begin, moment)
    update: dict[str, object] = {"as_of": timestamp(moment), "month_to_date": None}
    if found is None:
        unknown = sorted({each.what for each in book if each.rate is None})
        update["note"] = f"this month has no sum: there was no price of {', '.join(unknown)}"
    else:
        update["month_to_date"] = round(found.total, 2)
    return told.model_copy(update=update)


def unmetered(told: Cost, before: Cost) -> Cost:
    """With what the month cost as far as it was known before."""
    return told.model_copy(update={"month_to_date": before.month_to_date, "as_of": before.as_of})


def as_of(book: Book, now: datetime) -> datetime:
    """The last moment at which something began or ended, or midnight if that was later."""
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    changes = (moment for each in book for moment in (each.since, each.since if each.open else each.until))
    return max((midnight, *(moment for moment in changes if moment <= now)))


def _expected(found: Forecast) -> dict[str, object]:
    month = found.running
    saved = None if found.on_demand is None else round(found.on_demand - month.total, 2)
    return {
        "forecast": round(month.total, 2),
        "parts": CostParts(
            machine=round(month.machine, 2), disk=round(month.disk, 2), address=round(month.address, 2)
        ),
        "saved_versus_on_demand": saved,
    }


def _note(prices: PriceList, spec: Spec, region: str, expected: Forecast | None, now: datetime) -> str | None:
    if expected is None:
        machine = spec.machine
        return f"there is no price of {machine.type} ({machine.provisioning}) in {region} in {prices.source}"
    if prices.is_old(now.date()):
        return (
            f"the prices are older than {OLD_DAYS} days, and Spot prices change about every month:"
            " budget-operator prices refresh fetches newer ones"
        )
    return None


def hourly(prices: PriceList, there: There) -> float | None:
    """Of what is there, as it is; None if one of its prices is not known."""
    spent, used = 0.0, False
    for vm in there.instances:
        rates = prices.rates(region_of(vm.zone), vm.machine_type, vm.provisioning or "", vm.disk_gib)
        if rates is None:
            return None
        charged = vm.status not in UNCHARGED
        spent += rates.disk + (rates.machine + rates.address if charged else 0.0)
        used = used or charged
    for address in there.addresses[used:]:
        found = prices.regions.get(address.region)
        if found is None or found.address.unused is None:
            return None
        spent += found.address.unused
    return round(spent, 4)
