"""What is made of the measured boots, and the shell that measures the baseline."""

import shutil
import subprocess
from pathlib import Path

import pytest

from dev.bench import vm
from dev.bench.vm import Boot, Figures


def figures(cold: float = 20.0) -> Figures:
    phases = {"engine": 0.5, "pull": 6.0, "load": 3.0}
    return Figures(
        cold=[Boot(cold, phases), Boot(cold + 2, phases)],
        reboot=[Boot(4.0, phases | {"pull": 0.1}), Boot(5.0, phases)],
        bare=[1.0, 2.0, 9.0],
    )


def row(lines: list[str], name: str) -> str:
    return next(line for line in lines if line.startswith(name))


def test_rows_have_medians_ratios_to_the_bare_run_and_goals() -> None:
    lines = list(vm.table(figures()))
    assert row(lines, "bare docker run").split()[-3:] == ["2.00", "1.0-9.0", "1.0"]
    same_disk = row(lines, "start call")
    assert "4.50" in same_disk and same_disk.endswith("at most 6: met")
    assert " 2.2 " in same_disk


def test_a_missed_goal_is_said() -> None:
    assert row(list(vm.table(figures(cold=30.0))), "insert call").endswith("at most 30: NOT met")


def test_a_phase_that_nobody_told_is_a_dash() -> None:
    lines = list(vm.table(figures()))
    header = row(lines, "seconds of the phases").split()[-len(vm.PHASES) :]
    told = dict(zip(header, row(lines, "same disk").split()[-len(vm.PHASES) :], strict=True))
    assert told["pull"] == "3.0" and told["certificate"] == "-"


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is needed")
@pytest.mark.parametrize(("microseconds", "seconds"), [(7_000, "0.007"), (1_234_999, "1.234"), (0, "0.000")])
def test_seconds_of_the_baseline(microseconds: int, seconds: str) -> None:
    script = Path(vm.__file__).with_name("bare_run.sh").read_text()
    function = next(line for line in script.splitlines() if line.startswith("seconds_since()"))
    now = "1700000000.000000"
    told = subprocess.run(
        [
            "bash",
            "-c",
            f"{function}\nunset EPOCHREALTIME; EPOCHREALTIME={now}\nseconds_since $1",
            "-",
            str(int(now.replace(".", "")) - microseconds),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.strip() == seconds
