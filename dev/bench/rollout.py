"""Rollouts under load: the test of the VM that holds the load generator, with more of them than usual."""

import os
import subprocess

from dev.paths import ROOT, VENV_BIN

TEST = "tests/unit/budget_server/vm/test_rollout.py::test_no_request_is_lost_or_mixed_under_load"


def run(rollouts: int) -> bool:
    """Whether no request was lost or mixed; the figures go to the terminal."""
    command = [
        str(VENV_BIN / "python"),
        "-m",
        "pytest",
        "-q",
        "--tb=short",
        "-rP",
        "--show-capture=stdout",
        TEST,
    ]
    environ = os.environ | {"BUDGET_TEST_ROLLOUTS": str(rollouts)}
    return subprocess.run(command, cwd=ROOT, env=environ, check=False).returncode == 0
