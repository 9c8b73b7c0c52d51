"""What a pass tells of money: the cost in the status, and the figures that the process adds up.

What was there, and for how long, is `metering`'s; the words and sums are `core.cost`'s.
"""

from datetime import datetime

from budget_operator.core.api import Cost, Spec
from budget_operator.core.cost import told
from budget_operator.core.cost.told import Figures
from budget_operator.core.memory import Memory
from budget_operator.core.names import Owner, region_of
from budget_operator.core.steps import Observation
from budget_operator.reconcile.execution import Means
from budget_operator.reconcile.metering import Metering


class Costing:
    """Of one pass over one deployment. `before`: what its status said."""

    def __init__(self, means: Means, owner: Owner, memory: Memory, before: Cost | None) -> None:
        self._means = means
        self._owner = owner
        self._memory = memory
        self._before = before

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
        metering = Metering(self._means, self._owner, self._memory)
        book = metering.meter(seen, now, settled=settled, held=held)
        found = self._before
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
