"""No month costs more than its budget, whoever is awake: measured by what the local cloud would charge."""

import random
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from dev.simulation.apiserver import CODE
from dev.simulation.bill import Bill
from dev.simulation.month import DAY
from dev.simulation.trouble import Kind, Trouble
from dev.simulation.world import NAMESPACE, ZONES, World, vm, world
from localcloud.errors import ApiError
from localcloud.faults import parse
from localcloud.jumping import JumpingClock
from localcloud.services.compute import prices
from localcloud.services.compute.records import INSTANCE

NAME = "alpha"
JANUARY, FEBRUARY, MARCH = (datetime(2026, month, 1, tzinfo=UTC) for month in (1, 2, 3))
MONTHLY = 10.5
"""Pays for about three days of e2-medium, and for disk and address for the rest of a month."""
MINUTES = 5 / 60
"""Of running, in hours, that the sum may be above the budget."""
SETTLED = 1800.0


def spec(monthly: float = MONTHLY, **fields: Any) -> dict[str, Any]:
    return {"predictor": {"inline": CODE}, "budget": {"monthly": f"{monthly:.2f}", "warnAt": 95}, **fields}


@contextmanager
def played(monthly: float = MONTHLY, **fields: Any) -> Iterator[tuple[World, Bill, Trouble]]:
    """Three ticks an hour: most of the time of a simulated month goes into those that start nothing."""
    clock = JumpingClock()
    trouble = Trouble(clock)
    with world(trouble.carry, clock=clock, kept=2000) as made:
        made.kube.journal.fault = trouble.kubernetes
        made.settings = replace(made.settings, schedule="*/20 * * * *")
        made.operator = made.new_operator()
        trouble.rival = lambda: made.new_operator().reconcile(NAMESPACE, NAME)
        bill = Bill(made, vm(NAME))
        made.apply(NAME, spec(monthly, **fields))
        made.run(SETTLED)
        yield made, bill, trouble


def status_of(made: World) -> str:
    ((_, found),) = made.store.list(INSTANCE)
    told: str = found["body"]["status"]
    return told


def cut_off(made: World) -> bool:
    ((_, found),) = made.store.list(INSTANCE)
    return not found["body"]["networkInterfaces"][0].get("accessConfigs")


def run_until(made: World, moment: datetime) -> None:
    """Idle passes are jumped over, but not those of a new month."""
    made.run((moment - made.clock.now()).total_seconds())
    made.look_again()


def check(bill: Bill, begin: datetime, end: datetime, monthly: float = MONTHLY) -> None:
    some = (prices.machine("e2-medium", spot=True) or 0) * MINUTES
    assert bill.dollars(begin, end) <= monthly + some


def test_it_stops_in_time_and_starts_again_with_the_next_month() -> None:
    with played() as (made, bill, _):
        assert made.kube.condition(NAME, "WithinBudget")[:2] == ("True", "WithinBudget")
        assert "it lasts until 2026-01-0" in made.kube.condition(NAME, "WithinBudget")[2]
        run_until(made, datetime(2026, 1, 20, tzinfo=UTC))
        assert status_of(made) == "TERMINATED"
        assert made.kube.status(NAME)["state"] == "OverBudget"
        assert made.kube.condition(NAME, "Ready")[:2] == ("False", "BudgetExceeded")
        assert "starts again on 2026-02-01" in made.kube.condition(NAME, "InstanceRunning")[2]
        assert made.store.list("compute.address") == [], "unused it costs most"
        assert bill.dollars(JANUARY, FEBRUARY) > 0.3 * MONTHLY
        check(bill, JANUARY, FEBRUARY)
        run_until(made, FEBRUARY)
        made.run(SETTLED)
        assert made.kube.condition(NAME, "Ready")[0] == "True"
        assert made.kube.condition(NAME, "WithinBudget")[0] == "True"
        assert [each["cause"] for each in made.kube.status(NAME)["timeline"]] == ["Paused"]
        assert made.kube.status(NAME)["availability"]["last30d"] == 100.0
        run_until(made, MARCH)
        check(bill, FEBRUARY, MARCH)


def test_with_the_operator_off_the_vm_and_the_function_keep_it() -> None:
    with played() as (made, bill, _):
        made.operator = None
        run_until(made, datetime(2026, 1, 20, tzinfo=UTC))
        assert status_of(made) == "TERMINATED"
        assert bill.dollars(JANUARY, FEBRUARY) > 0.9 * MONTHLY
        check(bill, JANUARY, FEBRUARY)
        run_until(made, FEBRUARY)
        made.run(SETTLED)
        assert status_of(made) == "RUNNING", "the function starts it"
        run_until(made, datetime(2026, 2, 20, tzinfo=UTC))
        assert status_of(made) == "TERMINATED"
        check(bill, FEBRUARY, MARCH)
        made.operator = made.new_operator()
        made.passes.add_all(made.clock.monotonic())
        made.run(SETTLED)
        assert made.kube.status(NAME)["state"] == "OverBudget"
        causes = {each["cause"] for each in made.kube.status(NAME)["timeline"]}
        assert causes == {"Paused"}, "nobody calls that an outage"


def test_raised_it_starts_again() -> None:
    with played() as (made, _, _):
        run_until(made, datetime(2026, 1, 10, tzinfo=UTC))
        assert cut_off(made)
        made.apply(NAME, spec(2 * MONTHLY))
        made.run(SETTLED)
        assert status_of(made) == "RUNNING"
        assert made.kube.condition(NAME, "Ready")[0] == "True"
        made.apply(NAME, {"predictor": {"inline": CODE}})
        made.run(SETTLED)
        assert made.kube.condition(NAME, "WithinBudget") == ("", "", "")
        run_until(made, datetime(2026, 1, 30, tzinfo=UTC))
        assert status_of(made) == "RUNNING"


def test_it_is_only_told_where_that_is_wanted() -> None:
    budget = {"monthly": "5", "onExceeded": "Warn", "warnAt": 50}
    with played(budget=budget) as (made, bill, _):
        reasons = []
        for day in range(2, 32):
            run_until(made, datetime(2026, 1, day, tzinfo=UTC))
            reasons.append(made.kube.condition(NAME, "WithinBudget")[1])
            spent = bill.dollars(JANUARY, made.clock.now())
            expected = (
                "BudgetExceeded" if spent >= 5 else "BudgetNearlySpent" if spent >= 2.5 else "WithinBudget"
            )
            assert reasons[-1] == expected, (day, spent)
        assert set(reasons) == {"WithinBudget", "BudgetNearlySpent", "BudgetExceeded"}
        assert made.kube.condition(NAME, "Ready")[0] == "True"
        assert status_of(made) == "RUNNING"


def test_a_name_of_the_owners_keeps_its_address() -> None:
    endpoint = {"host": "model.acme.org", "tls": {"mode": "Acme"}}
    with played(endpoint=endpoint) as (made, bill, _):
        run_until(made, datetime(2026, 1, 20, tzinfo=UTC))
        assert status_of(made) == "TERMINATED"
        ((_, address),) = made.store.list("compute.address")
        assert f"the address {address['address']}" in made.kube.condition(NAME, "InstanceRunning")[2]
        check(bill, JANUARY, FEBRUARY)


def test_one_that_is_too_small_makes_nothing() -> None:
    with played(3.0) as (made, _, _):
        assert made.store.list(INSTANCE) == made.store.list("compute.address") == []
        state, reason, message = made.kube.condition(NAME, "Stalled")
        assert (state, reason) == ("True", "InvalidSpec")
        assert message.startswith("spec.budget.monthly: $3.00 cannot pay for e2-medium (Spot) in us-central1")


CHANGES: dict[str, dict[str, Any]] = {
    "suspend": {"suspend": True},
    "resume": {},
    "small": {"machine": {"type": "e2-small"}},
}
EVENTS = ("preempt", "preempt", "sold out", "room", "off", "on", "trouble", "trouble", "by hand", *CHANGES)


def happen(made: World, trouble: Trouble, chance: random.Random) -> None:
    """What users, Google and bad luck do."""
    what = chance.choice(EVENTS)
    if what == "preempt":
        with suppress(ApiError):
            made.preempt(NAME)
    elif what == "sold out":
        for zone in ZONES:
            made.cloud.context.faults.add(parse({"kind": "stock-out", "zone": zone}), made.clock.now())
    elif what == "room":
        made.cloud.context.faults.clear()
    elif what == "off":
        made.operator = None
    elif what == "on":
        made.restart()
    elif what == "trouble":
        trouble.plan(chance.choice(tuple(Kind)), chance.randrange(8))
    elif what == "by hand":
        by_hand(made, chance.choice(("start", "stop")))
    else:
        made.apply(NAME, spec(**CHANGES[what]))


def by_hand(made: World, verb: str) -> None:
    """Somebody with gcloud; refused where there is nothing to do."""
    for key, _ in made.store.list(INSTANCE):
        url = f"{made.cloud.context.settings.base_url}/compute/v1/{key}/{verb}"
        made.cloud.answer("POST", url, {"content-type": "application/json"}, b"")


@pytest.mark.parametrize("seed", range(8))
def test_whatever_happens_it_is_kept(seed: int) -> None:
    chance = random.Random(seed)
    with played() as (made, bill, trouble):
        for _ in range(16):
            happen(made, trouble, chance)
            made.run(chance.choice((60, 900, 3600)))
        made.cloud.context.faults.clear()
        trouble.clear()
        run_until(made, FEBRUARY)
        check(bill, JANUARY, FEBRUARY)
        made.run(DAY * 6)
        check(bill, FEBRUARY, made.clock.now())
