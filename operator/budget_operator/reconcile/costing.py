"""What a pass tells of money: the cost in the status, and the figures that the process adds up.

What was there, and for how long, is `metering`'s; the words and sums are `core.cost`'s.
"""

from datetime import datetime

from budget_operator.core.api import Cost, Spec
from budget_operator.core.cost import told
from budget_operator.core.cost.stretches import Book
from budget_operator.core.cost.told import Figures
from budget_operator.core.errors import BudgetError
from budget_operator.core.memory import Memory
from budget_operator.core.names import Owner, region_of
from budget_operator.core.steps import Observation
from budget_operator.reconcile.execution import Means
from budget_operator.reconcile.metering import Metering


class Costing:
    """Of one pass over one deployment. `before`: what its status said."""

    def __init__(self, means: Means, owner: Owner, memory: Memory, before: Cost | None) -> None:
        self._means = means
        self._memory = memory
        self._before = before
        self._metering = Metering(means, owner, memory)
        self.problem: BudgetError | None = None  # why the month's cost is not known to this pass

    def look(self, seen: Observation, now: datetime) -> None:
        """Meter what is there, before anything is done."""
        try:
            self._metering.look(seen, now)
        except BudgetError as error:
            self.problem = error

    @property
    def book(self) -> Book | None:
        """Everything this month, as far as it is known; None if nothing is."""
        return None if self._memory.account is None else self._memory.account.book

    def cost(
        self,
        seen: Observation,
        spec: Spec | None,
        place: str | None,
        now: datetime,
        *,
        settled: bool,
        held: bool,
    ) -> Cost | None:
        """`place`: the zone whose prices count. None: nothing new is known of it."""
        if self.problem is None and held:
            self._metering.keep(now, settled=settled)
        book, found = self.book, self._before
        if spec is not None and place is not None:
            there = told.There(seen.instances, seen.addresses)
            found = told.cost(self._means.prices(), spec, region_of(place), there, now)
        if found is None:
            return None
        if book is None:
            return told.unmetered(found, self._before or Cost())
        return told.metered(found, book, now)

    def figures(self, cost: Cost | None) -> Figures | None:
        """Of all that is counted; None: as before."""
        account = self._memory.account
        if cost is None or account is None:
            return None
        return Figures(account.book, cost.hourly, cost.forecast, self._means.prices().as_of)
