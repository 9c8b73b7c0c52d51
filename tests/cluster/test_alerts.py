"""The alert rules, judged by Prometheus' own checker."""

import shutil
import subprocess
from pathlib import Path

import pytest

from dev import promtool
from dev.paths import ROOT

MONITORING = ROOT / "operator" / "deploy" / "monitoring"


@pytest.fixture(scope="module")
def program() -> str:
    return promtool.program()


def run(program: str, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    argv = [program, *words]
    return subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=False, timeout=60)


def test_the_rules_are_rules(program: str) -> None:
    done = run(program, MONITORING, "check", "rules", "--lint=all", "--lint-fatal", "alerts.yaml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_fires_when_it_should(program: str) -> None:
    done = run(program, MONITORING, "test", "rules", "alerts-test.yaml")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "before",
    [
        " > 0.5",
        " > 30\n",
        " > 300",
        "> 3 *",
        '"401|403"',
        "5..|none",
        "Failed|Stalled",
        "Starting|Restarting|",
        "|Deleting",
        "Provisioning|",
        "budget_operator_active) > 1",
        "budget_operator_orphans",
        " > 60 *",
    ],
)
def test_a_rule_that_never_fires_is_noticed(program: str, tmp_path: Path, before: str) -> None:
    for file in MONITORING.glob("*.yaml"):
        shutil.copy(file, tmp_path)
    rules = (tmp_path / "alerts.yaml").read_text()
    assert before in rules
    after = before.replace(">", "> 1e9 *") if ">" in before else '"never"' if before[0] == '"' else "never"
    (tmp_path / "alerts.yaml").write_text(rules.replace(before, after, 1))
    assert run(program, tmp_path, "test", "rules", "alerts-test.yaml").returncode == 1
