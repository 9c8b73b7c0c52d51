"""The part of an answer that `fields` asks for."""

from typing import Any

import pytest

from localcloud.errors import ApiError
from localcloud.partial import chosen, parse

DISK = {"boot": True, "size": 1}
WARNING = {"code": "NONE", "message": "nothing"}
ANSWER = {
    "kind": "list",
    "items": {
        "zones/a": {"instances": [{"name": "x", "disks": [DISK], "metadata": {"fingerprint": "f"}}]},
        "zones/b": {"warning": WARNING},
    },
    "nextPageToken": "t",
}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ("kind", {"kind": "list"}),
        ("kind, nextPageToken", {"kind": "list", "nextPageToken": "t"}),
        ("*", ANSWER),
        (
            "items/*/instances/name",
            {"items": {"zones/a": {"instances": [{"name": "x"}]}, "zones/b": {}}},
        ),
        (
            "items/*(instances(name,disks/boot),warning(code))",
            {
                "items": {
                    "zones/a": {"instances": [{"name": "x", "disks": [{"boot": True}]}]},
                    "zones/b": {"warning": {"code": "NONE"}},
                }
            },
        ),
        (
            "items/*/warning/code,items/*/warning/message",
            {"items": {"zones/a": {}, "zones/b": {"warning": WARNING}}},
        ),
        ("items/*/warning/code,items/*/warning", {"items": {"zones/a": {}, "zones/b": {"warning": WARNING}}}),
        ("absent,kind/deeper", {"kind": "list"}),
    ],
)
def test_what_is_asked_for(fields: str, expected: Any) -> None:
    assert chosen(parse(fields), ANSWER) == expected


@pytest.mark.parametrize("fields", ["a,", "(a)", "a(b", "a)", "a//b", "a b", "a/", "/a", "ä"])
def test_what_is_no_selector_is_refused(fields: str) -> None:
    with pytest.raises(ApiError, match="Invalid field selection"):
        parse(fields)


def test_without_fields_all_is_given() -> None:
    assert chosen({}, ANSWER) is ANSWER
