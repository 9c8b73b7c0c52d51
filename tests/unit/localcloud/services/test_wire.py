"""Bodies, enums, masks and pages as Google's v1/v2 APIs read them."""

from __future__ import annotations

from typing import Annotated, ClassVar

import pytest
from pydantic import BeforeValidator

from localcloud.errors import ApiError
from localcloud.services.wire import Message, enum_reader, merge, paged, parse
from localcloud.store import Json

Colour = Annotated[str, BeforeValidator(enum_reader("COLOUR_UNSPECIFIED", "RED", "BLUE"))]


class Inner(Message):
    output_only: ClassVar[frozenset[str]] = frozenset({"madeBy"})

    some_text: str | None = None
    environment_variables: dict[str, str] | None = None


class Thing(Message):
    output_only: ClassVar[frozenset[str]] = frozenset({"state"})

    name: str | None = None
    colour: Colour | None = None
    inner: Inner | None = None


@pytest.mark.parametrize("body", [{"colour": "BLUE"}, {"colour": 2}])
def test_enums_come_by_name_and_by_number(body: dict[str, object]) -> None:
    assert parse(Thing, body, "thing").colour == "BLUE"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"colour": "GREEN"}, r"thing\.colour"),
        ({"colour": 3}, r"thing\.colour"),
        ({"colour": True}, r"thing\.colour"),
        ({"size": 1}, "Unknown name \"size\" at 'thing'"),
        ({"inner": {"x": 1}}, "Unknown name \"x\" at 'thing.inner'"),
        ({"name": 7}, r"thing\.name"),
    ],
)
def test_what_is_wrong_is_named(body: dict[str, object], message: str) -> None:
    with pytest.raises(ApiError, match=message):
        parse(Thing, body, "thing")


def test_output_only_fields_may_come_back() -> None:
    body = {"name": "n", "state": "ACTIVE", "inner": {"someText": "t", "madeBy": "us"}}
    assert parse(Thing, body, "thing").wire() == {"name": "n", "inner": {"someText": "t"}}


INNER: Json = {"someText": "t", "environmentVariables": {"A_B": "1"}}
CURRENT: Json = {"name": "n", "colour": "RED", "inner": INNER}


@pytest.mark.parametrize(
    ("mask", "new", "changed"),
    [
        ("colour", {"colour": "BLUE", "name": "other"}, {"colour": "BLUE"}),
        ("", {"colour": "BLUE"}, {"colour": "BLUE"}),
        ("inner", {"inner": {}}, {"inner": {}}),
        ("inner.some_text", {"inner": {"someText": "u"}}, {"inner": INNER | {"someText": "u"}}),
        (
            "inner.environmentVariables.A_B",
            {"inner": {"environmentVariables": {"A_B": "2"}}},
            {"inner": {"someText": "t", "environmentVariables": {"A_B": "2"}}},
        ),
    ],
)
def test_a_mask_says_what_is_taken_over(mask: str, new: Json, changed: Json) -> None:
    assert merge(Thing, CURRENT, new, mask) == CURRENT | changed


def test_a_masked_field_that_is_not_given_is_removed() -> None:
    assert "colour" not in merge(Thing, CURRENT, {}, "colour")


def test_an_unknown_mask_is_refused() -> None:
    with pytest.raises(ApiError, match="colours"):
        merge(Thing, CURRENT, {}, "colours")


def test_pages_follow_one_another() -> None:
    entries = [(f"k{number}", {"n": number}) for number in range(5)]
    seen, token = [], ""
    for _ in range(3):
        answer = paged("things", entries, {"pageSize": "2", "pageToken": token})
        seen += [thing["n"] for thing in answer["things"]]
        token = answer.get("nextPageToken", "")
    assert (seen, token) == ([0, 1, 2, 3, 4], "")


def test_an_empty_page_has_no_list() -> None:
    assert paged("things", [], {}) == {}


@pytest.mark.parametrize("query", [{"pageToken": "%"}, {"pageSize": "many"}])
def test_bad_pages_are_refused(query: dict[str, str]) -> None:
    with pytest.raises(ApiError):
        paged("things", [], query)
