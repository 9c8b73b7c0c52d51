"""Whose an installation is."""

from datetime import UTC, datetime, timedelta

import pytest

from budget_operator.core.errors import OwnedElsewhere
from budget_operator.core.observed import Stored
from budget_operator.core.ownership import (
    RENEW_AFTER,
    SILENT_AFTER,
    WATCHED,
    Claim,
    due,
    good_for,
    read,
)

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
ZERO = timedelta(0)


def claim(cluster: str = "ours", age: timedelta = ZERO) -> Claim:
    return Claim(cluster, NOW - timedelta(days=3), NOW - age)


def wanted(present: Claim | None, watched: timedelta = ZERO, *, takeover: bool = False) -> Claim | None:
    return due(present, "ours", "default", now=NOW, watched=watched, takeover=takeover)


def test_what_is_written_is_read() -> None:
    assert read(Stored(claim().document(), 1)) == claim()
    assert read(None) is None


@pytest.mark.parametrize("data", [b"", b"\xff", b"[]", b"{}", b'{"cluster": 1, "since": 2, "renewedAt": 3}'])
def test_what_cannot_be_read_is_somebodys(data: bytes) -> None:
    found = read(Stored(data, 1))
    with pytest.raises(OwnedElsewhere):
        wanted(found)
    assert wanted(found, WATCHED) is not None


def test_the_first_one_has_it() -> None:
    assert wanted(None) == Claim("ours", NOW, NOW)


@pytest.mark.parametrize(
    ("age", "renewed"),
    [(ZERO, False), (RENEW_AFTER - SECOND, False), (RENEW_AFTER, True), (-RENEW_AFTER, True)],
)
def test_ours_is_renewed_every_few_minutes(age: timedelta, renewed: bool) -> None:
    """Also when the clock was set back, or the future would count as fresh for ever."""
    expected = Claim("ours", NOW - timedelta(days=3), NOW) if renewed else None
    assert wanted(claim(age=age)) == expected


def test_another_cluster_is_told_whose_it_is_and_what_helps() -> None:
    with pytest.raises(OwnedElsewhere) as caught:
        wanted(claim("theirs"))
    for word in ("theirs", "2026-11-21T12:00:00Z", "BUDGET_INSTALLATION", "15 minutes", "BUDGET_TAKEOVER"):
        assert word in caught.value.message


@pytest.mark.parametrize(
    ("age", "watched", "silent"),
    [
        (SILENT_AFTER, ZERO, False),  # its clock may be slow, or ours fast
        (SILENT_AFTER, WATCHED - SECOND, False),
        (SILENT_AFTER, WATCHED, True),
        (SILENT_AFTER - SECOND, WATCHED, False),
        (ZERO, SILENT_AFTER - SECOND, False),
        (-SILENT_AFTER, SILENT_AFTER, True),  # its clock was fast
    ],
)
def test_only_silence_that_was_watched_counts(age: timedelta, watched: timedelta, silent: bool) -> None:
    if silent:
        assert wanted(claim("theirs", age), watched) == Claim("ours", NOW, NOW)
        return
    with pytest.raises(OwnedElsewhere):
        wanted(claim("theirs", age), watched)


def test_an_owner_that_lives_is_heard_while_it_is_watched() -> None:
    assert RENEW_AFTER + timedelta(seconds=30) < WATCHED, "passes come every half minute"


def test_it_is_taken_over_where_an_administrator_says_so() -> None:
    assert wanted(claim("theirs"), takeover=True) == Claim("ours", NOW, NOW)


def test_a_claim_is_good_until_shortly_before_others_could_take_it() -> None:
    assert good_for(claim(age=RENEW_AFTER), NOW) + RENEW_AFTER < SILENT_AFTER
    assert good_for(claim(age=-RENEW_AFTER), NOW) < SILENT_AFTER
    assert good_for(claim(age=SILENT_AFTER), NOW) < ZERO
