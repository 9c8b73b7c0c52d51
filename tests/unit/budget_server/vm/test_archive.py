"""Archives of users: what comes out lies where it should, and what should not come out is named."""

import io
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from budget_server.vm import archive
from budget_server.vm.archive import unpack
from budget_server.vm.errors import CodeInvalid, Interrupted

Files = dict[str, bytes]


def zipped(path: Path, files: Files, compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as made:
        for name, content in files.items():
            made.writestr(name, content)
    return path


def tarred(path: Path, files: Files) -> Path:
    with tarfile.open(path, "w:gz") as made:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            made.addfile(entry, io.BytesIO(content))
    return path


KINDS: dict[str, Callable[[Path, Files], Path]] = {"zip": zipped, "tar.gz": tarred}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def into(tmp_path: Path) -> Path:
    (tmp_path / "code").mkdir()
    return tmp_path / "code"


def made(kind: str, tmp_path: Path, files: Files) -> Path:
    return KINDS[kind](tmp_path / "archive", files)


def refused(path: Path, kind: str, into: Path) -> str:
    with pytest.raises(CodeInvalid) as caught:
        unpack(path, kind, into, lambda: False)
    return caught.value.message


def test_files_come_out_readable_by_all(kind: str, tmp_path: Path, into: Path) -> None:
    large = bytes(range(256)) * 10_000
    files = {"predictor.py": b"x = 1", "data/sub/model.pkl": large, "./notes.txt": b""}
    unpack(made(kind, tmp_path, files), kind, into, lambda: False)
    assert (into / "predictor.py").read_bytes() == b"x = 1"
    assert (into / "data" / "sub" / "model.pkl").read_bytes() == large
    assert (into / "notes.txt").read_bytes() == b""
    assert {stat.S_IMODE(path.stat().st_mode) for path in into.rglob("*") if path.is_file()} == {0o644}


@pytest.mark.parametrize("name", ["../out", "a/../../out", "/etc/out", "a\\..\\out"])
def test_names_that_lead_elsewhere_are_refused(kind: str, tmp_path: Path, into: Path, name: str) -> None:
    path = made(kind, tmp_path, {name: b"x"})
    assert refused(path, kind, into).startswith("it holds a name that leads elsewhere: ")
    assert not (tmp_path / "out").exists()


def test_links_in_a_zip_are_refused(tmp_path: Path, into: Path) -> None:
    entry = zipfile.ZipInfo("link")
    entry.create_system, entry.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as opened:
        opened.writestr(entry, "/etc/passwd")
    assert refused(tmp_path / "a.zip", "zip", into) == "it holds a link or device: 'link'"


@pytest.mark.parametrize("special", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_a_tar_are_refused(tmp_path: Path, into: Path, special: bytes) -> None:
    entry = tarfile.TarInfo("link")
    entry.type, entry.linkname = special, "/etc/passwd"
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as opened:
        opened.addfile(entry)
    assert refused(tmp_path / "a.tar.gz", "tar.gz", into) == "it holds a link or device: 'link'"
    assert list(into.iterdir()) == []


def test_more_files_than_there_may_be_are_refused(
    kind: str, tmp_path: Path, into: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "MOST_FILES", 3)
    unpack(made(kind, tmp_path, {f"{number}.py": b"" for number in range(3)}), kind, into, lambda: False)
    path = made(kind, tmp_path, {f"more/{number}.py": b"" for number in range(4)})
    assert refused(path, kind, into) == "it holds more than 3 files"


def test_a_bomb_is_ended_at_the_limit(
    kind: str, tmp_path: Path, into: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "MOST_MIB", 8)
    path = made(kind, tmp_path, {"a": bytes(5 * 2**20), "b": bytes(50 * 2**20)})
    assert path.stat().st_size < 2**20
    assert refused(path, kind, into) == "unpacked it has more than 8 MiB"
    assert sum(each.stat().st_size for each in into.iterdir()) <= 8 * 2**20


def test_what_an_archive_says_of_its_sizes_is_not_believed(
    tmp_path: Path, into: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "MOST_MIB", 8)
    path = zipped(tmp_path / "a.zip", {"a": bytes(50 * 2**20)})
    said = (50 * 2**20).to_bytes(4, "little")
    path.write_bytes(path.read_bytes().replace(said, (5).to_bytes(4, "little")))
    refused(path, "zip", into)
    assert sum(each.stat().st_size for each in into.iterdir()) <= 8 * 2**20


@pytest.mark.parametrize("names", [("a", "a"), ("a", "a/b"), ("a/b", "a")])
def test_two_things_of_one_name_are_refused(
    kind: str, tmp_path: Path, into: Path, names: tuple[str, str]
) -> None:
    path = tmp_path / "archive"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as opened:
            for name in names:
                opened.writestr(name, "x")
    else:
        with tarfile.open(path, "w:gz") as packed:
            for name in names:
                packed.addfile(tarfile.TarInfo(name))
    assert "in it" in refused(path, kind, into) or "two things" in refused(path, kind, into)


@pytest.mark.parametrize("cut", [0, 10, 200])
def test_what_is_cut_short_is_refused(kind: str, tmp_path: Path, into: Path, cut: int) -> None:
    path = made(kind, tmp_path, {"a": bytes(range(256)) * 100})
    path.write_bytes(path.read_bytes()[:cut])
    assert refused(path, kind, into).startswith(f"it is not a {kind} that can be read: ")


def test_an_encrypted_zip_is_refused(tmp_path: Path, into: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"a": b"x"}, zipfile.ZIP_STORED)
    content = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + offset] |= 1
    path.write_bytes(bytes(content))
    assert "encrypted" in refused(path, "zip", into)


def test_newer_intent_ends_it(kind: str, tmp_path: Path, into: Path) -> None:
    with pytest.raises(Interrupted):
        unpack(made(kind, tmp_path, {"a": b"x"}), kind, into, lambda: True)
