"""The bytes of objects, as files below the home directory; `objects` knows which file is whose."""

from __future__ import annotations

import base64
import hashlib
import uuid
from pathlib import Path

import google_crc32c

from localcloud.services.storage.ranges import Span


class Blobs:
    """Files are written once under a fresh name and never changed."""

    def __init__(self, home: Path) -> None:
        self._folder = home / "blobs"
        self._folder.mkdir(parents=True, exist_ok=True)

    def write(self, content: bytes) -> str:
        """Keep the content; returns the name to read it by."""
        name = uuid.uuid4().hex
        (self._folder / name).write_bytes(content)
        return name

    def read(self, name: str, span: Span | None = None) -> bytes:
        with (self._folder / name).open("rb") as file:
            if span is None:
                return file.read()
            file.seek(span.first)
            return file.read(span.length)

    def remove(self, name: str) -> None:
        (self._folder / name).unlink(missing_ok=True)


class Parts:
    """What has arrived of resumable uploads."""

    def __init__(self, home: Path) -> None:
        self._folder = home / "uploads"
        self._folder.mkdir(parents=True, exist_ok=True)

    def begin(self) -> str:
        name = uuid.uuid4().hex
        (self._folder / name).touch()
        return name

    def size(self, name: str) -> int:
        return (self._folder / name).stat().st_size

    def append(self, name: str, content: bytes) -> None:
        with (self._folder / name).open("ab") as file:
            file.write(content)

    def finish(self, name: str) -> bytes:
        """All that arrived; the part is gone then."""
        content = (self._folder / name).read_bytes()
        self.drop(name)
        return content

    def drop(self, name: str) -> None:
        (self._folder / name).unlink(missing_ok=True)


def md5(content: bytes) -> str:
    """Base64, as in `md5Hash`."""
    return base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()


def crc32c(content: bytes) -> str:
    """Base64 of the big-endian checksum, as in `crc32c`."""
    return base64.b64encode(int(google_crc32c.value(content)).to_bytes(4, "big")).decode()
