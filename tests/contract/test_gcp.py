"""docs/gcp.md: its commands are commands of gcloud, and those that ask a service are answered."""

import os
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from dev import plain
from dev.conformance.clients import Gcloud, gcloud_environment, warm_gcloud_environment
from dev.paths import ROOT

PROJECT, REGION = "p1", "us-central1"
VARIABLES = {
    "PROJECT": PROJECT,
    "REGION": REGION,
    "account": "vm",
    "role": "vm",
    "REGISTRY": "r/p1/budgetml",
    "MODELS": "m",
}
ASKING = (
    "compute instances list",
    "compute addresses list",
    "scheduler jobs list",
    "pubsub topics list",
    "functions list",
    "storage ls",
)

pytestmark = pytest.mark.skipif(not Gcloud.is_here(), reason="gcloud is not installed")


def commands() -> list[str]:
    """Each as one line, with its variables filled in, without what its output is piped into."""
    text = (ROOT / "docs" / "gcp.md").read_text()
    script = "".join(re.findall(r"^```bash\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)).replace("\\\n", " ")
    for name, value in VARIABLES.items():
        script = re.sub(rf"\$\{{?{name}\b\}}?", value, script)
    return [
        line.strip().partition(" |")[0] for line in script.splitlines() if line.strip().startswith("gcloud ")
    ]


def words(command: str) -> list[str]:
    """The command's own words: what comes before the first thing that the user names."""
    found = []
    for word in shlex.split(command)[1:]:
        if not re.fullmatch(r"[a-z][a-z0-9-]*", word) or word in (PROJECT, REGION, "budgetml"):
            break
        found.append(word)
    return found


@pytest.fixture(scope="module")
def explained() -> Iterator[Callable[..., str]]:
    """What gcloud's help says of a command; empty if there is no such command."""
    settings = {"PAGER": "cat", "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING": "true"}
    with warm_gcloud_environment(os.environ | settings) as environment:

        @cache
        def run(*command: str) -> str:
            done = subprocess.run(
                ["gcloud", *command, "--help"], capture_output=True, text=True, check=False, env=environment
            )
            return done.stdout if done.returncode == 0 else ""

        yield run


@pytest.mark.parametrize("command", commands())
def test_gcloud_knows_the_command_and_its_options(command: str, explained: Callable[..., str]) -> None:
    told = explained(*words(command))
    assert told, f"there is no such command: {command}"
    for option in re.findall(r"(?<!\S)--[a-z0-9-]+", command):
        assert re.search(rf"{option}(?![a-z-])", told), f"{option} of {command}"


@pytest.mark.parametrize("asking", ASKING)
def test_what_is_there_is_listed(asking: str, cloud: Any, tmp_path: Path) -> None:
    (command,) = [line for line in commands() if line.startswith(f"gcloud {asking}")]
    environment = os.environ | gcloud_environment(cloud.url, PROJECT, tmp_path / "config")
    bucket = plain.post(f"{cloud.url}/storage/v1/b", params={"project": PROJECT}, json={"name": "bucket-1"})
    bucket.raise_for_status()  # of none, `gcloud storage ls` says that it is an error
    cloud.recorder.take()
    done = subprocess.run(shlex.split(command), env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    answers = cloud.recorder.take()
    assert answers, "the local cloud was asked"
    assert [problem for answer in answers for problem in answer.problems()] == []
