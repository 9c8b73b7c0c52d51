"""Random histories find bugs: these, each a line planted in the operator or the function, are found.

So are they by the short histories in `test_found` that have their names: what no bug can fail proves nothing.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from dev.paths import ROOT

BUGS = sorted((Path(__file__).parent / "bugs").glob("*.patch"))
ENOUGH = 10
HISTORIES = 120
SOURCES = ("operator/budget_operator", "restart_function")
Played = subprocess.CompletedProcess[str]


@dataclass(frozen=True)
class Hunt:
    """What was played with one bug."""

    random: Played
    short: Played


def hunt(bug: Path, folder: Path) -> Hunt:
    for source in SOURCES:
        shutil.copytree(ROOT / source, folder / source)
    subprocess.run(["git", "apply", "--unidiff-zero", str(bug)], cwd=folder, check=True)
    program = ("dev.simulation.histories", f"--histories={HISTORIES}", "--no-shrink")
    story = f"tests/simulation/test_found.py::test_comes_right[{bug.stem}]"
    return Hunt(_run(folder, *program), _run(folder, "pytest", "-p", "no:cacheprovider", story))


def _run(folder: Path, *program: str) -> Played:
    environment = os.environ | {"PYTHONPATH": f"{folder / 'operator'}:{ROOT}"}
    command = [sys.executable, "-m", *program]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def hunts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[Path, Future[Hunt]]]:
    """All of them, on all cores."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield {bug: pool.submit(hunt, bug, tmp_path_factory.mktemp(bug.stem)) for bug in BUGS}


def test_each_is_one_line() -> None:
    assert len(BUGS) >= ENOUGH
    for bug in BUGS:
        changed = [line for line in bug.read_text().splitlines() if line[:1] == "-" and line[:3] != "---"]
        assert len(changed) == 1, f"{bug.name} is more than one line"


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.stem)
def test_a_planted_bug_is_found(bug: Path, hunts: dict[Path, Future[Hunt]]) -> None:
    found = hunts[bug].result()
    assert found.random.returncode == 1, f"not found in {HISTORIES} histories"
    assert "AssertionError" in found.random.stderr, found.random.stderr[-3000:]
    assert "state.teardown()" in found.random.stderr
    assert found.short.returncode == 1, found.short.stdout[-3000:]
    assert "1 failed" in found.short.stdout
