"""What is shipped to install the operator: its settings are read, and it runs as the image does."""

import json
import re
from typing import Any

import yaml

from budget_operator.core.settings import Settings
from dev import dockerfile
from dev.paths import ROOT

KUSTOMIZE = ROOT / "operator" / "deploy" / "kustomize"
SOURCES = (ROOT / "operator" / "budget_operator" / path for path in ("core/settings.py", "logs.py"))
SETTINGS = {name for path in SOURCES for name in re.findall(r'"(BUDGET_[A-Z_]+)"', path.read_text())}


def document(path: str) -> Any:
    return yaml.safe_load((KUSTOMIZE / path).read_text())


def test_the_settings_of_the_overlay_are_settings() -> None:
    text = (KUSTOMIZE / "gcp" / "settings.env").read_text()
    given = dict(line.split("=", 1) for line in text.splitlines())
    filled = {name: value.replace("PROJECT", "project-1") for name, value in given.items()}
    settings = Settings.from_environment(filled)
    assert (settings.project, settings.bucket) == ("project-1", "project-1-budgetml")
    assert set(given) <= SETTINGS, "none of them is ignored"


def test_the_pod_runs_as_the_images_user() -> None:
    template = document("base/deployment.yaml")["spec"]["template"]["spec"]
    stage = dockerfile.parse((ROOT / "Dockerfile").read_text())["operator"]
    as_user = template["securityContext"]
    assert f"USER {as_user['runAsUser']}:{as_user['runAsGroup']}" in stage.lines


def test_one_port_everywhere() -> None:
    container = document("base/deployment.yaml")["spec"]["template"]["spec"]["containers"][0]
    (port,) = container["ports"]
    stage = dockerfile.parse((ROOT / "Dockerfile").read_text())["operator"]
    default = Settings(project="p", zones=("us-central1-a",), bucket="b", image="i").health_port
    assert f"EXPOSE {default}" in stage.lines
    assert (port["name"], port["containerPort"]) == ("health", default)
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["port"] == "health"
    (served,) = document("base/service.yaml")["spec"]["ports"]
    assert (served["port"], served["targetPort"]) == (default, "health")
    (rule,) = document("base/networkpolicy.yaml")["spec"]["ingress"]
    assert rule["ports"] == [{"port": "health"}]


def test_a_pod_ends_after_its_passes() -> None:
    from budget_operator.process import USUAL

    assert document("base/deployment.yaml")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] > (
        USUAL.drain
    )


def test_the_chart_knows_every_setting() -> None:
    schema = json.loads((ROOT / "operator" / "deploy" / "helm" / "values.schema.json").read_text())
    fixed = {"BUDGET_HEALTH_PORT", "BUDGET_FUNCTION_SOURCE"}  # by the manifests and by the image
    assert set(schema["properties"]["settings"]["properties"]) == SETTINGS - fixed


def test_no_name_of_a_right_is_one_that_kustomize_changes() -> None:
    generated = {each["name"] for each in document("gcp/kustomization.yaml")["configMapGenerator"]}
    rules = [
        rule
        for each in yaml.safe_load_all((KUSTOMIZE / "access" / "rbac.yaml").read_text())
        for rule in each.get("rules", ())
    ]
    assert not generated & {name for rule in rules for name in rule.get("resourceNames", ())}
