"""What is sold out is remembered for a zone, type and model, what has no quota for a region."""

from datetime import UTC, datetime, timedelta

from budget_operator.core.capacity import SOLD_OUT_FOR, Capacity, Offer

NOW = datetime(2026, 11, 24, tzinfo=UTC)
A, B, FAR = "us-central1-a", "us-central1-b", "us-east1-b"
SPOT = ("e2-medium", "SPOT")


def test_a_refusal_is_remembered_for_half_an_hour() -> None:
    capacity = Capacity()
    capacity.refuse(Offer(A, *SPOT), NOW)
    assert timedelta(minutes=30) == SOLD_OUT_FOR
    assert capacity.sold_out((A, B), *SPOT, NOW) == {A: NOW + SOLD_OUT_FOR}
    assert capacity.sold_out((A,), *SPOT, NOW + SOLD_OUT_FOR) == {}


def test_other_types_and_models_are_not_affected() -> None:
    capacity = Capacity()
    capacity.refuse(Offer(A, *SPOT), NOW)
    assert capacity.sold_out((A,), "e2-small", "SPOT", NOW) == {}
    assert capacity.sold_out((A,), "e2-medium", "STANDARD", NOW) == {}
    assert capacity.ruled_out((A, B), *SPOT, NOW) == set()


def test_no_quota_rules_out_the_region() -> None:
    capacity = Capacity()
    capacity.rule_out(Offer(A, *SPOT), NOW)
    assert capacity.ruled_out((A, B, FAR), *SPOT, NOW) == {A, B}
    assert capacity.ruled_out((A, B, FAR), "e2-medium", "STANDARD", NOW) == set()
    assert capacity.sold_out((A, B), *SPOT, NOW) == {}, "another region may have a zone that has room"
    assert capacity.ruled_out((A,), *SPOT, NOW + SOLD_OUT_FOR) == set()


def test_whoever_gets_one_shows_that_there_is_room() -> None:
    capacity = Capacity()
    for zone in (A, B):
        capacity.refuse(Offer(zone, *SPOT), NOW)
    capacity.rule_out(Offer(A, *SPOT), NOW)
    capacity.admit(Offer(A, *SPOT))
    assert set(capacity.sold_out((A, B), *SPOT, NOW)) == {B}
    assert capacity.ruled_out((A, B), *SPOT, NOW) == set()
