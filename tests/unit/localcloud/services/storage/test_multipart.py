"""Bodies of uploads as Python clients and gcloud write them."""

from __future__ import annotations

import pytest

from localcloud.services.storage.multipart import BadMultipartError, boundary_of, parse

CONTENT = b"\r\n--not the boundary\nPK\x03\x04\x00\xff\r\n\r"


def body(newline: bytes, boundary: bytes, content: bytes = CONTENT) -> bytes:
    lines = [
        b"--" + boundary,
        b"Content-Type: application/json; charset=UTF-8",
        b"",
        b'{"name": "a"}',
        b"--" + boundary,
        b"content-type: application/zip",
        b"MIME-Version: 1.0",
        b"",
        content,
        b"--" + boundary + b"--",
    ]
    return newline.join(lines)


@pytest.mark.parametrize("newline", [b"\r\n", b"\n"])
@pytest.mark.parametrize("quote", ["", '"', "'"])
def test_content_is_kept_byte_for_byte(newline: bytes, quote: str) -> None:
    content_type = f"multipart/related; boundary={quote}===============123=={quote}"
    first, second = parse(content_type, body(newline, b"===============123=="))
    assert first.body == b'{"name": "a"}'
    assert second.body == CONTENT
    assert second.headers == {"content-type": "application/zip", "mime-version": "1.0"}


@pytest.mark.parametrize("content", [b"", b"\n", b"\r\n", b"--"])
def test_small_contents(content: bytes) -> None:
    assert parse("multipart/related; boundary=b", body(b"\r\n", b"b", content))[1].body == content


def test_a_preamble_is_skipped() -> None:
    assert len(parse("multipart/related; boundary=b", b"hello\r\n" + body(b"\r\n", b"b"))) == 2


def test_a_body_cut_off_is_refused() -> None:
    whole = body(b"\r\n", b"boundary")
    for cut in (len(whole) - 2, len(whole) - 20, 60):
        with pytest.raises(BadMultipartError):
            parse("multipart/related; boundary=boundary", whole[:cut])


def test_a_missing_boundary_is_named() -> None:
    with pytest.raises(BadMultipartError, match="no boundary"):
        boundary_of("multipart/related")
    with pytest.raises(BadMultipartError, match="does not occur"):
        parse("multipart/related; boundary=x", b"nothing")
