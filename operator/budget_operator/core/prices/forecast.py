"""What a deployment would cost a month, by part, and where the same would cost less."""

from dataclasses import dataclass

from budget_operator.core.api import Spec
from budget_operator.core.prices.model import HOURS_A_MONTH, PriceList, Rates


@dataclass(frozen=True)
class Month:
    """Dollars a month of 730 hours, by part."""

    machine: float
    disk: float
    address: float

    @property
    def total(self) -> float:
        """All of it; traffic is not included."""
        return self.machine + self.disk + self.address


@dataclass(frozen=True)
class Elsewhere:
    """The same deployment in another region."""

    region: str
    total: float


@dataclass(frozen=True)
class Forecast:
    """Of one deployment that runs the whole month, and of one that is off on purpose for all of it."""

    region: str
    running: Month
    stopped: float
    on_demand: float | None
    cheaper: tuple[Elsewhere, ...]


def forecast(prices: PriceList, spec: Spec, region: str) -> Forecast | None:
    """None if a price that it needs is not known."""
    rates = _rates(prices, spec, region, spec.machine.provisioning)
    if rates is None:
        return None
    running = month(rates)
    standard = _rates(prices, spec, region, "Standard")
    return Forecast(
        region,
        running,
        (rates.disk if spec.endpoint.host is None else rates.stopped) * HOURS_A_MONTH,
        None if standard is None else month(standard).total,
        tuple(each for each in everywhere(prices, spec) if each.total < running.total),
    )


def everywhere(prices: PriceList, spec: Spec) -> list[Elsewhere]:
    """Every region with all prices of it, the cheapest first. No price proves that the machine is there."""
    totals = [
        Elsewhere(region, month(rates).total)
        for region in prices.regions
        if (rates := _rates(prices, spec, region, spec.machine.provisioning))
    ]
    return sorted(totals, key=lambda each: (each.total, each.region))


def month(rates: Rates) -> Month:
    """Of an hour's rates."""
    return Month(rates.machine * HOURS_A_MONTH, rates.disk * HOURS_A_MONTH, rates.address * HOURS_A_MONTH)


def _rates(prices: PriceList, spec: Spec, region: str, provisioning: str) -> Rates | None:
    return prices.rates(region, spec.machine.type, provisioning, spec.machine.disk_gib)
