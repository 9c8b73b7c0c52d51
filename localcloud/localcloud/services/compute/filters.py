"""The `filter`, `orderBy`, `maxResults` and `pageToken` parameters of lists. Pure.

Understood are terms `field OP value` (`=`, `!=`, `:`, `eq`, `ne`) joined by AND or spaces, and parentheses
around terms; anything else is a 400 rather than a list that is silently too long.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from localcloud.errors import invalid_field
from localcloud.store import Json

_TERM = re.compile(
    r"""\s*(?:AND\s+)?\(*\s*
    (?P<field>[A-Za-z][\w.-]*)\s*
    (?P<op>!=|=|:|\beq\b|\bne\b)\s*
    (?P<value>"(?:[^"\\]|\\.)*"|'[^']*'|[^\s()]+)
    \s*\)*""",
    re.VERBOSE,
)
_DIGITS = re.compile(r"[0-9]{0,18}")
_LARGEST_PAGE = 500


@dataclass(frozen=True)
class Term:
    field: str
    op: str
    value: str

    def matches(self, item: Json) -> bool:
        actual = _field(item, self.field)
        if self.op in ("eq", "ne"):
            hit = re.fullmatch(self.value, "" if actual is None else _text(actual)) is not None
            return hit == (self.op == "eq")
        if self.op == ":":
            return _has(actual, self.value)
        return (actual is not None and _text(actual) == self.value) == (self.op == "=")


def _field(item: Json, path: str) -> Any:
    value: Any = item
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _has(actual: Any, value: str) -> bool:
    if actual is None:
        return False
    if value == "*":
        return True
    text = _text(actual).lower()
    return text.startswith(value[:-1].lower()) if value.endswith("*") else value.lower() in text


def parse(text: str) -> list[Term]:
    terms, position = [], 0
    while text[position:].strip():
        found = _TERM.match(text, position)
        if found is None:
            raise invalid_field("filter", text, "Invalid list filter expression.")
        terms.append(_term(found["field"], found["op"], found["value"], text))
        position = found.end()
    return terms


def _term(field: str, op: str, value: str, text: str) -> Term:
    pattern = op in ("eq", "ne")
    if value[0] == '"':
        # A pattern keeps its own backslashes: gcloud sends "\bname\b".
        value = value[1:-1].replace('\\"', '"') if pattern else re.sub(r"\\(.)", r"\1", value[1:-1])
    elif value[0] == "'":
        value = value[1:-1]
    if pattern:
        try:
            re.compile(value)
        except re.error as error:
            raise invalid_field("filter", text, f"{error}.") from error
    return Term(field, op, value)


@dataclass(frozen=True)
class Page:
    """What one list call answers, and where the next one goes on."""

    items: list[tuple[str, Json]]
    next_token: str | None


def page(documents: Sequence[tuple[str, Json]], query: Mapping[str, str]) -> Page:
    """`documents` are (key, resource), ordered by key."""
    terms = parse(query.get("filter", ""))
    chosen = [(key, item) for key, item in documents if all(term.matches(item) for term in terms)]
    if query.get("orderBy") == "creationTimestamp desc":
        chosen.sort(key=_created, reverse=True)
    start = _start(chosen, query.get("pageToken", ""))
    size = _size(query.get("maxResults", ""))
    items = chosen[start : start + size]
    more = start + size < len(chosen)
    return Page(items, base64.urlsafe_b64encode(items[-1][0].encode()).decode() if more else None)


def _created(document: tuple[str, Json]) -> str:
    stamp: str = document[1].get("creationTimestamp") or document[1].get("insertTime") or ""
    return stamp


def _size(text: str) -> int:
    size = whole_number("maxResults", text)
    if size > _LARGEST_PAGE:
        raise invalid_field("maxResults", text, f"Must be between 0 and {_LARGEST_PAGE}.")
    return size or _LARGEST_PAGE


def whole_number(parameter: str, text: str) -> int:
    """The value of a parameter; 0 if it is not given."""
    if not _DIGITS.fullmatch(text):
        raise invalid_field(parameter, text, "Must be a whole number.")
    return int(text or "0")


def _start(chosen: Sequence[tuple[str, Json]], token: str) -> int:
    """Behind the item that the last page ended with; also if that item is gone and the order is by key."""
    if not token:
        return 0
    try:
        seen = base64.b64decode(token, altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise invalid_field("pageToken", token) from error
    at = next((index for index, (key, _) in enumerate(chosen) if key == seen), None)
    return at + 1 if at is not None else sum(key <= seen for key, _ in chosen)


Group = Callable[[str], str]


def grouped(items: Sequence[tuple[str, Json]], scopes: Sequence[str], noun: str, scope_of: Group) -> Json:
    """The `items` of an aggregated list: every scope is there, empty ones with a warning."""
    answer: Json = {scope: {"warning": _empty(scope)} for scope in scopes}
    for key, item in items:
        scope = scope_of(key)
        if noun not in answer.get(scope, {}):
            answer[scope] = {noun: []}
        answer[scope][noun].append(item)
    return answer


def _empty(scope: str) -> Json:
    return {
        "code": "NO_RESULTS_ON_PAGE",
        "message": f"There are no results for scope '{scope}' on this page.",
        "data": [{"key": "scope", "value": scope}],
    }
