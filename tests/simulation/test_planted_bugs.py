"""Random histories find bugs: each of these, a line planted in the operator or the function, is found."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from dev.paths import ROOT

BUGS = sorted((Path(__file__).parent / "bugs").glob("*.patch"))
HISTORIES = 120
SOURCES = ("operator/budget_operator", "restart_function")
Played = subprocess.CompletedProcess[str]


def play(bug: Path, folder: Path) -> Played:
    for source in SOURCES:
        shutil.copytree(ROOT / source, folder / source)
    subprocess.run(["git", "apply", "--unidiff-zero", str(bug)], cwd=folder, check=True)
    program = [sys.executable, "-m", "dev.simulation.histories", f"--histories={HISTORIES}", "--no-shrink"]
    environment = os.environ | {"PYTHONPATH": f"{folder / 'operator'}:{ROOT}"}
    return subprocess.run(program, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[Path, Future[Played]]]:
    """All of them, on all cores."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield {bug: pool.submit(play, bug, tmp_path_factory.mktemp(bug.stem)) for bug in BUGS}


def test_each_is_one_line() -> None:
    assert BUGS
    for bug in BUGS:
        changed = [line for line in bug.read_text().splitlines() if line[:1] == "-" and line[:3] != "---"]
        assert len(changed) == 1, f"{bug.name} is more than one line"


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.stem)
def test_a_planted_bug_is_found(bug: Path, played: dict[Path, Future[Played]]) -> None:
    done = played[bug].result()
    assert done.returncode == 1, f"not found in {HISTORIES} histories"
    assert "AssertionError" in done.stderr, done.stderr[-3000:]
    assert "state.teardown()" in done.stderr
