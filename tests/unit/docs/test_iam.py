"""The roles for Google Cloud are files that gcloud takes, and their README grants what the tests bind."""

import json
import os
import re
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest
import yaml

from localcloud import demands, permissions
from localcloud.iam import permissions_in
from tests.simulation.roles import GIVEN, ROLES, bound

FILES = sorted(ROLES.glob("*.yaml"))
PROJECT, BUCKET = "my-project", "my-bucket"
#: Of services that the local cloud does not have: what these are for is said beside them in the roles.
ELSEWHERE = ("artifactregistry.", "eventarc.", "logging.", "run.")
(SCRIPT,) = re.findall(
    r"^```bash\n(.*?)^```$", (ROLES / "README.md").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
)
"""What the README says to run."""
GCLOUD = """#!/usr/bin/env python3
import json, os, sys
with open(os.environ["CALLS"], "a") as file:
    file.write(json.dumps(sys.argv[1:]) + "\\n")
"""


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_role_is_as_gcloud_takes_it(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    role = yaml.safe_load(text)
    assert role.keys() == {"title", "description", "stage", "includedPermissions"}
    assert role["stage"] == "GA"
    assert len(role["title"]) <= 100
    assert len(role["description"]) <= 256
    listed = role["includedPermissions"]
    assert len(set(listed)) == len(listed)
    assert permissions_in(text) == set(listed), "the local cloud reads it as gcloud does"


def test_what_the_local_cloud_cannot_ask_for_is_of_other_services() -> None:
    source = Path(demands.__file__).read_text() + Path(permissions.__file__).read_text()
    instances = {f"compute.instances.set{each}" for each in ("Metadata", "Tags", "Labels", "ServiceAccount")}
    known = (
        instances
        | set(re.findall(r"\b[a-z]+\.[A-Za-z]+\.[A-Za-z]+\b", source))
        | {"iam.serviceAccounts.actAs"}
    )
    unknown = {each for path in FILES for each in permissions_in(path.read_text()) if each not in known}
    assert {each for each in unknown if not each.startswith(ELSEWHERE)} == set()


def commands(tmp_path: Path) -> list[list[str]]:
    """What the README's commands call gcloud with."""
    script = SCRIPT.replace("PROJECT=…  BUCKET=…", f"PROJECT={PROJECT} BUCKET={BUCKET}")
    gcloud, calls = tmp_path / "gcloud", tmp_path / "calls"
    gcloud.write_text(GCLOUD)
    gcloud.chmod(0o755)
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "CALLS": str(calls)}
    subprocess.run(["bash", "-euo", "pipefail", "-c", script], cwd=ROLES, env=env, check=True, timeout=120)
    return [json.loads(line) for line in calls.read_text().splitlines()]


def option(call: list[str], name: str) -> str:
    (value,) = [word.partition("=")[2] for word in call if word.startswith(f"--{name}=")]
    return value


def places(condition: str) -> tuple[str, ...]:
    """Where a role holds, as the local cloud's bindings have it."""
    if condition == "None":
        return (f"projects/{PROJECT}*",)
    assert condition.startswith("title=")
    expression = condition.partition(",expression=")[2]
    exact = re.findall(r"resource\.name == '([^']+)'", expression)
    return (*exact, *(f"{start}*" for start in re.findall(r"startsWith\('([^']+)'\)", expression)))


def test_the_commands_grant_what_the_tests_bind(tmp_path: Path) -> None:
    calls = commands(tmp_path)
    created = {call[3]: option(call, "file") for call in calls if call[:3] == ["iam", "roles", "create"]}
    assert created == {f"budgetml_{path.stem.replace('-', '_')}": path.name for path in FILES}
    accounts = [call[3] for call in calls if call[:3] == ["iam", "service-accounts", "create"]]
    assert accounts == [f"budgetml-{name}" for name in ("operator", *GIVEN)]
    assert all(re.fullmatch(r"[a-z][-a-z0-9]{4,28}[a-z0-9]", name) for name in accounts)
    granted: dict[str, dict[str, tuple[str, ...]]] = defaultdict(dict)
    acts_as = []
    for call in calls:
        if "add-iam-policy-binding" not in call:
            continue
        member = re.fullmatch(r"serviceAccount:budgetml-(.*)@my-project\.iam\..*", option(call, "member"))
        role = created[option(call, "role").rpartition("/")[2]].removesuffix(".yaml")
        assert member is not None
        if call[0] == "projects":
            granted[member[1]][role] = places(option(call, "condition"))
        else:
            assert (member[1], role) == ("operator", "operator-accounts")
            acts_as.append(call[3].partition("@")[0].removeprefix("budgetml-"))
    assert acts_as == list(GIVEN)
    wanted = bound(PROJECT, BUCKET)
    del wanted["operator"]["operator-accounts"]
    everywhere = (f"projects/{PROJECT}*",)
    wanted |= {name: {name: everywhere} for name in ("function-build", "trigger")}
    assert granted == wanted
