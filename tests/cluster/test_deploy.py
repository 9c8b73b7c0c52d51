"""The manifests on a real API server: it takes them as they are, and lets their pods in."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from dev.paths import ROOT
from dev.progress import until

SYSTEM = "budgetml-system"
OVERLAY = ROOT / "operator" / "deploy" / "kustomize" / "gcp"
OPERATOR = "app.kubernetes.io/name=budget-operator"


@pytest.fixture
def installed(rbac: Any) -> Iterator[Any]:
    """With the overlay for Google Cloud. There is no node: pods are admitted and wait."""
    rendered = list(yaml.safe_load_all(rbac.kubectl("kustomize", OVERLAY).stdout))
    rbac.kubectl("apply", "--kustomize", OVERLAY)
    yield rbac
    rights = ("Namespace", "CustomResourceDefinition", "ServiceAccount", "Role", "RoleBinding")
    mine = [each for each in rendered if each["kind"].removeprefix("Cluster") not in rights]
    rbac.kubectl("delete", "-f", "-", input=yaml.safe_dump_all(mine))


def test_the_pods_are_let_into_a_restricted_namespace(installed: Any) -> None:
    labels = installed.kubectl.json("get", "namespace", SYSTEM)["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"

    def pods() -> list[Any]:
        return list(installed.kubectl.json("get", "pods", f"-n={SYSTEM}", f"--selector={OPERATOR}")["items"])

    until(lambda: len(pods()) == 2, 30, lambda: installed.kubectl("get", "events", f"-n={SYSTEM}").stdout)
    for pod in pods():
        (container,) = pod["spec"]["containers"]
        name = container["envFrom"][0]["configMapRef"]["name"]
        settings = installed.kubectl.json("get", "configmap", name, f"-n={SYSTEM}")["data"]
        assert settings["BUDGET_PROJECT"] == "PROJECT"
        assert container["image"].endswith("/operator:0.1.0")


def test_a_pod_with_more_rights_is_not_let_in(installed: Any) -> None:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "root", "namespace": SYSTEM},
        "spec": {"containers": [{"name": "root", "image": "root"}]},
    }
    refused = installed.kubectl("apply", "-f", "-", input=json.dumps(pod), check=False)
    assert refused.returncode
    assert "violates PodSecurity" in refused.stderr
