"""When a VM has to go off for its budget, in figures that are reckoned by hand."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budget_operator.core.api import Budget, Spec
from budget_operator.core.budget import (
    NANO,
    Limit,
    Spending,
    Standing,
    check_pays,
    limit,
    months_share,
    standing,
    terms,
)
from budget_operator.core.conditions import Reason
from budget_operator.core.errors import InvalidSpec
from budget_operator.core.prices.model import Rates

NOVEMBER, DECEMBER = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)
HOURS = 720  # of November
RATES = Rates(machine=0.02, disk=0.004, address=0.001, address_unused=0.006)
"""2.5 cents an hour while it runs, 1 cent while it is off."""
DEAR_ADDRESS = replace(RATES, address_unused=0.03)
HOST = {"host": "model.acme.org", "tls": {"mode": "Acme"}}
HOUR = timedelta(hours=1)


def budget(monthly: float, **fields: object) -> Budget:
    return Budget.model_validate({"monthly": f"{monthly:.2f}", **fields})


def spec(**fields: object) -> Spec:
    return Spec.model_validate({"predictor": {"inline": "x"}, **fields})


def found(
    monthly: float,
    spent: float = 0.0,
    held: Limit | None = None,
    *,
    now: datetime = NOVEMBER,
    running: bool = True,
    rates: Rates = RATES,
) -> Limit:
    return limit(terms(budget(monthly), rates, spec()), Spending(spent, held, running), now)


def until(one: Limit, now: datetime = NOVEMBER) -> float:
    """In hours from the month's beginning."""
    return (one.until(now) - NOVEMBER) / HOUR


def test_what_goes_on_without_the_vm_is_kept_back() -> None:
    """$7.20 for the whole month off, and 1.5 cents an hour on top."""
    assert until(found(8.70)) == pytest.approx(100, abs=0.01)
    assert until(found(8.70, 0.25, now=NOVEMBER + 10 * HOUR)) == pytest.approx(100, abs=0.01), "it ran"
    later = found(8.70, 0.10, now=NOVEMBER + 10 * HOUR)
    assert until(later) == pytest.approx(110, abs=0.01), "it was off"


def test_a_budget_that_is_enough_lasts_until_the_month_ends() -> None:
    assert found(18.0).until(NOVEMBER) == found(500.0).until(NOVEMBER) == DECEMBER
    assert until(found(17.85)) == pytest.approx(710, abs=0.01)


def test_what_is_spent_is_over_now() -> None:
    now = NOVEMBER + 300 * HOUR
    over = found(8.70, 8.0, now=now)
    assert over.is_over(now)
    assert over.until(now) >= NOVEMBER


def test_once_it_is_off_it_stays_off_until_something_changes() -> None:
    """An address that was given back saves money: it would buy some minutes, again and again."""
    now = NOVEMBER + 200 * HOUR
    held = found(8.70)
    assert found(8.70, 2.0, held, now=now, running=False) == held
    assert not found(9.90, 2.0, held, now=now, running=False).is_over(now), "it was raised"
    cheaper = replace(RATES, machine=0.01)
    assert not found(8.70, 2.0, held, now=now, running=False, rates=cheaper).is_over(now)
    december = DECEMBER + HOUR
    assert not found(8.70, 0.0, held, now=december, running=False).is_over(december)


def test_a_vm_that_is_off_is_not_started_for_less_than_an_hour() -> None:
    now = NOVEMBER + 99.5 * HOUR
    assert found(8.70, 2.4875, now=now, running=False).is_over(now)
    assert not found(8.70, 2.4875, now=now, running=True).is_over(now)


def test_in_the_last_hour_of_a_month_a_vm_is_started_if_the_budget_pays_for_it() -> None:
    now = DECEMBER - 0.5 * HOUR
    assert not found(18.0, 10.0, now=now, running=False).is_over(now)


def test_the_vm_is_told_when_it_matters() -> None:
    """A later moment the sooner the nearer it is, an earlier one at once."""
    held = found(8.70)
    far, near = NOVEMBER + 10 * HOUR, NOVEMBER + 99 * HOUR
    assert found(8.70, 0.25 - 0.015 * 0.9, held, now=far) == held, "54 minutes later, in 90 hours"
    assert until(found(8.70, 0.25 - 0.015 * 1.1, held, now=far)) == pytest.approx(101.1, abs=0.01)
    moved = found(8.70, 99 * 0.025 - 0.015 * 0.2, held, now=near)
    assert until(moved) == pytest.approx(100.2, abs=0.01), "12 minutes later, in an hour"
    assert until(found(8.70, 0.25 + 0.015 * 0.1, held, now=far)) == pytest.approx(99.9, abs=0.01)


def test_in_a_later_month_it_counts_as_having_run_all_the_time() -> None:
    """December has 744 hours: $7.44 are kept back."""
    held = found(8.70)
    expected = DECEMBER + timedelta(hours=(8.70 - 7.44) / 0.015)
    assert abs(held.until(DECEMBER + HOUR) - expected) <= timedelta(seconds=1)
    assert not held.is_over(DECEMBER)
    assert held.is_over(expected + timedelta(seconds=1))
    small = replace(held, monthly=5 * NANO)
    assert small.until(DECEMBER) == DECEMBER


def test_an_unused_address_that_costs_more_than_the_vm_is_given_back_or_the_vm_runs_on() -> None:
    """Off with its address it costs 3.4 cents an hour, without 0.4."""
    assert until(found(4.98, rates=DEAR_ADDRESS)) == pytest.approx(100, abs=0.01)
    held = terms(budget(4.98), DEAR_ADDRESS, spec(endpoint=HOST))
    assert limit(held, Spending(0.0, None, running=True), NOVEMBER).until(NOVEMBER) == DECEMBER
    later = found(4.98, rates=DEAR_ADDRESS).until(DECEMBER)
    assert later == datetime(2027, 1, 1, tzinfo=UTC), "without an operator it runs on"


@pytest.mark.parametrize(
    ("monthly", "fields", "rates", "least"),
    [
        (8.55, {}, RATES, 8.56),
        (8.56, {}, RATES, None),
        (18.59, {}, DEAR_ADDRESS, 18.60),
        (18.60, {}, DEAR_ADDRESS, None),
        (1.85, {"onExceeded": "Warn"}, RATES, 1.86),
        (1.86, {"onExceeded": "Warn"}, DEAR_ADDRESS, None),
    ],
)
def test_a_budget_that_cannot_pay_a_tenth_of_a_month_is_refused(
    monthly: float, fields: dict[str, str], rates: Rates, least: float | None
) -> None:
    asked = terms(budget(monthly, **fields), rates, spec())
    if least is None:
        check_pays(asked, "e2-medium (Spot) in us-central1")
        return
    with pytest.raises(InvalidSpec) as refused:
        check_pays(asked, "e2-medium (Spot) in us-central1")
    message = refused.value.message
    assert message.startswith(f"spec.budget.monthly: ${monthly:.2f} cannot pay for e2-medium (Spot)")
    assert "a month of it costs $18.60" in message
    assert f"give ${least:.2f} or more" in message


def test_the_share_of_a_month_that_it_pays_for() -> None:
    assert months_share(terms(budget(100), RATES, spec())) == 1
    assert months_share(terms(budget(7.30 + 0.015 * 73), RATES, spec())) == pytest.approx(0.1, abs=1e-3)
    assert months_share(terms(budget(9.125), DEAR_ADDRESS, spec(endpoint=HOST))) == pytest.approx(
        0.5, abs=1e-3
    )


def stands(
    monthly: float, spent: float, now: datetime, held: Limit | None = None, **fields: object
) -> Standing:
    return standing(terms(budget(monthly, **fields), RATES, spec()), Spending(spent, held, running=True), now)


def test_it_is_said_how_long_it_lasts() -> None:
    told = stands(8.70, 0.0, NOVEMBER, warnAt=90)
    assert (told.verdict.status, told.verdict.reason) == ("True", Reason.WITHIN_BUDGET)
    assert told.verdict.message == (
        "$8.70 for November 2026: it lasts until 2026-11-05 04:00 UTC, when the VM is stopped for the rest of"
        " the month"
    )
    assert not told.over
    assert told.changes is not None
    assert (told.changes - NOVEMBER) / HOUR == pytest.approx((7.83 - 7.20) / 0.015, abs=0.01), "warnAt"
    enough = stands(100, 0.0, NOVEMBER)
    assert enough.verdict.message.endswith("it pays for the rest of the month")
    assert enough.changes == DECEMBER


def test_it_is_said_that_it_is_nearly_spent() -> None:
    """What is bound for the rest of the month is gone as well."""
    now = NOVEMBER + 60 * HOUR
    told = stands(8.70, 1.5, now, warnAt=90)
    assert (told.verdict.status, told.verdict.reason) == ("True", Reason.BUDGET_NEARLY_SPENT)
    assert told.verdict.message.startswith(
        "90 % of $8.70 for November 2026 is spent or bound; it lasts until"
    )
    assert told.changes is not None
    assert (told.changes - NOVEMBER) / HOUR == pytest.approx(100, abs=0.01)


def test_it_is_said_that_it_is_spent() -> None:
    now = NOVEMBER + 100.1 * HOUR
    told = stands(8.70, 2.5025, now, found(8.70))
    assert told.over
    assert (told.verdict.status, told.verdict.reason) == ("False", Reason.BUDGET_EXCEEDED)
    assert told.verdict.message == (
        "$8.70 for November 2026 is spent: it starts again on 2026-12-01, or when spec.budget.monthly is"
        " raised"
    )
    assert told.changes == DECEMBER


def test_a_budget_that_is_only_told_of_stops_nothing() -> None:
    now = NOVEMBER + 100 * HOUR
    reasons = [stands(5, spent, now, onExceeded="Warn") for spent in (2.5, 4.0, 5.0)]
    assert [each.verdict.reason for each in reasons] == [
        Reason.WITHIN_BUDGET,
        Reason.BUDGET_NEARLY_SPENT,
        Reason.BUDGET_EXCEEDED,
    ]
    assert [(each.over, each.limit) for each in reasons] == [(False, None)] * 3
    assert reasons[0].changes == now + timedelta(hours=1.5 / 0.025)
    assert reasons[2].changes == DECEMBER


WHOLE = '{"month":"2026-11","deadline":1,"monthly":2,"running":3,"stopped":4}'
NO_LIMITS = ("", "{}", "7", "null", "[1]", WHOLE[:-1], WHOLE.replace(":1,", ':"1",'))


@pytest.mark.parametrize("text", NO_LIMITS)
def test_what_is_no_limit_limits_nothing(text: str) -> None:
    assert Limit.read({"budget-limit": text}) is None


def test_a_limit_is_read_as_it_was_written() -> None:
    one = found(8.70)
    assert Limit.read({"budget-limit": one.document}) == one
    assert " " not in one.document


@given(
    monthly=st.floats(8.6, 30),
    steps=st.lists(st.tuples(st.booleans(), st.floats(0.01, 60)), min_size=1, max_size=30),
)
def test_however_often_it_is_off_the_sum_stays_below(monthly: float, steps: list[tuple[bool, float]]) -> None:
    """It runs or not, for some hours each; it is looked at in between, and obeyed by whoever is there."""
    asked = terms(budget(monthly), RATES, spec())
    now, spent, held = NOVEMBER, 0.0, None
    for running, hours in steps:
        held = limit(asked, Spending(spent, held, running), now)
        end = min(now + hours * HOUR, DECEMBER)
        on = max(timedelta(0), min(held.until(now), end) - now) if running else timedelta(0)
        spent += (on * RATES.running + (end - now - on) * RATES.stopped) / HOUR
        now = end
        if now >= DECEMBER:
            break
    spent += (DECEMBER - now) / HOUR * RATES.stopped
    assert spent <= asked.budget.dollars + 0.01
