"""How much memory there is, and how much is used."""

import os
from pathlib import Path

import pytest

from budget_server.vm.room import Usage, available, short, usage, used


def test_what_is_free_is_read_as_the_kernel_writes_it(tmp_path: Path) -> None:
    path = tmp_path / "meminfo"
    path.write_text("MemTotal:  2000 kB\nMemAvailable:     1500 kB\nHugePages_Total:       0\n")
    assert available(path) == 1500 * 1024
    assert available(Path("/proc/meminfo"))


@pytest.mark.parametrize("text", ["", "MemTotal: 3 kB\n", "MemAvailable: much\n", "MemAvailable:\n"])
def test_a_machine_that_does_not_tell_has_enough(tmp_path: Path, text: str) -> None:
    path = tmp_path / "meminfo"
    path.write_text(text)
    assert available(path) is None
    assert available(tmp_path / "none") is None
    assert not short(1, None)


def test_used_is_what_is_not_shared_and_the_ended_use_nothing(tmp_path: Path) -> None:
    for pid, statm in (("1", "900 300 100 1 0 5 0\n"), ("2", "900 50 60 1 0 5 0\n"), ("3", "")):
        (tmp_path / pid).mkdir()
        (tmp_path / pid / "statm").write_text(statm)
    assert used([1, 2, 3, 4], tmp_path) == 200 * os.sysconf("SC_PAGE_SIZE")
    assert used([os.getpid()]) > 1024**2


def test_usage_is_told_in_mib_of_a_few_workers(tmp_path: Path) -> None:
    path = tmp_path / "meminfo"
    path.write_text("MemTotal:  2097152 kB\nMemAvailable:     1048576 kB\n")
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "statm").write_text(f"900 {90 * 2**20 // os.sysconf('SC_PAGE_SIZE')} 100 1 0 5 0\n")
    found = usage([7, 8], path, tmp_path)
    assert found.document() == {
        "workers": [{"pid": 7, "rssMiB": 90}],
        "memory": {"totalMiB": 2048, "availableMiB": 1024},
    }
    many = Usage(tuple((pid, 0) for pid in range(999))).document()["workers"]
    assert isinstance(many, list) and len(many) == 32
    assert usage([8], tmp_path / "none", tmp_path).document() == {}


def test_short_is_less_than_wanted() -> None:
    assert short(2, 1)
    assert not short(2, 2)
