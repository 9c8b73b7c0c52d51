"""What a deployment's budget makes of its wish: the limit on the VM, and whether that has to be off.

How long it may run is found out by `core.budget`, what it has cost by `costing`.
"""

from dataclasses import replace
from datetime import datetime

from budget_operator.core import budget, pause
from budget_operator.core.budget import Limit, Spending, Standing
from budget_operator.core.conditions import Reason, Verdict, because
from budget_operator.core.cost.ledger import Month
from budget_operator.core.cost.stretches import Book, spent
from budget_operator.core.desired import Desired
from budget_operator.core.errors import BudgetError, InvalidSpec
from budget_operator.core.names import METADATA_LIMIT, region_of
from budget_operator.core.observed import OFF, Instance
from budget_operator.core.prices.model import PriceList
from budget_operator.core.steps import Observation
from budget_operator.reconcile.wishing import Wish


def budgeted(
    wish: Wish,
    seen: Observation,
    prices: PriceList,
    book: Book | BudgetError,
    place: str | None,
    now: datetime,
) -> Wish:
    """The wish with what its budget wants. `place`: the zone whose prices count.

    Without figures a VM that is there keeps the limit that it has, and none is made.
    """
    if wish.spec is None or wish.desired is None:
        return wish
    if wish.spec.budget is None:
        return replace(wish, desired=_unlimited(wish.desired, seen.instance))
    try:
        region = region_of(place) if place is not None else ""
        found = budget.agreed(wish.spec.budget, prices, wish.spec, region)
    except InvalidSpec as error:
        return Wish(wish.spec, stall=error)
    if found is None or isinstance(book, BudgetError):
        return _unknown(wish, wish.desired, seen, book, now)
    gone = spent(book, Month.of(now).begin, now)
    if gone is None:
        return _unknown(wish, wish.desired, seen, book, now)
    spending = Spending(gone.total, _held(seen.instance), _is_on(seen.instance))
    return _standing(wish, wish.desired, seen.instance, budget.standing(found, spending, now))


def _unknown(
    wish: Wish,
    desired: Desired,
    seen: Observation,
    book: Book | BudgetError,
    now: datetime,
) -> Wish:
    """Nothing can be reckoned with now."""
    verdict = Verdict(
        "Unknown", Reason.PRICE_UNKNOWN, "there is no price of all that it pays for; cost.note tells of what"
    )
    if isinstance(book, BudgetError):
        verdict = because(book, "Unknown")
    held = _held(seen.instance)
    if seen.instance is None:
        if isinstance(book, BudgetError):
            return replace(wish, desired=None, hindrance=book)
        return Wish(wish.spec, stall=InvalidSpec(f"spec.budget: it cannot be kept: {verdict.message}"))
    return _standing(
        wish, desired, seen.instance, Standing(verdict, held, held is not None and held.is_over(now))
    )


def _standing(wish: Wish, desired: Desired, instance: Instance | None, found: Standing) -> Wish:
    stopped = pause.spent(found.verdict) if found.over else None
    if found.limit is None:
        wanted = replace(_unlimited(desired, instance), pause=desired.pause or stopped)
    else:
        wanted = desired.limited(found.limit.document, stopped)
    return replace(wish, desired=wanted, standing=found)


def _unlimited(desired: Desired, instance: Instance | None) -> Desired:
    """A limit that the VM had is taken off it."""
    limited = instance is not None and instance.metadata.get(METADATA_LIMIT)
    return desired.limited("", None) if limited else desired


def _held(instance: Instance | None) -> Limit | None:
    return None if instance is None else Limit.read(instance.metadata)


def _is_on(instance: Instance | None) -> bool:
    return instance is not None and instance.status not in OFF
