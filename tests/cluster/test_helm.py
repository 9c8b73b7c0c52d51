"""The chart: what it makes is what kustomize makes, and values that mean nothing are refused."""

import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from dev import helm
from dev.paths import ROOT, VENV_BIN
from tests.cluster.world import deployment

OVERLAY = ROOT / "operator" / "deploy" / "kustomize" / "gcp"
SYSTEM = "budgetml-system"
UNINSTALL_CHECK = ("Job", "budget-operator-uninstall-check")
Documents = dict[tuple[str, str], Any]
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def run() -> Run:
    found = helm.program()

    def call(*argv: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run([found, *argv], capture_output=True, text=True, check=False)

    return call


@pytest.fixture
def values(tmp_path: Path) -> Path:
    """What the overlay says, as values of the chart."""
    lines = (OVERLAY / "settings.env").read_text().splitlines()
    (image,) = yaml.safe_load((OVERLAY / "kustomization.yaml").read_text())["images"]
    account = yaml.safe_load((OVERLAY / "serviceaccount.yaml").read_text())
    path = tmp_path / "values.yaml"
    given = {
        "settings": dict(line.split("=", 1) for line in lines),
        "image": {"repository": image["newName"], "tag": image["newTag"]},
        "serviceAccount": {"annotations": account["metadata"]["annotations"]},
    }
    path.write_text(yaml.safe_dump(given))
    return path


def documents(text: str) -> Documents:
    """By kind and name, less what only one of the two needs to make a new ConfigMap restart the pods."""
    found: Documents = {}
    for each in yaml.safe_load_all(re.sub(r"(-settings)-[0-9a-z]{10}\b", r"\1", text)):
        if each["kind"] == "CustomResourceDefinition":
            each["metadata"].pop("annotations", None)
        if each["kind"] == "Deployment":
            each["spec"]["template"]["metadata"].pop("annotations", None)
        found[each["kind"], each["metadata"]["name"]] = each
    return found


def test_chart_and_overlay_make_the_same_objects(run: Run, values: Path, control_plane: Any) -> None:
    mine = documents(run("template", "x", helm.CHART, f"--namespace={SYSTEM}", f"--values={values}").stdout)
    theirs = documents(control_plane.kubectl("kustomize", OVERLAY).stdout)
    del theirs["Namespace", SYSTEM]  # helm --create-namespace
    del mine[UNINSTALL_CHECK]  # kustomize has no such moment
    assert mine.keys() == theirs.keys()
    for key, document in theirs.items():
        assert mine[key] == document, key


def test_every_option_makes_what_the_api_server_takes(run: Run, values: Path, rbac: Any) -> None:
    options = {
        "replicas": 1,
        "imagePullSecrets": [{"name": "hub"}],
        "networkPolicy": {"extraEgressPorts": [8085]},
        "podAnnotations": {"a.test/b": "c"},
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"key": "spot", "operator": "Exists"}],
        "priorityClassName": "system-cluster-critical",
        "googleKeySecret": "google",
    }
    values.with_name("more.yaml").write_text(json.dumps(options))
    given = (f"--values={values}", f"--values={values.with_name('more.yaml')}", "--set=crds.install=false")
    made = run("template", "x", helm.CHART, f"--namespace={SYSTEM}", *given).stdout
    rbac.kubectl("apply", "--dry-run=server", "--filename=-", input=made)
    found = documents(made)
    assert ("CustomResourceDefinition", "budgetdeployments.budgetml.dev") not in found
    assert {"port": 8085} in found["NetworkPolicy", "budget-operator"]["spec"]["egress"][0]["ports"]
    deployment = next(each for each in yaml.safe_load_all(made) if each["kind"] == "Deployment")
    assert deployment["spec"]["template"]["metadata"]["annotations"]["a.test/b"] == "c"
    pod = deployment["spec"]["template"]["spec"]
    assert {name: pod[name] for name in options if name in pod} == {
        name: options[name]
        for name in ("imagePullSecrets", "nodeSelector", "tolerations", "priorityClassName")
    }
    (container,) = pod["containers"]
    key = {each["name"]: each.get("value", "") for each in container["env"]}["GOOGLE_APPLICATION_CREDENTIALS"]
    assert key.startswith(container["volumeMounts"][1]["mountPath"])
    assert pod["volumes"][1] == {"name": "google", "secret": {"secretName": "google"}}


def test_uninstalling_asks_first_unless_it_is_told_not_to(run: Run, values: Path) -> None:
    found = documents(run("template", "x", helm.CHART, f"--values={values}").stdout)
    job, operator = found[UNINSTALL_CHECK], found["Deployment", "budget-operator"]
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-delete"
    pod, usual = (each["spec"]["template"]["spec"] for each in (job, operator))
    (container,), (serving,) = pod["containers"], usual["containers"]
    assert container["args"] == ["in-use"]
    for name in ("image", "imagePullPolicy", "securityContext", "resources"):
        assert container[name] == serving[name], name
    for name in ("serviceAccountName", "securityContext"):
        assert pod[name] == usual[name], name
    off = run("template", "x", helm.CHART, f"--values={values}", "--set=uninstallCheck.enabled=false")
    assert UNINSTALL_CHECK not in documents(off.stdout)


def test_the_operator_knows_whether_it_is_needed(rbac: Any) -> None:
    """As its ServiceAccount: it needs no rights beyond its own."""

    def asked(kubeconfig: Path) -> tuple[int, str]:
        command = [str(VENV_BIN / "budget-operator"), "in-use"]
        environment = os.environ | {"KUBECONFIG": str(kubeconfig)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    assert asked(rbac.operator_kubeconfig) == (0, "No BudgetDeployments.\n")
    document = deployment("left", {"predictor": {"inline": "class Predictor: ..."}})
    rbac.kubectl("apply", "--filename=-", input=json.dumps(document))
    try:
        code, said = asked(rbac.operator_kubeconfig)
    finally:
        rbac.kubectl("delete", "bd", "left")
    assert (code, "default/left" in said) == (1, True)
    code, said = asked(Path("absent"))
    assert (code, "it cannot be told" in said) == (2, True)


def test_a_changed_setting_restarts_the_pods(run: Run, values: Path) -> None:
    def template(*more: str) -> Any:
        made = run("template", "x", helm.CHART, f"--values={values}", *more).stdout
        deployment = next(each for each in yaml.safe_load_all(made) if each["kind"] == "Deployment")
        return deployment["spec"]["template"]

    assert template() == template()
    assert template() != template("--set=settings.BUDGET_INSTALLATION=other")


def test_the_optional_parts(run: Run, values: Path) -> None:
    off = ("--set=podDisruptionBudget.enabled=false", "--set=networkPolicy.enabled=false")
    made = run("template", "x", helm.CHART, f"--values={values}", *off, "--set=serviceMonitor.enabled=true")
    kinds = {kind for kind, _ in documents(made.stdout)}
    assert not kinds & {"PodDisruptionBudget", "NetworkPolicy"}
    component = ROOT / "operator/deploy/kustomize/components/servicemonitor/servicemonitor.yaml"
    monitor = yaml.safe_load(component.read_text())
    monitor["metadata"]["namespace"] = "default"
    assert documents(made.stdout)["ServiceMonitor", "budget-operator"] == monitor


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("settings.BUDGET_PROJEKT=x", "BUDGET_PROJEKT"),
        ("settings.BUDGET_PROJECT=", "/settings/BUDGET_PROJECT"),
        ("settings.BUDGET_HEALTH_PORT=9", "BUDGET_HEALTH_PORT"),
        ("replicaCount=3", "replicaCount"),
        ("image.pullPolicy=Sometimes", "/image/pullPolicy"),
        ("networkPolicy.extraEgressPorts[0]=0", "/networkPolicy/extraEgressPorts/0"),
    ],
)
def test_what_the_chart_does_not_know_is_refused(run: Run, values: Path, option: str, said: str) -> None:
    refused = run("template", "x", helm.CHART, f"--values={values}", f"--set={option}")
    assert refused.returncode
    assert said in refused.stderr


def test_lint(run: Run, values: Path) -> None:
    checked = run("lint", "--strict", helm.CHART, f"--values={values}")
    assert not checked.returncode, checked.stdout
