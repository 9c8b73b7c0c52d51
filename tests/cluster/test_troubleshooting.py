"""The commands of docs/troubleshooting.md, as they stand there, on a real API server."""

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
SPEC = {"predictor": {"configMap": {"name": "absent"}}}


def test_every_command_answers(world: World, operator: Any) -> None:
    world.kubectl("apply", "-f", "-", input=json.dumps(deployment("iris", SPEC)))

    def stalled() -> bool:
        return bool(world.kubectl.json("get", "bd", "iris").get("status", {}).get("state") == "Stalled")

    until(stalled, 60, lambda: world.kubectl("describe", "bd", "iris").stdout)
    blocks = re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    kubectl = Path(program("kubectl")).parent
    environment = {"PATH": f"{kubectl}:{os.environ['PATH']}", "KUBECONFIG": str(world.kubectl.kubeconfig)}
    said = [
        subprocess.run(
            ["bash", "-euc", block], env=environment, capture_output=True, text=True, check=True
        ).stdout
        for block in blocks
    ]
    world.kubectl("delete", "bd", "iris", "--timeout=60s")
    assert len(said) == 3
    assert said[0].count("ReferenceMissing") >= 3, "list, description and events tell the reason"
    assert (
        said[2].strip()
        == world.kubectl.json("get", "lease", "budget-operator", "-n=budgetml-system")["spec"][
            "holderIdentity"
        ]
    )
