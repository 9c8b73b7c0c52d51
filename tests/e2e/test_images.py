"""The operator's image: without rights, without what it does not need, and it runs as its pod does."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from dev import images
from dev.docker import Docker
from dev.paths import ROOT, locked

OPERATOR = "budgetml/operator:local"
MOST = 380 * 10**6  # bytes; 176 of them are the base made of Debian's packages
#: What the pod's security context does to the container, in Docker's words.
AS_A_POD = ("--rm", "--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--security-opt=no-new-privileges")

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def run(docker: Docker) -> Run:
    """A command in the image of the operator, as its pod runs it."""
    with locked("images"):
        images.build(docker, ("operator",))

    def call(*argv: str, settings: tuple[str, ...] = ()) -> Any:
        given = [f"--env={setting}" for setting in settings]
        return docker.run("run", *AS_A_POD, "--network=none", *given, *argv)

    return call


def test_what_is_never_imported_is_not_in_it(run: Run, docker: Docker) -> None:
    assert int(docker("image", "inspect", "--format", "{{.Size}}", OPERATOR)) < MOST
    whole = "import budget_operator.main, budget_operator.cloud.compute_client, budget_operator.cloud.wiring"
    assert run("--entrypoint=python", OPERATOR, "-c", whole).returncode == 0


def test_it_runs_as_nobody_that_counts(run: Run) -> None:
    shown = run("--entrypoint=id", OPERATOR, "-u").stdout.strip()
    assert shown == "10001"
    refused = run("--entrypoint=touch", OPERATOR, "/opt/budget/venv/x")
    assert refused.returncode


def test_it_says_which_settings_are_missing_and_ends(run: Run) -> None:
    ended = run(OPERATOR)
    assert ended.returncode == 2
    said = ended.stdout + ended.stderr
    for name in ("BUDGET_PROJECT", "BUDGET_ZONES", "BUDGET_BUCKET", "BUDGET_IMAGE"):
        assert f"{name} is not set" in said


def test_with_settings_the_cluster_alone_is_missing(run: Run) -> None:
    settings = (
        "BUDGET_PROJECT=project-1",
        "BUDGET_ZONES=us-central1-a",
        "BUDGET_BUCKET=b-1",
        "BUDGET_IMAGE=i",
    )
    ended = run(OPERATOR, settings=settings)
    assert ended.returncode == 2
    assert "no access to Kubernetes" in ended.stdout + ended.stderr


def test_it_holds_the_function_that_it_deploys(run: Run) -> None:
    listed = run("--entrypoint=ls", OPERATOR, "/opt/budget/restart_function").stdout.split()
    assert set(listed) >= {"main.py", "requirements.txt"}
    shown = run("--entrypoint=cat", OPERATOR, "/opt/budget/restart_function/main.py").stdout
    assert shown == (ROOT / "restart_function" / "main.py").read_text()


def test_nothing_that_installs_is_left_in_it(run: Run) -> None:
    modules = run(
        "--entrypoint=python",
        OPERATOR,
        "-c",
        "import importlib.util as u, json; print(json.dumps("
        "{name: bool(u.find_spec(name)) for name in ('pip', 'uv', 'budget_operator', 'kopf')}))",
    ).stdout
    assert json.loads(modules) == {"pip": False, "uv": False, "budget_operator": True, "kopf": True}
