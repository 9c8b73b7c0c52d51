"""What is sold out is remembered for a while, for one zone, type and model."""

from datetime import UTC, datetime

from budget_operator.core.capacity import SOLD_OUT_FOR, Capacity, Offer

NOW = datetime(2026, 11, 24, tzinfo=UTC)


def test_a_refusal_is_remembered_until_it_expires() -> None:
    capacity = Capacity()
    capacity.refuse(Offer("a", "e2-medium", "SPOT"), NOW)
    assert capacity.sold_out(("a", "b"), "e2-medium", "SPOT", NOW) == {"a": NOW + SOLD_OUT_FOR}
    assert capacity.sold_out(("a",), "e2-medium", "SPOT", NOW + SOLD_OUT_FOR) == {}


def test_other_types_and_models_are_not_affected() -> None:
    capacity = Capacity()
    capacity.refuse(Offer("a", "e2-medium", "SPOT"), NOW)
    assert capacity.sold_out(("a",), "e2-small", "SPOT", NOW) == {}
    assert capacity.sold_out(("a",), "e2-medium", "STANDARD", NOW) == {}
