"""What the operator says that deployments have cost, beside what the local cloud would charge for them."""

from datetime import UTC, datetime

import pytest

from budget_operator.core.cost import ledger
from budget_operator.core.cost.stretches import Book, spent
from dev.simulation.bill import Bill
from dev.simulation.month import DAY, losses, play, problems
from dev.simulation.world import ZONES, World, vm, world
from localcloud.faults import parse

NAMES = ["alpha", "beta", "gamma"]
JANUARY, FEBRUARY = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)
ONE_PERCENT = 0.01
A_CENT = 0.01
"""The status has whole cents."""


def bills(made: World) -> dict[str, Bill]:
    return {name: Bill(made, vm(name)) for name in NAMES}


def look_up(made: World) -> None:
    """Every deployment gets a full pass, of a process that remembers nothing."""
    made.restart()
    made.run(300)
    assert problems(made, NAMES) == []


def check_month(made: World, kept: dict[str, Bill], begin: datetime) -> None:
    for name, bill in kept.items():
        cost = made.kube.status(name)["cost"]
        charged = bill.dollars(begin, datetime.fromisoformat(cost["asOf"]))
        assert charged > 0.1
        assert cost["monthToDate"] == pytest.approx(charged, rel=ONE_PERCENT, abs=A_CENT), name


def page_of(made: World, name: str, month: str) -> Book:
    assert made.operator is not None
    stored = made.operator.common.means.cloud.storage.read(ledger.object_name(vm(name), month))
    assert stored is not None
    return ledger.load(stored.data)


def sold_out(made: World, *zones: str) -> None:
    for zone in zones:
        made.cloud.context.faults.add(parse({"kind": "stock-out", "zone": zone}), made.clock.now())


def lose(made: World, times: int) -> None:
    """Again and again somebody's VM is taken away, and comes back after hours, when there is room again."""
    for number in range(times):
        sold_out(made, *ZONES)
        made.preempt(NAMES[number % 3])
        made.run(4 * 3600)
        made.cloud.context.faults.clear()
        made.run(4 * 3600)


def test_a_month_costs_what_the_local_cloud_would_charge() -> None:
    """Losses, two days without an operator, a change of the machine, a move; then the next month begins."""
    with world(kept=2000) as made:
        kept = bills(made)
        play(made, NAMES, 2, losses(NAMES, days=2, waves=2, alone=4, seed=1))
        made.operator = None
        lose(made, 3)
        made.operator = made.new_operator()
        look_up(made)
        check_month(made, kept, JANUARY)

        made.apply(
            NAMES[0], {**made.kube.objects["default", NAMES[0]]["spec"], "machine": {"type": "e2-small"}}
        )
        moved = {**made.kube.objects["default", NAMES[1]]["spec"], "placement": {"zones": [ZONES[1]]}}
        made.apply(NAMES[1], moved)
        sold_out(made, ZONES[0])
        made.preempt(NAMES[1])
        made.run(1800)
        made.cloud.context.faults.clear()
        made.kube.objects["default", NAMES[2]].pop("status")  # a backup has none
        look_up(made)
        assert made.kube.status(NAMES[1])["zone"] == ZONES[1]
        check_month(made, kept, JANUARY)

        made.run(29 * DAY)
        look_up(made)
        assert made.clock.now() > FEBRUARY
        for name, bill in kept.items():
            found = spent(page_of(made, name, "2026-01"), JANUARY, FEBRUARY)
            assert found is not None
            assert found.total == pytest.approx(bill.dollars(JANUARY, FEBRUARY), rel=ONE_PERCENT), name
        check_month(made, kept, FEBRUARY)
