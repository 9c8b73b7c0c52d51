"""The system parameter `fields`: only a part of an answer. Pure.

The syntax is that of Google's partial responses: `a,b/c,d(e,f)`, where `*` stands for every key of an object,
and what is said of a list holds for each of its items. A field that an answer does not have is left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeAlias

from localcloud.errors import invalid_field

_TOKEN = re.compile(r"\s*([A-Za-z_@*][\w@.\-]*|[,/()])")
Tree: TypeAlias = dict[str, "Tree"]
"""By field, what is wanted of it; nothing said: all of it."""


def parse(fields: str) -> Tree:
    """Raises a 400 for what is no selector."""
    tokens, at = list[str](), 0
    while fields[at:].strip():
        found = _TOKEN.match(fields, at)
        if found is None:
            raise _refused(fields)
        tokens.append(found[1])
        at = found.end()
    tree = _list(tokens, fields)
    if tokens or not tree:
        raise _refused(fields)
    return tree


def _list(tokens: list[str], fields: str) -> Tree:
    tree = _path(tokens, fields)
    while tokens and tokens[0] == ",":
        tokens.pop(0)
        tree = _both(tree, _path(tokens, fields))
    return tree


def _both(one: Tree, other: Tree) -> Tree:
    shared = {
        name: one[name] and other[name] and _both(one[name], other[name]) for name in one.keys() & other
    }
    return one | other | shared


def _path(tokens: list[str], fields: str) -> Tree:
    if not tokens or tokens[0] in ",/()":
        raise _refused(fields)
    name = tokens.pop(0)
    below: Tree = {}
    if tokens and tokens[0] == "/":
        tokens.pop(0)
        below = _path(tokens, fields)
    elif tokens and tokens[0] == "(":
        tokens.pop(0)
        below = _list(tokens, fields)
        if not tokens or tokens.pop(0) != ")":
            raise _refused(fields)
    return {name: below}


def _refused(fields: str) -> Exception:
    return invalid_field("fields", fields, "Invalid field selection.")


def chosen(tree: Tree, answer: Any) -> Any:
    """What is wanted of an answer."""
    if not tree:
        return answer
    if isinstance(answer, list):
        return [chosen(tree, item) for item in answer]
    if not isinstance(answer, Mapping):
        return answer
    every = tree.get("*")
    wanted = {key: tree.get(key, every) for key in answer}
    return {key: chosen(below, answer[key]) for key, below in wanted.items() if below is not None}
