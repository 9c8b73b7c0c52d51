"""`Range` and `Content-Range`."""

from __future__ import annotations

import pytest

from localcloud.services.storage.ranges import (
    BadRangeError,
    Chunk,
    Span,
    UnsatisfiableRangeError,
    chunk,
    requested,
)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, None),
        ("bytes=0-3", Span(0, 4)),
        ("bytes=4-", Span(4, 10)),
        ("bytes=4-400", Span(4, 10)),
        ("bytes=-3", Span(7, 10)),
        ("bytes=-30", Span(0, 10)),
        ("bytes=-", None),
        ("lines=1-2", None),
    ],
)
def test_requested(header: str | None, expected: Span | None) -> None:
    assert requested(header, 10) == expected


@pytest.mark.parametrize("header", ["bytes=10-", "bytes=10-12", "bytes=5-4", "bytes=-0"])
def test_ranges_behind_the_end(header: str) -> None:
    with pytest.raises(UnsatisfiableRangeError):
        requested(header, 10)


@pytest.mark.parametrize(
    ("header", "length", "expected"),
    [
        (None, 5, Chunk(Span(0, 5), 5)),
        ("bytes 0-4/*", 5, Chunk(Span(0, 5), None)),
        ("bytes 5-9/10", 5, Chunk(Span(5, 10), 10)),
        ("bytes */10", 0, Chunk(None, 10)),
        ("bytes */*", 0, Chunk(None, None)),
    ],
)
def test_chunk(header: str | None, length: int, expected: Chunk) -> None:
    assert chunk(header, length) == expected


@pytest.mark.parametrize("header", ["bytes 0-4/*", "bytes 0-9/5", "bytes=0-3", "nonsense"])
def test_chunks_that_do_not_fit(header: str) -> None:
    with pytest.raises(BadRangeError):
        chunk(header, 4)
