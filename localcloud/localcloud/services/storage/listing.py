"""Lists names the way storage does: prefix, delimiter, pages. Pure; `objects` knows what the names are."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from dataclasses import dataclass


class BadPageTokenError(ValueError):
    """The page token was not given out by a listing."""


@dataclass(frozen=True)
class Query:
    """What a listing asks for; `limit` counts names and prefixes together."""

    prefix: str = ""
    delimiter: str = ""
    start: str = ""
    end: str = ""
    limit: int = 1000
    token: str = ""
    trailing: bool = False
    """Also give the object whose name ends at the delimiter, beside its prefix."""


@dataclass(frozen=True)
class Page:
    """Names and folded prefixes of one page, and the token of the next one (empty at the end)."""

    names: tuple[str, ...]
    prefixes: tuple[str, ...]
    token: str


def page(names: Iterable[str], query: Query) -> Page:
    """Take one page out of the sorted names."""
    after = _read_token(query.token)
    found: list[str] = []
    prefixes: list[str] = []
    last = ""
    for name in names:
        if not _wanted(name, query):
            continue
        folded = _fold(name, query)
        entry = folded or name
        if after and entry <= after:
            continue
        is_new_prefix = bool(folded) and (not prefixes or prefixes[-1] != folded)
        is_name = not folded or (query.trailing and name == folded)
        if (is_new_prefix or is_name) and len(found) + len(prefixes) >= query.limit and entry != last:
            return Page(tuple(found), tuple(prefixes), _write_token(last))
        if is_new_prefix:
            prefixes.append(folded)
        if is_name:
            found.append(name)
        last = entry
    return Page(tuple(found), tuple(prefixes), "")


def _wanted(name: str, query: Query) -> bool:
    return name.startswith(query.prefix) and name >= query.start and (not query.end or name < query.end)


def _fold(name: str, query: Query) -> str:
    """Return the prefix that stands for a name, or nothing where the name stands for itself."""
    if not query.delimiter:
        return ""
    at = name.find(query.delimiter, len(query.prefix))
    return name[: at + len(query.delimiter)] if at >= 0 else ""


def _write_token(last: str) -> str:
    return base64.urlsafe_b64encode(last.encode()).decode()


def _read_token(token: str) -> str:
    try:
        return base64.b64decode(token.encode(), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError) as error:
        raise BadPageTokenError(f"page token {token!r} is not one of ours") from error
