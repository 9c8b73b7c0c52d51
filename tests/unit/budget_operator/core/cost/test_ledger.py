"""What is written down of a month, and what need not be."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from budget_operator.core.cost import ledger
from budget_operator.core.cost.ledger import Account, Month, Stored
from budget_operator.core.cost.stretches import Part, Stretch

NOVEMBER, DECEMBER = Month(2026, 11), Month(2026, 12)
BEGAN = datetime(2026, 11, 20, 10, 30, 0, 123456, tzinfo=UTC)
RUN = Stretch(Part.MACHINE, "1", BEGAN, BEGAN, BEGAN + timedelta(days=1), True, "e2-medium", 0.020106, 0.0025)
ENDED = replace(RUN, until=BEGAN + timedelta(days=2), open=False)


def test_months_follow_each_other() -> None:
    assert DECEMBER.next == Month(2027, 1)
    assert Month.named("2026-12") == DECEMBER == NOVEMBER.next
    assert Month.of(datetime(2026, 11, 30, 23, 59, tzinfo=UTC)) == NOVEMBER
    assert (NOVEMBER.name, NOVEMBER.begin) == ("2026-11", datetime(2026, 11, 1, tzinfo=UTC))


def test_what_is_written_is_read() -> None:
    assert ledger.load(ledger.dump("2026-11", (RUN, ENDED))) == (RUN, ENDED)
    assert ledger.load(b"{}") == ledger.load(b"\xff") == ()


def test_what_goes_on_is_written_once() -> None:
    account = Account(NOVEMBER, (RUN,))
    assert account.due(NOVEMBER) == {"2026-11": (RUN,)}
    stored = account.holding("2026-11", Stored(7, (RUN,)))
    assert stored.generation("2026-11") == 7
    later = stored.knowing((replace(RUN, until=RUN.until + timedelta(days=3)),))
    assert later.due(NOVEMBER) == {}
    assert not stored.has_ended("2026-11", later.book)
    over = stored.knowing((ENDED,))
    assert over.due(NOVEMBER) == {"2026-11": (ENDED,)}
    assert over.has_ended("2026-11", (ENDED,))


def test_a_new_month_is_written_and_the_old_one_is_left() -> None:
    account = Account(NOVEMBER, (RUN,), {"2026-11": Stored(7, (RUN,))})
    [(name, page)] = account.due(DECEMBER).items()
    assert name == "2026-12"
    assert [(each.began, each.since, each.open) for each in page] == [(BEGAN, DECEMBER.begin, True)]
    turned = account.holding(name, Stored(8, page)).turned(DECEMBER)
    assert (turned.horizon, turned.due(DECEMBER)) == (DECEMBER, {})
    assert turned.turned(DECEMBER) is turned
    assert [each.since for each in turned.book] == [DECEMBER.begin]


def test_an_end_that_is_heard_of_in_the_next_month_is_written_into_its_own() -> None:
    account = Account(NOVEMBER, (ENDED,), {"2026-11": Stored(7, (RUN,))})
    assert account.due(DECEMBER) == {"2026-11": (ENDED,)}
    assert account.turned(DECEMBER).book == ()


def test_the_last_month_is_found() -> None:
    names = tuple(ledger.object_name("budget-iris-1", month) for month in ("2026-09", "2026-11", "2026-10"))
    assert names[0] == "ledger/budget-iris-1/2026-09.json"
    assert ledger.months("budget-iris-1", names) == ["2026-11", "2026-10", "2026-09"]
