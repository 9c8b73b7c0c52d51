"""Names, prefixes and pages."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localcloud.services.storage.listing import BadPageTokenError, Page, Query, page

NAMES = ["a", "b/1", "b/2/x", "b/2/y", "b/3", "c/", "c/1", "d"]


@pytest.mark.parametrize(
    ("query", "names", "prefixes"),
    [
        (Query(), NAMES, []),
        (Query(prefix="b/"), ["b/1", "b/2/x", "b/2/y", "b/3"], []),
        (Query(delimiter="/"), ["a", "d"], ["b/", "c/"]),
        (Query(prefix="b/", delimiter="/"), ["b/1", "b/3"], ["b/2/"]),
        (Query(prefix="c/", delimiter="/"), ["c/", "c/1"], []),
        (Query(delimiter="/", trailing=True), ["a", "c/", "d"], ["b/", "c/"]),
        (Query(start="b/2", end="c/1"), ["b/2/x", "b/2/y", "b/3", "c/"], []),
        (Query(prefix="z"), [], []),
    ],
)
def test_page(query: Query, names: list[str], prefixes: list[str]) -> None:
    assert page(NAMES, query) == Page(tuple(names), tuple(prefixes), "")


@given(
    st.lists(st.text("ab/", min_size=1, max_size=6), unique=True),
    st.integers(1, 5),
    st.sampled_from(["", "/"]),
    st.sampled_from(["", "a", "a/"]),
)
def test_pages_together_are_the_whole(names: list[str], limit: int, delimiter: str, prefix: str) -> None:
    """Paging loses nothing, repeats nothing and never gives more than was asked for."""
    names.sort()
    query = Query(prefix=prefix, delimiter=delimiter)
    whole = page(names, query)
    found: list[str] = []
    prefixes: list[str] = []
    token = ""
    for _ in range(len(names) + 1):
        part = page(names, replace(query, limit=limit, token=token))
        assert len(part.names) + len(part.prefixes) <= limit
        found += part.names
        prefixes += part.prefixes
        token = part.token
        if not token:
            break
    assert (tuple(found), tuple(prefixes)) == (whole.names, whole.prefixes)


def test_a_made_up_token_is_refused() -> None:
    with pytest.raises(BadPageTokenError):
        page(NAMES, Query(token="?!"))
