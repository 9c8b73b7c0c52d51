"""The caller's payload kept out of the log: what an exception quotes of it is replaced.

Messages such as "could not convert string to float: '4,2'" are what makes a traceback useful, and often hold
what a caller has sent. Names, source lines and the message's own words stay.
"""

import re
from collections.abc import Iterator
from typing import Any

MASK = "[payload]"
_SHORTEST = 4  # a shorter text is a word like any other: masking it would only garble the message
_MOST_LEAVES = 10_000
_QUOTED = re.compile(r"'([^'\n]{4,})'|\"([^\"\n]{4,})\"")


def redact(message: str, payload: Any) -> str:
    """The message without what it quotes from the payload."""
    leaves = [leaf for leaf, _ in zip(_leaves(payload), range(_MOST_LEAVES), strict=False)]
    texts = {form for leaf in leaves if len(leaf) >= _SHORTEST for form in (leaf, repr(leaf)[1:-1])}
    for text in sorted(texts, key=len, reverse=True):
        message = message.replace(text, MASK)
    return _QUOTED.sub(lambda found: _quoted(found, leaves), message)


def _quoted(found: "re.Match[str]", leaves: list[str]) -> str:
    """A part of a longer text is quoted, too."""
    part = found[1] or found[2]
    return found[0].replace(part, MASK) if any(part in leaf for leaf in leaves) else found[0]


def _leaves(value: Any) -> Iterator[str]:
    """Every text in the payload, and every number as it would be printed."""
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            pending.extend(item.values())
        elif isinstance(item, list | tuple):
            pending.extend(item)
        elif isinstance(item, str):
            yield item
        elif isinstance(item, bytes | bytearray):
            yield item.decode("utf-8", "replace")
        elif isinstance(item, int | float) and not isinstance(item, bool):
            yield repr(item)
