"""The commands of docs/troubleshooting.md and docs/certificates.md, on a real API server."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

from dev.cluster import program
from dev.paths import ROOT
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


def run_blocks(page: Path, kind: str, world: World) -> list[str]:
    """What each block of commands prints; all must succeed."""
    blocks = re.findall(rf"^```{kind}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    kubectl = Path(program("kubectl")).parent
    environment = os.environ | {
        "PATH": f"{kubectl}:{os.environ['PATH']}",
        "KUBECONFIG": str(world.kubectl.kubeconfig),
    }
    return [
        subprocess.run(
            ["bash", "-euc", block], env=environment, capture_output=True, text=True, check=True
        ).stdout
        for block in blocks
    ]
