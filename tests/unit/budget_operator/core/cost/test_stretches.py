"""How stretches become one, are cut into months and add up."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budget_operator.core.cost.stretches import Book, Dollars, Part, Stretch, clipped, joined, spent

START = datetime(2026, 11, 1, tzinfo=UTC)


def at(hours: float) -> datetime:
    return START + timedelta(hours=hours)


def stretch(
    part: Part, since: float, until: float, rate: float | None = 1.0, *, on: bool = False, of: str = "1"
) -> Stretch:
    used = 0.25 if part is Part.MACHINE else None
    return Stretch(part, of, at(since), at(since), at(until), on, "something", rate, used)


def test_parts_add_up() -> None:
    book = (
        stretch(Part.MACHINE, 0, 2, 3.0),
        stretch(Part.MACHINE, 5, 6, 3.0, on=True),
        stretch(Part.DISK, 0, 1, 0.5, on=True),
        stretch(Part.ADDRESS, 1, 1, 1.0, on=True),
    )
    found = spent(book, START, at(10))
    # The address is there for nine hours, in six of which a machine uses it.
    assert found == Dollars(machine=3.0 * 7, disk=0.5 * 10, address=3 * 1.0 + 6 * 0.25)
    assert found.total == pytest.approx(21 + 5 + 4.5)
    assert spent(book, at(2), at(5)) == Dollars(disk=1.5, address=3.0)


def test_of_two_machines_one_uses_the_address() -> None:
    book = (
        stretch(Part.MACHINE, 0, 3),
        stretch(Part.MACHINE, 2, 4, of="2"),
        stretch(Part.ADDRESS, 0, 10, 1.0),
    )
    found = spent(book, START, at(10))
    assert found is not None
    assert found.address == pytest.approx(6 * 1.0 + 4 * 0.25)


def test_a_price_that_is_not_known_gives_no_sum() -> None:
    book = (stretch(Part.MACHINE, 0, 2), stretch(Part.DISK, 3, 4, None))
    assert spent(book, START, at(5)) is None
    assert spent(book, START, at(3)) == Dollars(machine=2.0), "it was not there yet"


def test_what_has_ended_is_right_whoever_says_so() -> None:
    seen = stretch(Part.MACHINE, 0, 9, on=True)
    ended = stretch(Part.MACHINE, 0, 4)
    assert joined((seen,), (ended,)) == joined((ended,), (seen,)) == (ended,)
    assert joined((seen,), (replace(seen, until=at(12)),)) == (replace(seen, until=at(12)),)
    assert joined((replace(seen, rate=None),), (ended,)) == (ended,), "with the price that is known"


def test_months_are_cut_where_they_end() -> None:
    machine, disk = stretch(Part.MACHINE, -5, 3), stretch(Part.DISK, -5, 1, on=True)
    early, late = (tuple(clipped((machine, disk), at(lo), at(hi))) for lo, hi in ((-100, 0), (0, 100)))
    assert [(each.since, each.until, each.open) for each in early] == [(at(-5), at(0), True)] * 2
    assert [(each.since, each.until, each.open) for each in late] == [
        (at(0), at(3), False),
        (at(0), at(1), True),
    ]
    assert all(each.began == at(-5) for each in (*early, *late))
    assert tuple(clipped((machine,), at(3), at(9))) == ()
    unseen = stretch(Part.DISK, -5, -4, on=True)
    assert [(each.since, each.until, each.open) for each in clipped((unseen,), at(0), at(9))] == [
        (at(0), at(0), True)
    ]


TIMES = st.integers(-50, 50)
STRETCHES = st.builds(
    lambda part, since, lasted, on, of: stretch(part, since, since + lasted, on=on, of=of),
    st.sampled_from(list(Part)),
    TIMES,
    st.integers(0, 60),
    st.booleans(),
    st.sampled_from("12"),
)
BOOKS = st.lists(STRETCHES, max_size=6).map(lambda each: joined(each, ()))


@given(BOOKS, BOOKS, BOOKS)
def test_the_order_of_joining_does_not_matter(one: Book, two: Book, three: Book) -> None:
    assert joined(one, one) == one
    assert joined(one, two) == joined(two, one)
    both = joined(joined(one, two), three)
    assert {each.key: each.open for each in both} == {
        each.key: each.open for each in joined(one, joined(two, three))
    }


@given(BOOKS, st.integers(-60, 60), st.integers(0, 60))
def test_the_sum_of_the_months_is_the_sum(book: Book, cut: int, later: int) -> None:
    """Whether it is asked of one page or of two."""
    now = at(cut + later)
    early, late = tuple(clipped(book, at(-100), at(cut))), tuple(clipped(book, at(cut), at(1000)))
    whole, one, two = spent(book, at(-100), now), spent(early, at(-100), at(cut)), spent(late, at(cut), now)
    assert whole is not None and one is not None and two is not None
    assert one.total + two.total == pytest.approx(whole.total, abs=1e-6)
