"""What is sold out is remembered for a while, for one zone, type and model."""

from datetime import UTC, datetime, timedelta

from budget_operator.core.capacity import SOLD_OUT_FOR, Capacity, Offer

NOW = datetime(2026, 11, 24, tzinfo=UTC)


def test_a_refusal_is_remembered_for_half_an_hour() -> None:
    capacity = Capacity()
    assert timedelta(minutes=30) == SOLD_OUT_FOR
    capacity.refuse(Offer("a", "e2-medium", "SPOT"), NOW)
    assert capacity.sold_out(("a", "b"), "e2-medium", "SPOT", NOW) == {"a": NOW + SOLD_OUT_FOR}
    assert capacity.sold_out(("a",), "e2-medium", "SPOT", NOW + SOLD_OUT_FOR) == {}


def test_other_types_and_models_are_not_affected() -> None:
    capacity = Capacity()
    capacity.refuse(Offer("a", "e2-medium", "SPOT"), NOW)
    assert capacity.sold_out(("a",), "e2-small", "SPOT", NOW) == {}
    assert capacity.sold_out(("a",), "e2-medium", "STANDARD", NOW) == {}


def test_whoever_gets_one_shows_that_there_is_room() -> None:
    capacity = Capacity()
    for zone in ("a", "b"):
        capacity.refuse(Offer(zone, "e2-medium", "SPOT"), NOW)
    capacity.admit(Offer("a", "e2-medium", "SPOT"))
    assert set(capacity.sold_out(("a", "b"), "e2-medium", "SPOT", NOW)) == {"b"}
