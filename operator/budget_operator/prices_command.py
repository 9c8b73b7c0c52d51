"""`budget-operator prices`: fetches today's list prices, and reads those that were fetched."""

from datetime import date
from pathlib import Path

from budget_operator.cloud import billing
from budget_operator.cloud.connection import Connection
from budget_operator.core.errors import InvalidSpec
from budget_operator.core.prices import skus, stored, table
from budget_operator.core.prices.model import PriceList


def refresh(file: Path, connection: Connection, today: date) -> PriceList:
    """Writes the prices of all types that are known by their SKUs.

    Raises:
        BudgetError: the catalog cannot be read; the file stays as it was.
    """
    prices = skus.price_list(billing.skus(connection), today, skus.machine_types())
    if not prices.regions:
        raise InvalidSpec("the billing catalog has no prices that are known: nothing was written")
    fresh = file.with_name(f"{file.name}.new")
    fresh.write_text(stored.to_json(prices), encoding="utf-8")
    fresh.replace(file)
    return prices


def read(file: Path | None) -> PriceList:
    """Those of the file, or the ones that are shipped.

    Raises:
        InvalidSpec: the file cannot be read.
    """
    if file is None:
        return table.shipped()
    try:
        return stored.from_json(file.read_text(encoding="utf-8"))
    except InvalidSpec as error:
        raise InvalidSpec(f"--prices: {error.message}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSpec(f"--prices: {file} cannot be read: {error}") from error
