"""`budget-operator orphans`: what bears the installation's mark and no BudgetDeployment owns.

What is looked at is in `reconcile.orphans`, what is removed in `reconcile.clearing`; here is what is said.
"""

from collections.abc import Callable

from budget_operator.cloud.wiring import gateways
from budget_operator.cluster.kube import Kube, connect
from budget_operator.core.orphans import told
from budget_operator.core.orphans.model import Outcome, Report
from budget_operator.core.prices.model import PriceList
from budget_operator.core.settings import Settings
from budget_operator.reconcile import Means
from budget_operator.reconcile.clearing import Clearing
from budget_operator.reconcile.orphans import Survey


class Command:
    """One run. `say` prints a line for whoever called."""

    def __init__(
        self, settings: Settings, prices: PriceList, say: Callable[[str], None], *, as_json: bool
    ) -> None:
        self._means = Means(gateways(settings))
        self._survey = Survey(settings, Kube(connect(pool_size=1)), self._means, lambda: prices)
        self._prices = prices
        self._say = say
        self._as_json = as_json

    def run(self, *, delete: bool) -> int:
        """The exit code.

        Raises:
            BudgetError: nothing can be told.
        """
        report = self._survey.whole()
        if not self._as_json:
            self._say(told.as_text(report, self._prices, self._means.wall().date()))
        outcomes = self._clear(report) if delete else []
        if self._as_json:
            self._say(told.as_json(report, self._prices, outcomes))
        return told.exit_code(report, outcomes)

    def _clear(self, report: Report) -> list[Outcome]:
        outcomes = []
        for outcome in Clearing(self._survey, self._means, report).run():
            outcomes.append(outcome)
            if not self._as_json:
                self._say(told.outcome_line(outcome))
        return outcomes
