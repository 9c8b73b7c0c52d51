"""The commands of docs/troubleshooting.md and docs/certificates.md, on a real API server."""

import json
import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from budget_operator.core.names import Owner
from budget_operator.core.orphans import verdicts
from budget_operator.main import app
from dev import environment
from dev.cluster import program
from dev.paths import ROOT, TEST_CLUSTER
from dev.progress import until
from tests.cluster.world import World, deployment

PAGE = ROOT / "docs" / "troubleshooting.md"
CERTIFICATES = ROOT / "docs" / "certificates.md"
SPEC = {"predictor": {"configMap": {"name": "absent"}}}


def test_every_command_answers(world: World, operator: Any) -> None:
    world.kubectl("apply", "-f", "-", input=json.dumps(deployment("iris", SPEC)))

    def stalled() -> bool:
        return bool(world.kubectl.json("get", "bd", "iris").get("status", {}).get("state") == "Stalled")

    until(stalled, 60, lambda: world.kubectl("describe", "bd", "iris").stdout)
    said = run_blocks(PAGE, "sh", world)
    world.kubectl("delete", "bd", "iris", "--timeout=60s")
    assert len(said) == 3
    assert said[0].count("ReferenceMissing") >= 3, "list, description and events tell the reason"
    assert (
        said[2].strip()
        == world.kubectl.json("get", "lease", "budget-operator", "-n=budgetml-system")["spec"][
            "holderIdentity"
        ]
    )


def test_a_name_is_led_to_the_address_that_is_told(world: World, operator: Any) -> None:
    endpoint = {"host": "model.acme.org", "tls": {"mode": "Acme", "email": "ops@acme.org"}}
    predictor = {"inline": "class Predictor: ..."}
    spec = {"predictor": predictor, "endpoint": endpoint}
    world.kubectl("apply", "-f", "-", input=json.dumps(deployment("model", spec)))

    def told() -> bool:
        has_address = "ip" in world.deployment("model").get("status", {})
        return has_address and bool(world.conditions("model").get("CertificateValid", {}).get("message"))

    until(told, 60, lambda: world.kubectl("describe", "bd", "model").stdout)
    (said,) = run_blocks(CERTIFICATES, "bash", world)
    status = world.deployment("model")["status"]
    world.kubectl("delete", "bd", "model", "--timeout=60s")
    assert said.startswith(status["ip"])
    assert len(said) > len(status["ip"])


def test_without_an_operator_nothing_stays_for_ever(
    world: World, operator: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A namespace that ends after its operator: the objects go by hand, and then what they have left."""
    by_hand, orphans = blocks(PAGE, "bash")
    vm, namespace = Owner("default", "team-b", "doomed").cloud_name, "namespace/team-b"
    document = deployment("doomed", {"predictor": {"inline": "class Predictor: ..."}})
    world.kubectl("create", "namespace", "team-b")
    world.apply({**document, "metadata": {"name": "doomed", "namespace": "team-b"}})
    made = ("InstanceRunning", "KeepAliveArmed")
    world.wait("doomed", lambda found: all(found[kind]["status"] == "True" for kind in made), 60, "team-b")
    operator.process.kill()
    try:
        world.kubectl("delete", namespace, "--wait=false")
        until(lambda: is_stuck(world), 60, "the namespace does not wait for the finalizer")
        assert "patched" in run(by_hand, world, NAMESPACE="team-b")
        world.kubectl("wait", "--for=delete", namespace, "--timeout=60s")
        assert world.names("instance") == world.names("address") == [vm], "the cloud has heard nothing"
        monkeypatch.setattr(verdicts, "GRACE", verdicts.GRACE * 0)
        program, *arguments = shlex.split(orphans)
        assert program == "budget-operator"
        done = CliRunner().invoke(app, arguments, env=command_environment(world))
        assert done.exit_code == 0, done.output
        assert world.resources() == []
    finally:
        operator.start()
        operator.until_active()


def is_stuck(world: World) -> bool:
    conditions = world.kubectl.json("get", "namespace", "team-b")["status"].get("conditions", ())
    told = {each["type"]: each["status"] for each in conditions}
    return told.get("NamespaceFinalizersRemaining") == "True"


def command_environment(world: World) -> dict[str, str]:
    """The settings of the operator that there was."""
    return environment.operator(TEST_CLUSTER) | {"BUDGET_API_ENDPOINT": f"http://127.0.0.1:{world.port}"}


def blocks(page: Path, kind: str) -> list[str]:
    """Each block of commands of this kind."""
    return re.findall(rf"^```{kind}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def run_blocks(page: Path, kind: str, world: World) -> list[str]:
    """What each block of commands prints; all must succeed."""
    return [run(block, world) for block in blocks(page, kind)]


def run(block: str, world: World, **more: str) -> str:
    kubectl = Path(program("kubectl")).parent
    given = os.environ | {
        "PATH": f"{kubectl}:{os.environ['PATH']}",
        "KUBECONFIG": str(world.kubectl.kubeconfig),
    }
    return subprocess.run(
        ["bash", "-euc", block], env=given | more, capture_output=True, text=True, check=True
    ).stdout
