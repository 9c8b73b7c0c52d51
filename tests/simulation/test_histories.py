"""Random histories, all of which come right; how often each action met each fault and trouble is printed."""

import json
import math
import os
import statistics
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from dev.paths import ROOT

HISTORIES = 1000
"""That are played to their end. Hypothesis begins a fifth more, and cuts them short after some steps."""
MEDIAN_STEPS = 30
FIRST_SEED = 100


def play(number: int) -> dict[str, Any]:
    """A part of them, on one core."""
    share = math.ceil(HISTORIES / (os.cpu_count() or 1))
    program = [sys.executable, "-m", "dev.simulation.histories"]
    program += [f"--histories={share}", f"--seed={FIRST_SEED + number}"]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-8000:]
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_every_history_comes_right(capsys: pytest.CaptureFixture[str]) -> None:
    workers = os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        played = list(pool.map(play, range(workers)))
    met: Counter[tuple[str, str]] = Counter()
    for each in played:
        met.update({(action, fault): count for action, fault, count in each["met"]})
    steps = [count for each in played for count in each["steps"]]
    passes = sum(each["passes"] for each in played)
    with capsys.disabled():
        print(f"\n{len(steps)} histories, {sum(steps)} steps, {passes} passes")
        print("\n".join(table(met)))
    assert len(steps) >= HISTORIES
    assert statistics.median(steps) >= MEDIAN_STEPS


def table(met: Counter[tuple[str, str]]) -> list[str]:
    """A line for each fault, a column for each action."""
    actions = sorted({action for action, _ in met})
    faults = sorted({fault for _, fault in met})
    width = max(map(len, faults))
    head = " ".join(f"{action[:9]:>9}" for action in actions)
    lines = [
        f"{fault:<{width}} " + " ".join(f"{met[action, fault] or '':>9}" for action in actions)
        for fault in faults
    ]
    return [f"{'':<{width}} {head}", *lines]
