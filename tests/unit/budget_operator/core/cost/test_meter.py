"""What is metered of what is seen, and of what nobody saw."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from budget_operator.core.cost.meter import Sight, metered, unclear
from budget_operator.core.cost.stretches import Book, Part, spent
from budget_operator.core.observed import Address, Instance, InstanceStatus, PowerEvent, PowerKind
from budget_operator.core.prices import table
from budget_operator.core.prices.model import (
    AddressPrice,
    MachinePrice,
    PriceList,
    RegionPrices,
    Source,
)

START = datetime(2026, 11, 1, tzinfo=UTC)
PRICES = table.shipped()
RUNNING, OFF = InstanceStatus.RUNNING, InstanceStatus.TERMINATED


def at(hours: float) -> datetime:
    return START + timedelta(hours=hours)


def vm(status: InstanceStatus = RUNNING, start: float | None = 0.0, stop: float | None = None) -> Instance:
    return Instance(
        name="budget-iris-1",
        zone="us-central1-a",
        id="1",
        status=status,
        machine_type="e2-medium",
        provisioning_model="SPOT",
        external_ip="10.0.0.1",
        labels={},
        label_fingerprint="",
        metadata={},
        metadata_fingerprint="",
        disk_gib=20,
        created=START,
        started_at=None if start is None else at(start),
        stopped_at=None if stop is None else at(stop),
    )


ADDRESS = Address("budget-iris-1", "us-central1", "10.0.0.1", "IN_USE", {}, created=START)


def look(
    book: Book, hours: float, *vms: Instance, prices: PriceList = PRICES, address: bool = False, **more: Any
) -> Book:
    sight = Sight(at(hours), vms, (ADDRESS,) if address else (), **more)
    return metered(book, sight, prices, START)


def runs(book: Book) -> list[tuple[float, float, bool]]:
    """Of the machine, in hours."""
    found = [each for each in book if each.part is Part.MACHINE]
    hour = timedelta(hours=1)
    return [((each.since - START) / hour, (each.until - START) / hour, each.open) for each in found]


def test_a_vm_that_runs_is_one_stretch_however_often_it_is_seen() -> None:
    book: Book = ()
    for hours in range(1, 50):
        book = look(book, hours, vm(), address=True)
    assert runs(book) == [(0, 49, True)]
    assert [each.part for each in book] == [Part.ADDRESS, Part.DISK, Part.MACHINE]
    assert book == look((), 49, vm(), address=True), "one look is as good as many"
    found, rates = spent(book, START, at(49)), PRICES.rates("us-central1", "e2-medium", "Spot", 20)
    assert found and rates and found.total == pytest.approx(49 * rates.running)
    assert found.address == pytest.approx(49 * rates.address)


def test_while_it_is_off_disk_and_address_go_on() -> None:
    book = look((), 10, vm(OFF, 0, 4), address=True)
    assert runs(book) == [(0, 4, False)]
    found, rates = spent(book, START, at(10)), PRICES.rates("us-central1", "e2-medium", "Spot", 20)
    assert found and rates and found.total == pytest.approx(4 * rates.running + 6 * rates.stopped)


def test_a_vm_that_is_being_made_has_only_its_disk() -> None:
    for status in (InstanceStatus.PROVISIONING, InstanceStatus.STAGING):
        book = look((), 0.1, vm(status, None))
        assert [each.part for each in book] == [Part.DISK]


def test_on_its_way_down_a_machine_is_charged_for() -> None:
    assert runs(look((), 3, vm(InstanceStatus.STOPPING))) == [(0, 3, True)]


def test_the_end_is_when_it_was_off_and_not_when_that_was_seen() -> None:
    book = look((), 2, vm())
    book = look(book, 9, vm(OFF, 0, 5))
    assert runs(book) == [(0, 5, False)]
    assert runs(look(book, 12, vm(OFF, 0, 5))) == [(0, 5, False)]
    assert runs(look(book, 20, vm(RUNNING, 18, 5))) == [(0, 5, False), (18, 20, True)]


def test_a_start_that_failed_does_not_make_the_run_longer() -> None:
    """It is told as if the VM had been stopped again."""
    book, off = look((), 2, vm()), vm(OFF, 0, 9)
    assert list(unclear(book, Sight(at(10), (off,)), START)) == ["1"]
    told = events(on=(0,), off=(3,))
    assert runs(look(book, 10, off, events=told)) == [(0, 3, False)]
    again = vm(RUNNING, 10, 9)
    assert runs(look(book, 11, again, events=events(on=(0, 10), off=(3,)))) == [(0, 3, False), (10, 11, True)]


def test_without_the_time_of_its_end_it_ran_until_it_was_seen_off() -> None:
    book = look((), 2, vm())
    assert runs(look(book, 3, vm(OFF, 0, None))) == [(0, 3, False)]


def test_a_short_restart_needs_no_other_look() -> None:
    book = look((), 2.0, vm())
    sight = Sight(at(2.03), (vm(RUNNING, 2.02, 2.01),))
    assert unclear(book, sight, START) == {}
    assert runs(metered(book, sight, PRICES, START)) == [(0, 2.01, False), (2.02, 2.03, True)]


def events(**hours: tuple[float, ...]) -> dict[str, tuple[PowerEvent, ...]]:
    found = [PowerEvent(at(each), PowerKind(kind)) for kind, times in hours.items() for each in times]
    return {"1": tuple(found)}


def test_what_happened_while_nobody_looked_is_in_the_operations() -> None:
    book, now = look((), 2, vm()), vm(RUNNING, 40, 35)
    assert list(unclear(book, Sight(at(50), (now,)), START)) == ["1"]
    told = events(on=(0, 10, 20, 40), off=(5, 12, 35.5))
    book = look(book, 50, now, events=told)
    assert runs(book) == [(0, 5, False), (10, 12, False), (20, 35, False), (40, 50, True)]
    assert unclear(book, Sight(at(51), (now,)), START) == {}, "once is enough"
    assert look(book, 50, now, events=told) == book


def test_of_a_vm_that_nobody_metered_before_the_operations_tell() -> None:
    now = vm(OFF, 40, 45)
    assert list(unclear((), Sight(at(50), (now,)), START)) == ["1"]
    assert runs(look((), 50, now, events=events(on=(0.1, 40), off=(5, 45)))) == [
        (0.1, 5, False),
        (40, 45, False),
    ]


def test_what_google_has_forgotten_counts_as_running() -> None:
    book, now = look((), 2, vm()), vm(RUNNING, 400, 390)
    book = look(book, 410, now, events=events(on=(380, 400), off=(390,)))
    assert runs(book) == [(0, 390, False), (400, 410, True)]


def test_a_preemption_is_told_when_it_is_announced() -> None:
    """Up to two and a half minutes before the VM is off; it was seen running in between."""
    book = look((), 5, vm())
    notice = 150 / 3600
    told = events(on=(10, 20.01, 40), taken=(4.98, 20, 30))
    book = look(book, 50, vm(RUNNING, 40, 30.02), events=told)
    assert runs(book) == [
        (0, pytest.approx(4.98 + notice), False),
        (10, pytest.approx(20.01), False),
        (pytest.approx(20.01), pytest.approx(30.02), False),
        (40, 50, True),
    ]


def test_a_vm_that_is_gone_ended_when_it_was_deleted() -> None:
    book = look((), 2, vm(), address=True)
    sight = Sight(at(9))
    assert list(unclear(book, sight, START)) == ["1"]
    book = metered(book, sight.telling(events(on=(0,), gone=(6,))), PRICES, START)
    assert [(each.part, each.until, each.open) for each in book] == [
        (Part.ADDRESS, at(9), False),
        (Part.DISK, at(6), False),
        (Part.MACHINE, at(6), False),
    ]
    assert unclear(book, Sight(at(20)), START) == {}
    stopped = look(look((), 2, vm()), 9, events=events(on=(0,), off=(3,), gone=(6,)))
    assert runs(stopped) == [(0, 3, False)]


def test_what_cannot_be_seen_is_not_gone() -> None:
    book = look((), 2, vm(), address=True)
    hidden = Sight(at(9), whole=False)
    assert unclear(book, hidden, START) == {}
    assert metered(book, hidden, PRICES, START) == book


def test_another_vm_takes_over() -> None:
    other = replace(vm(RUNNING, 3), id="2", created=at(2.99), zone="us-central1-b")
    book = look(look((), 2, vm()), 4, other, events=events(gone=(2.5,)))
    assert runs(book) == [(0, 2.5, False), (3, 4, True)]


def test_a_suspended_vm_goes_on_where_it_was() -> None:
    book = look((), 2, vm())
    book = look(book, 3, vm(InstanceStatus.SUSPENDED))
    book = look(book, 8, vm())
    assert runs(look(book, 9, vm())) == [(0, 3, False), (8, 9, True)]


def priced(spot: float | None, disk: float | None = 0.1) -> PriceList:
    region = RegionPrices({"e2-medium": MachinePrice(1.0, spot)}, disk, AddressPrice(0.005, 0.0025, 0.01))
    return PriceList(date(2026, 11, 1), Source.CATALOG, {"us-central1": region})


def test_a_new_price_does_not_change_the_past() -> None:
    book = look((), 10, vm(), prices=priced(0.02))
    book = look(book, 11, vm(), prices=priced(0.03))
    book = look(book, 20, vm(), prices=priced(0.03))
    assert runs(book) == [(0, 11, False), (11, 20, True)]
    assert [each.rate for each in book if each.part is Part.MACHINE] == [0.02, 0.03]
    assert len([each for each in book if each.part is Part.DISK]) == 1, "its price is the same"
    ended = look(book, 30, vm(OFF, 0, 25), prices=priced(0.03))
    assert runs(ended) == [(0, 11, False), (11, 25, False)]
    assert look(ended, 40, vm(OFF, 0, 25), prices=priced(0.9))[-1] == ended[-1]


def test_the_first_price_that_is_known_is_taken_for_what_had_none() -> None:
    book = look((), 10, vm(), prices=priced(None))
    assert spent(book, START, at(10)) is None
    book = look(book, 11, vm(), prices=priced(0.02))
    assert runs(book) == [(0, 11, True)]
    assert spent(book, START, at(11)) is not None
    gone = look(book, 12, vm(), prices=priced(None))
    assert [each.rate for each in gone] == [each.rate for each in book], "and stays"


def test_another_machine_type_and_a_larger_disk_have_their_own_prices() -> None:
    book = look((), 2, vm())
    book = look(book, 3, vm(OFF, 0, 2.5))
    larger = replace(vm(RUNNING, 4, 2.5), machine_type="e2-standard-2", disk_gib=40)
    book = look(book, 5, larger)
    assert [(each.what, each.open) for each in book] == [
        ("20 GiB in us-central1", False),
        ("e2-medium Spot in us-central1", False),
        ("e2-standard-2 Spot in us-central1", True),
        ("40 GiB in us-central1", True),
    ]


def test_nothing_from_before_the_horizon_is_metered() -> None:
    old = replace(vm(RUNNING, -100, -101), created=at(-900))
    book = look((), 5, old)
    assert runs(book) == [(0, 5, True)]
    assert unclear((), Sight(at(5), (old,)), START) == {}
    assert runs(look((), 5, replace(vm(OFF, -100, -50), created=at(-900)))) == []


def test_without_times_it_is_there_since_it_was_seen() -> None:
    bare = replace(vm(RUNNING, None), created=None)
    book = look((), 1, bare)
    assert runs(look(book, 5, bare)) == [(1, 5, True)]


def test_a_clock_that_runs_behind_costs_nothing() -> None:
    book = look((), -1, vm())
    assert runs(book) == [(0, 0, True)]
    assert spent(book, START, at(-1)) is not None
