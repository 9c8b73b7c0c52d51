"""Today's list prices, where Google's Cloud Billing Catalog may be read; until then those that are shipped.

The catalog has tens of thousands of SKUs, so another process reads them: this one, which runs for months,
does not grow by that. When it is done is `process`'s business.
"""

import logging
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from budget_operator.core.errors import Unavailable
from budget_operator.core.prices import stored, table
from budget_operator.core.prices.model import PriceList

log = logging.getLogger(__name__)

COMMAND = (sys.executable, "-m", "budget_operator.main", "prices", "refresh", "--output")
PATIENCE = 600.0  # seconds; the catalog has about ten pages


class DailyPrices:
    """`command` writes them to the file that is its last word."""

    def __init__(self, command: Sequence[str] = COMMAND) -> None:
        self._command = command
        self._prices = table.shipped()

    def current(self) -> PriceList:
        """The newest that could be fetched."""
        return self._prices

    def refresh(self) -> None:
        """Fetch them.

        Raises:
            BudgetError: they cannot be had; the last ones are kept.
        """
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "prices.json"
            self._fetch(file)
            self._prices = stored.from_json(file.read_text(encoding="utf-8"))
        log.info("prices of %s, of %d regions", self._prices.as_of, len(self._prices.regions))

    def _fetch(self, file: Path) -> None:
        argv = [*self._command, str(file)]
        try:
            done = subprocess.run(argv, capture_output=True, text=True, timeout=PATIENCE, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Unavailable(f"prices cannot be fetched: {error}") from error
        if done.returncode or not file.exists():
            said = done.stderr.strip() or f"exit code {done.returncode}"
            raise Unavailable(f"prices cannot be fetched: {said[-300:]}")
