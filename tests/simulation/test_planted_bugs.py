"""Random histories find bugs: each of these, a line planted in the operator or the function, is found."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dev.paths import ROOT

BUGS = sorted((Path(__file__).parent / "bugs").glob("*.patch"))
HISTORIES = 80
SOURCES = ("operator/budget_operator", "restart_function")


def test_there_are_enough_of_them() -> None:
    assert len(BUGS) >= 10
    for bug in BUGS:
        changed = [line for line in bug.read_text().splitlines() if line[:1] == "-" and line[:3] != "---"]
        assert len(changed) == 1, f"{bug.name} is more than one line"


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.stem)
def test_a_planted_bug_is_found(bug: Path, tmp_path: Path) -> None:
    for source in SOURCES:
        shutil.copytree(ROOT / source, tmp_path / source)
    subprocess.run(["git", "apply", "--unidiff-zero", str(bug)], cwd=tmp_path, check=True)
    program = [sys.executable, "-m", "dev.simulation.histories", f"--histories={HISTORIES}", "--no-shrink"]
    environment = os.environ | {"PYTHONPATH": f"{tmp_path / 'operator'}:{ROOT}"}
    played = subprocess.run(
        program, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1200, check=False
    )
    assert played.returncode == 1, f"not found in {HISTORIES} histories"
    assert "AssertionError" in played.stderr, played.stderr[-3000:]
    assert "state.teardown()" in played.stderr
