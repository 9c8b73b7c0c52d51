"""Reads the two-part bodies of uploads (`multipart/related`).

Python clients end lines with CRLF and quote the boundary plainly or not at all; gcloud ends them with a bare
LF and puts the boundary in single quotes. Both are one grammar here: the first line end decides for all.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_BOUNDARY = re.compile(r"""boundary\s*=\s*(?:"([^"]+)"|'([^']+)'|([^;\s]+))""", re.IGNORECASE)


class BadMultipartError(ValueError):
    """The body is not what its Content-Type says."""


@dataclass(frozen=True)
class Part:
    """One part: its headers (lower-case names) and its bytes."""

    headers: dict[str, str]
    body: bytes


def boundary_of(content_type: str) -> bytes:
    """Take the boundary out of a Content-Type, whichever way it is quoted."""
    found = _BOUNDARY.search(content_type)
    if found is None:
        raise BadMultipartError(f"no boundary in Content-Type {content_type!r}")
    return next(group for group in found.groups() if group).encode()


def parse(content_type: str, body: bytes) -> list[Part]:
    """Split a body into its parts; whatever the parts hold is kept byte for byte."""
    delimiter = b"--" + boundary_of(content_type)
    if body.startswith(delimiter):
        start = 0
    elif (start := body.find(b"\n" + delimiter) + 1) == 0:
        raise BadMultipartError("the boundary does not occur in the body")
    rest = body[start + len(delimiter) :]
    newline = b"\r\n" if rest.startswith(b"\r\n") else b"\n"
    chunks = rest.split(newline + delimiter)
    if not chunks[-1].startswith(b"--"):
        raise BadMultipartError("the closing boundary is missing: the body was cut off")
    return [_part(chunk, newline) for chunk in chunks[:-1]]


def _part(chunk: bytes, newline: bytes) -> Part:
    """Separate headers and content; the chunk starts with the line end behind the boundary."""
    head, blank, body = chunk.partition(newline * 2)
    if not blank:
        raise BadMultipartError("a part has no blank line behind its headers")
    headers: dict[str, str] = {}
    for line in head.decode("latin-1").splitlines():
        name, colon, value = line.partition(":")
        if colon:
            headers[name.strip().lower()] = value.strip()
    return Part(headers, body)
