"""Archives that users made: unpacked within limits, or refused with the name of what is wrong.

Only plain files and folders come out, and nothing outside of the folder given. What was refused may lie there
half unpacked: whoever calls throws it away. The operator's own bundles are the business of `artifact`.
"""

import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from budget_server.vm.errors import CodeInvalid, Interrupted

MOST_FILES = 10_000
MOST_MIB = 5120
_CHUNK = 2**20
#: What the standard library raises of an archive that is cut short, damaged, encrypted or of a newer kind.
_UNREADABLE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,
    RuntimeError,
)


@dataclass(frozen=True)
class _Entry:
    name: str
    kind: str  # file, folder, or what it is instead
    read: Callable[[], IO[bytes]]


def unpack(archive: Path, kind: str, into: Path, given_up: Callable[[], bool]) -> None:
    """Unpack a `zip` or `tar.gz`; its files are readable by everybody.

    Raises:
        CodeInvalid: without the name of the archive.
        Interrupted: given up meanwhile.
    """
    try:
        _unpack(_zip(archive) if kind == "zip" else _tar(archive), into, given_up)
    except _UNREADABLE as error:
        raise CodeInvalid(f"it is not a {kind} that can be read: {error}") from error


def _zip(archive: Path) -> Iterator[_Entry]:
    with zipfile.ZipFile(archive) as opened:
        for info in opened.infolist():
            mode = info.external_attr >> 16
            special = stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR)
            kind = "folder" if info.is_dir() else "link or device" if special else "file"
            yield _Entry(info.filename, kind, partial(opened.open, info))


def _tar(archive: Path) -> Iterator[_Entry]:
    """As a stream: the list of its entries would have to be unpacked, too."""
    with tarfile.open(archive, "r|gz") as opened:
        for info in opened:
            kind = "folder" if info.isdir() else "file" if info.isfile() else "link or device"
            yield _Entry(info.name, kind, partial(_content, opened, info))


def _content(opened: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    found = opened.extractfile(info)
    assert found is not None  # it is a file
    return found


def _unpack(entries: Iterator[_Entry], into: Path, given_up: Callable[[], bool]) -> None:
    left = MOST_MIB * 2**20
    for count, entry in enumerate(entries, 1):
        if count > MOST_FILES:
            raise CodeInvalid(f"it holds more than {MOST_FILES} files")
        name = PurePosixPath(entry.name)
        if name.is_absolute() or ".." in name.parts or "\\" in entry.name or "\0" in entry.name:
            raise CodeInvalid(f"it holds a name that leads elsewhere: {entry.name!r}")
        if entry.kind == "folder":
            _make_folder(into / name)
        elif entry.kind == "file":
            left -= _write(entry, into / name, left, given_up)
        else:
            raise CodeInvalid(f"it holds a {entry.kind}: {entry.name!r}")


def _write(entry: _Entry, target: Path, left: int, given_up: Callable[[], bool]) -> int:
    """The bytes that were written: what an archive says of its sizes is not believed."""
    _make_folder(target.parent)
    size = 0
    try:
        with entry.read() as source, target.open("xb") as file:
            while chunk := source.read(_CHUNK):
                if given_up():
                    raise Interrupted
                size += len(chunk)
                if size > left:
                    raise CodeInvalid(f"unpacked it has more than {MOST_MIB} MiB")
                file.write(chunk)
    except FileExistsError:
        raise CodeInvalid(f"it holds two things of the name {entry.name!r}") from None
    target.chmod(0o644)
    return size


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise CodeInvalid(f"{folder.name!r} is a file and a folder in it") from None
