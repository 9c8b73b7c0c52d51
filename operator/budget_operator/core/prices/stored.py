"""Prices in a file: `budget-operator prices refresh` writes it, `plan --prices` and the operator read it."""

from pydantic import TypeAdapter, ValidationError

from budget_operator.core.errors import InvalidSpec
from budget_operator.core.prices.model import PriceList

_PRICES: TypeAdapter[PriceList] = TypeAdapter(PriceList)


def to_json(prices: PriceList) -> str:
    """The whole list."""
    return _PRICES.dump_json(prices, indent=1).decode() + "\n"


def from_json(text: str) -> PriceList:
    """The list again.

    Raises:
        InvalidSpec: the text is none.
    """
    try:
        return _PRICES.validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise InvalidSpec(
            f"this is no list of prices ({first['msg']}); make one: budget-operator prices refresh"
        ) from error
