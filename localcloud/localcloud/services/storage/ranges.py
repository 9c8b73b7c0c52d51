"""The two range grammars of storage: `Range` of downloads and `Content-Range` of resumable uploads."""

from __future__ import annotations

import re
from dataclasses import dataclass

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")


class UnsatisfiableRangeError(ValueError):
    """The range begins behind the end of the object."""


class BadRangeError(ValueError):
    """The header cannot be read."""


@dataclass(frozen=True)
class Span:
    """Bytes from `first` up to but without `end`."""

    first: int
    end: int

    @property
    def length(self) -> int:
        return self.end - self.first


@dataclass(frozen=True)
class Chunk:
    """One request of a resumable upload: the span it carries (none = a question) and the total, if known."""

    span: Span | None
    total: int | None


def requested(header: str | None, size: int) -> Span | None:
    """Return the span a `Range` header asks for; None is the whole object, also if it is not understood."""
    found = _RANGE.fullmatch(header.strip()) if header else None
    if found is None or found.group(1) == found.group(2) == "":
        return None
    first, last = found.groups()
    if not first:
        span = Span(max(0, size - int(last)), size)
    else:
        span = Span(int(first), min(size, int(last) + 1) if last else size)
    if span.first >= size or span.length <= 0:
        raise UnsatisfiableRangeError(f"range {header} lies outside of {size} bytes")
    return span


def chunk(header: str | None, body_length: int) -> Chunk:
    """Read a `Content-Range`; without one the request carries the whole object."""
    if header is None:
        return Chunk(Span(0, body_length), body_length)
    found = _CONTENT_RANGE.fullmatch(header.strip())
    if found is None:
        raise BadRangeError(f"Content-Range {header!r} cannot be read")
    first, last, total = found.groups()
    size = None if total == "*" else int(total)
    if first is None:
        return Chunk(None, size)
    span = Span(int(first), int(last) + 1)
    if span.length != body_length or (size is not None and span.end > size):
        raise BadRangeError(f"Content-Range {header!r} does not fit a body of {body_length} bytes")
    return Chunk(span, size)
