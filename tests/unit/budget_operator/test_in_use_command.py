"""Who may not remove the operator yet is told what is in the way."""

import pytest
from typer.testing import CliRunner

from budget_operator import in_use_command
from budget_operator.cluster.kube import Kube
from budget_operator.core.errors import BudgetError, NotFound, Unavailable
from budget_operator.main import app


def asked(monkeypatch: pytest.MonkeyPatch, found: int | BudgetError) -> tuple[int, str]:
    def listed(_: Kube) -> list[dict[str, dict[str, str]]]:
        if isinstance(found, BudgetError):
            raise found
        return [{"metadata": {"namespace": "default", "name": f"m{number:02}"}} for number in range(found)]

    monkeypatch.setattr(in_use_command, "connect", lambda pool_size: None)
    monkeypatch.setattr(Kube, "__init__", lambda *_: None)
    monkeypatch.setattr(Kube, "all_deployments", listed)
    done = CliRunner().invoke(app, ["in-use"])
    return done.exit_code, done.output


def test_nobody_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert asked(monkeypatch, 0) == (0, "No BudgetDeployments.\n")


def test_a_cluster_that_does_not_know_the_kind_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert asked(monkeypatch, NotFound("list budgetdeployments"))[0] == 0


def test_who_needs_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    code, said = asked(monkeypatch, 12)
    assert code == 1
    assert "default/m00, default/m01" in said
    assert "default/m09 and 2 more." in said
    assert "kubectl delete bd --all" in said


def test_what_cannot_be_told_is_no_consent(monkeypatch: pytest.MonkeyPatch) -> None:
    code, said = asked(monkeypatch, Unavailable("the Kubernetes API does not answer"))
    assert code == 2
    assert "does not answer" in said
