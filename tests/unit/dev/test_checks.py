"""Checks that run beside others."""

import os
import sys
from pathlib import Path

import pytest

from dev.checks import CHECKS, aside, groups


def test_what_runs_aside_tells_at_its_end() -> None:
    with aside("good", [sys.executable, "-c", "print('done')"], 19) as end:
        result = end()
    assert (result.name, result.passed, result.output) == ("good", True, "done\n")
    with aside("bad", [sys.executable, "-c", "raise SystemExit('broken')"], 19) as end:
        result = end()
    assert (result.passed, result.output) == (False, "broken\n")


def test_the_processor_time_of_all_processes_is_told() -> None:
    burn = "import time\nwhile time.process_time() < 0.4: pass\n"
    program = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {burn!r}], check=True)\n{burn}"
    with aside("busy", [sys.executable, "-c", program], 0) as end:
        assert end().cpu_seconds >= 0.8


def test_what_runs_aside_lets_others_go_first(tmp_path: Path) -> None:
    told = tmp_path / "nice"
    os.mkfifo(told)
    program = """
import os, sys
told = open(sys.argv[1], "w")
told.write(str(os.nice(0)))
if os.path.exists("/proc/self/autogroup"):
    told.write(open("/proc/self/autogroup").read())
"""
    with aside("nice", [sys.executable, "-c", program, str(told)], 12) as end:
        words = told.read_text()
        assert end().passed
    assert words.startswith("12")
    if Path("/proc/self/autogroup").exists():
        assert words.endswith(" nice 12\n")


def test_what_runs_aside_ends_with_the_others(tmp_path: Path) -> None:
    told = tmp_path / "pid"
    os.mkfifo(told)
    program = f"import os, time; open({str(told)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    with pytest.raises(KeyboardInterrupt), aside("endless", [sys.executable, "-c", program], 19):
        pid = int(told.read_text())
        raise KeyboardInterrupt
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def names(*chosen: str) -> list[tuple[str, list[str]]]:
    asked = [check for check in CHECKS if check.name in chosen]
    return [(check.name, beside) for check, beside in groups(asked, ["simulation"])]


def test_what_needs_no_docker_runs_beside_what_does() -> None:
    assert names("unit", "contract", "simulation", "cluster", "e2e", "kind") == [
        ("unit", []),
        ("e2e", ["contract", "cluster"]),
        ("kind", []),
    ]


def test_without_the_other_a_check_runs_in_its_turn() -> None:
    assert names("unit", "contract", "kind") == [("unit", []), ("contract", []), ("kind", [])]
    assert names("cluster", "e2e") == [("e2e", ["cluster"])]
