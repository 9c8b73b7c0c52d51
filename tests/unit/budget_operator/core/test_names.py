"""Names differ whenever the triple does, fit, and ownership is never a matter of the name."""

import re

from hypothesis import given
from hypothesis import strategies as st

from budget_operator.core.names import Owner, Shared, region_of

NAME = st.from_regex(r"[a-z0-9]([-a-z0-9.]{0,80}[a-z0-9])?", fullmatch=True)


@given(NAME, NAME)
def test_a_cloud_name_is_a_legal_name(namespace: str, name: str) -> None:
    found = Owner("default", namespace, name).cloud_name
    assert re.fullmatch(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", found)


@given(st.lists(st.tuples(NAME, NAME, NAME), min_size=2, unique=True))
def test_cloud_names_differ(triples: list[tuple[str, str, str]]) -> None:
    assert len({Owner(*triple).cloud_name for triple in triples}) == len(triples)


def test_ownership_needs_both_labels() -> None:
    owner = Owner("default", "team", "iris")
    assert owner.owns({**owner.labels, "more": "x"})
    assert not owner.owns({})
    assert not owner.owns(Owner("default", "other", "iris").labels)
    assert not owner.owns(Shared("default").labels)


def test_schedules_have_their_own_labels() -> None:
    shared = Shared("default")
    assert shared.schedule_label("* * * * *", "Etc/UTC") != shared.schedule_label("0 * * * *", "Etc/UTC")


def test_region() -> None:
    assert region_of("us-central1-a") == "us-central1"
