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
    (tmp_path / "proc" / "7").mkdir(parents=True)
    (tmp_path / "proc" / "7" / "statm").write_text(
        f"900 {90 * 2**20 // os.sysconf('SC_PAGE_SIZE')} 100 1 0 5 0\n"
    )
    found = usage([7, 8], path, tmp_path)
    assert found.document() == {
        "workers": [{"pid": 7, "rssMiB": 90}],
        "memory": {"totalMiB": 2048, "availableMiB": 1024},
    }
    many = Usage(tuple((pid, 0) for pid in range(999))).document()["workers"]
    assert isinstance(many, list) and len(many) == 32
    assert usage([8], tmp_path / "none", tmp_path).document() == {}


V1 = "4:memory:/docker/x\n0::/\n"
V2 = "0::/\n"
STAT_1 = "cache 700\nhierarchical_memory_limit {limit}\ntotal_rss 300\ntotal_shmem 50\ntotal_cache 650\n"
STAT_2 = "anon 300\nactive_file 400\ninactive_file 200\n"


@pytest.mark.parametrize(
    ("cgroup", "files", "seen"),
    [
        (V1, {"memory/memory.stat": STAT_1.format(limit=1000)}, (1000, 650)),
        (V1, {"memory/docker/x/memory.stat": STAT_1.format(limit=1000)}, (1000, 650)),
        (V1, {"memory/memory.stat": STAT_1.format(limit=9223372036854771712)}, (4096, 2048)),
        (V1, {"memory/memory.stat": STAT_1.format(limit=100)}, (100, 0)),
        (V2, {"memory.stat": STAT_2, "memory.max": "1000\n", "memory.current": "950\n"}, (1000, 650)),
        (V2, {"memory.stat": STAT_2, "memory.max": "max\n", "memory.current": "950\n"}, (4096, 2048)),
        (V2, {"memory.stat": STAT_2}, (4096, 2048)),
        (V2, {"memory.stat": STAT_2, "memory.max": "100000\n", "memory.current": "950\n"}, (4096, 2048)),
    ],
    ids=["v1", "v1 of the host", "v1 unlimited", "v1 full", "v2", "v2 unlimited", "v2 without", "v2 wider"],
)
def test_where_a_control_group_is_narrower_it_counts(
    tmp_path: Path, cgroup: str, files: dict[str, str], seen: tuple[int, int]
) -> None:
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "proc" / "self" / "cgroup").write_text(cgroup)
    (tmp_path / "meminfo").write_text("MemTotal: 4 kB\nMemAvailable: 2 kB\n")
    for name, text in files.items():
        path = tmp_path / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    found = usage([], tmp_path / "meminfo", tmp_path)
    assert (found.total, found.available) == seen


def test_short_is_less_than_wanted() -> None:
    assert short(2, 1)
    assert not short(2, 2)
