"""The guide to Google Cloud from a key to the end, command for command, with the local cloud for Google.

What the guide makes with gcloud before that (accounts, roles, images) is not repeated here; gcloud's commands
are `contract/test_gcp.py`'s.
"""

import os
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dev import environment, helm
from dev.cluster import program
from dev.demo import Story
from dev.kind import cluster, install
from dev.kind.install import KindStack
from dev.paths import KIND, ROOT, VENV_BIN

GUIDE = (ROOT / "docs" / "gcp.md").read_text()
OPERATOR = f"budgetml-operator@{environment.PROJECT}.iam.gserviceaccount.com"
CHECK = "job/budget-operator-uninstall-check --namespace=budgetml-system"
Bash = Callable[[str], str]


def block(beginning: str) -> str:
    """The one block of commands of the guide in which a line begins so."""
    found = re.findall(r"^```bash\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
    (one,) = [each for each in found if re.search(rf"^{re.escape(beginning)}", each, re.MULTILINE)]
    return str(one)


def without_gcloud(script: str) -> str:
    """What of it speaks to the cluster."""
    joined = script.replace("\\\n", " ")
    joined = re.sub(r"^for .*?^done$", "", joined, flags=re.MULTILINE | re.DOTALL)
    return "\n".join(line for line in joined.splitlines() if not line.startswith("gcloud "))


@pytest.fixture
def bash(running: KindStack, tmp_path: Path) -> Bash:
    """A shell in a copy of the checkout's root, with the guide's variables."""
    for name in ("operator", "crds", "examples"):
        (tmp_path / name).symlink_to(ROOT / name)
    programs = [str(Path(each).parent) for each in (program("kubectl"), helm.program())]
    given = {
        "PATH": os.pathsep.join((*programs, os.environ["PATH"])),
        "KUBECONFIG": str(KIND.kubeconfig),
        "PROJECT": environment.PROJECT,
        "REGION": "us-central1",
        "ZONES": environment.ZONES,
        "BUCKET": environment.BUCKET,
        "REGISTRY": "registry.budget.internal/budgetml",
    }

    def run(script: str) -> str:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=tmp_path,
            env=os.environ | given,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
        return done.stdout

    return run


@pytest.fixture
def emptied(running: KindStack) -> Iterator[None]:
    """A cluster with the local cloud alone, and the operator's image by the name that the guide gives it."""
    running.kubectl("delete", "bd", "--all", "--all-namespaces", "--timeout=120s")
    base = install.OVERLAY.parent / "base"
    running.kubectl("delete", "--kustomize", base, "--ignore-not-found", "--timeout=120s")
    name = "registry.budget.internal/budgetml/operator:0.1.0"
    running.docker("tag", "budgetml/operator:local", name)
    cluster.bring(running.docker, KIND, name)
    yield
    running.docker("rmi", name)


@pytest.mark.usefixtures("emptied")
def test_the_guide_leads_to_a_model_and_leaves_nothing(
    running: KindStack, story: Story, bash: Bash, tmp_path: Path
) -> None:
    cloud = f"http://{node_address(running)}:{cluster.CLOUD_PORT}"
    key = [str(VENV_BIN / "localcloud"), "iam", "key", OPERATOR, str(tmp_path / "key.json"), "--url", cloud]
    subprocess.run(key, check=True, capture_output=True)
    bash(without_gcloud(block("kubectl create secret generic")))
    assert not (tmp_path / "key.json").exists()

    install_with = without_gcloud(block("helm upgrade --install")).rstrip()
    here = {
        "googleKeySecret": "budget-operator-google",
        "settings.BUDGET_API_ENDPOINT": cloud,
        "networkPolicy.extraEgressPorts": f"{{{cluster.CLOUD_PORT}}}",
    }
    bash(install_with + "".join(f" --set {name}={shlex.quote(value)}" for name, value in here.items()))
    bash(block("kubectl rollout status"))
    checked = bash(f"{block('kubectl exec').strip()} || test $? -lt 3")
    assert re.search(rf"^ok +credentials +of {OPERATOR}, and Google accepts them$", checked, re.MULTILINE), (
        checked
    )
    assert re.search(r"^ok +settings +installation .*zones us-central1-a", checked, re.MULTILINE), checked
    assert re.search(r"^ok +operator +", checked, re.MULTILINE), checked
    said = bash(block("kubectl apply -f examples/iris"))
    assert re.search(r"^iris +True +Serving +https://", said, re.MULTILINE), said

    remove = without_gcloud(block("kubectl delete bd --all"))
    (uninstall,) = re.findall(r"^helm uninstall .*$", remove, re.MULTILINE)
    refused = bash(f"! {uninstall} 2>&1")
    assert "budget-operator-uninstall-check" in refused, refused
    assert "default/iris" in bash(f"kubectl logs {CHECK}")
    bash("helm rollback budget-operator 1 --namespace=budgetml-system")
    assert bash("helm status budget-operator --namespace=budgetml-system").count("STATUS: deployed") == 1

    bash(remove)
    left = running.kubectl("get", "namespaces,crd", "--output=name").stdout.split()
    assert [each for each in left if "budget" in each] == ["namespace/budgetml-localcloud"]
    assert story.resources() == []


def node_address(running: KindStack) -> str:
    return str(running.kubectl.json("get", "nodes")["items"][0]["status"]["addresses"][0]["address"])
