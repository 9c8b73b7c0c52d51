"""Operator, VM and function go by the same limit: each in its own language, with the same answer."""

import importlib.util
import subprocess
import sys
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from budget_operator.core.budget import NANO, Limit

ROOT = Path(__file__).parents[3]
STARTUP = ROOT / "operator" / "budget_operator" / "boot" / "startup.sh"

MONTHS = st.dates(date(2026, 1, 1), date(2030, 12, 31)).map(lambda day: f"{day:%Y-%m}")
MOMENTS = st.integers(1_767_225_600, 1_924_991_999)  # of the same years
RATE = st.integers(1, NANO)
LIMITS = st.builds(
    Limit,
    month=MONTHS,
    deadline=MOMENTS,
    monthly=st.integers(NANO // 100, 100_000 * NANO),
    running=RATE,
    stopped=RATE,
)


@pytest.fixture(scope="module")
def function() -> Any:
    spec = importlib.util.spec_from_file_location("limits_main", ROOT / "restart_function" / "main.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def hosts_answers(folder: Path, asked: list[tuple[Limit, int]]) -> list[bool]:
    """What the script says, of all of them in one bash."""
    lines = [f"source {STARTUP}", f"HOME={folder}"]
    for limit, now in asked:
        lines += [f"echo '{limit.document}' >$HOME/limit", f"is_off_limits {now} && echo over || echo on"]
    done = subprocess.run(["bash"], input="\n".join(lines), capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return [line == "over" for line in done.stdout.splitlines()]


@settings(max_examples=20, deadline=None)
@given(asked=st.lists(st.tuples(LIMITS, MOMENTS), min_size=20, max_size=40))
def test_all_three_say_the_same(
    tmp_path_factory: pytest.TempPathFactory, function: Any, asked: list[tuple[Limit, int]]
) -> None:
    host = hosts_answers(tmp_path_factory.mktemp("host"), asked)
    for (limit, now), off in zip(asked, host, strict=True):
        operator = limit.is_over(datetime.fromtimestamp(now, UTC))
        told = function.Limit(limit.month, limit.deadline, limit.monthly, limit.running, limit.stopped)
        assert told.is_over(float(now)) == operator, (limit, now)
        # Where a VM that is off costs more than one that runs, only the operator switches it off.
        assert off == (operator and limit.running > limit.stopped), (limit, now)


def test_the_moments_around_a_deadline(tmp_path: Path, function: Any) -> None:
    limit = Limit("2026-11", 1_795_000_000, 10 * NANO, 20_000_000, 5_000_000)
    december = 1_796_083_200 + (10 * NANO - 744 * 5_000_000) * 3600 // 15_000_000
    moments = [each + late for each in (1_795_000_000, december) for late in (-1, 0, 1)]
    moments += [1_796_083_199, 1_796_083_200]  # the last second of November, and the first of December
    expected = [False, True, True, False, True, True, True, False]
    assert hosts_answers(tmp_path, [(limit, now) for now in moments]) == expected
    assert [limit.is_over(datetime.fromtimestamp(now, UTC)) for now in moments] == expected
    told = function.Limit(limit.month, limit.deadline, limit.monthly, limit.running, limit.stopped)
    assert [told.is_over(now) for now in moments] == expected
