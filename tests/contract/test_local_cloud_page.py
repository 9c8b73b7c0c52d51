"""The commands of docs/local-cloud.md, as they stand there, asked of a local cloud."""

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from dev.conformance.server import Cloud
from dev.paths import ROOT, VENV_BIN

PAGE = (ROOT / "docs" / "local-cloud.md").read_text()
# what a reader fills in
FILLED = {"NAME": "vm1", "vm@…": "vm@p1.iam.gserviceaccount.com"}
# never ends by itself; without it the same is told
WITHOUT = " --follow"


def commands() -> list[str]:
    scripts = re.findall(r"^```bash\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return [line.partition("  #")[0].strip() for script in scripts for line in script.splitlines()]


def filled(command: str) -> str:
    for name, value in FILLED.items():
        command = command.replace(name, value)
    return command.removesuffix(WITHOUT)


def test_every_command_does_something(cloud: Cloud, discovered: Any, spot_body: Any, tmp_path: Path) -> None:
    instances = discovered("compute.v1").instances()
    instances.insert(project="p1", zone="us-central1-a", body=spot_body()).execute()
    (tmp_path / "operator").symlink_to(ROOT / "operator")
    environment = os.environ | {"PATH": f"{VENV_BIN}:{os.environ['PATH']}", "LOCALCLOUD_URL": cloud.url}
    said, exported = {}, ""
    for command in commands():
        if command.startswith("export "):
            exported += f"{command}\n"
            continue
        done = subprocess.run(
            ["bash", "-c", exported + filled(command)],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        said[command] = done.stdout
    (checked,) = [text for command, text in said.items() if "preflight" in command]
    assert "installation default in project local-project" in checked
    assert "vm1" in said["localcloud ls"]
    assert said["localcloud journal --permission compute.instances.create --effective --count"] == "1\n"
    assert (tmp_path / "key.json").exists()
    assert "operator@local-project.iam.gserviceaccount.com" in said["localcloud iam ls"]
    assert "stock-out" in said["localcloud fault ls"]


@pytest.mark.parametrize("command", [each for each in commands() if each.endswith(WITHOUT)])
def test_what_never_ends_is_an_option_that_is_known(command: str) -> None:
    words = command.split()
    told = subprocess.run(
        [VENV_BIN / words[0], words[1], "--help"], capture_output=True, text=True, check=True
    )
    assert words[-1] in told.stdout
