"""The operator may do in the cluster what it does there and nothing else, says the API server's audit log."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from dev import cluster
from dev.paths import ROOT, TEST_CLUSTER
from dev.progress import until

FILE = ROOT / "operator" / "deploy" / "kustomize" / "access" / "rbac.yaml"
SYSTEM = "budgetml-system"
PREDICTOR = "class Predictor:\n    def load(self): pass\n    def predict(self, request): return 1\n"
SPEC: dict[str, Any] = {"predictor": {"configMap": {"name": "code"}}}


@dataclass(frozen=True)
class Right:
    """One verb on one resource, everywhere or in one namespace, with any name or one."""

    namespace: str
    group: str
    resource: str
    verb: str
    name: str

    def includes(self, other: "Right") -> bool:
        """Whether who has this one needs the other one no more."""
        same = (self.group, self.resource, self.verb) == (other.group, other.resource, other.verb)
        where = self.namespace in ("", other.namespace)
        return self != other and same and where and self.name in ("", other.name)

    def covers(self, request: dict[str, Any]) -> bool:
        asked = request["objectRef"]
        resource = "/".join(filter(None, (asked["resource"], asked.get("subresource"))))
        return (
            self.namespace in ("", asked.get("namespace", ""))
            and (self.group, self.resource) == (asked.get("apiGroup", ""), resource)
            and self.verb == request["verb"]
            and self.name in ("", asked.get("name", ""))
        )


def rights() -> list[Right]:
    """What rbac.yaml grants, one by one."""
    return [
        Right(role["metadata"].get("namespace", ""), group, resource, verb, name)
        for role in yaml.safe_load_all(FILE.read_text())
        if role["kind"] in ("Role", "ClusterRole")
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
        for name in rule.get("resourceNames", [""])
    ]


def requests() -> list[dict[str, Any]]:
    """What the operator has asked for so far, less what everybody may ask."""
    lines = cluster.audit_log(TEST_CLUSTER).read_text().splitlines()
    return [request for request in map(json.loads, lines) if "objectRef" in request]


def document(spec: dict[str, Any]) -> dict[str, Any]:
    metadata = {"name": "audited", "namespace": "default"}
    return {
        "apiVersion": "budgetml.dev/v1alpha1",
        "kind": "BudgetDeployment",
        "metadata": metadata,
        "spec": spec,
    }


CODE = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "code", "namespace": "default"},
    "data": {"predictor.py": PREDICTOR},
}
#: The same mistake once more is the same Event, with a higher count: at the latest once its VM serves.
MISTAKES = (("e2-small", "False"), ("e2-none", "True")) * 9


@pytest.fixture(scope="module")
def story(operator: Any) -> Iterator[int]:
    """A life with all that it takes: made of a ConfigMap, mended of the same mistake, removed.

    Gives how many requests there were before: other tests provoke refusals.
    """
    world, before = operator.world, len(requests())
    world.apply(CODE)
    for machine, wanted in MISTAKES:
        world.apply(document({**SPEC, "machine": {"type": machine}}))
        until(lambda wanted=wanted: stalled(world) == wanted, 60, "that does not come")  # type: ignore[misc]
        if is_repeated(world):
            break
    world.kubectl("delete", "bd", "audited", "--namespace=default", "--timeout=60s")
    yield before
    world.kubectl("delete", "configmap", "code", "--namespace=default")


def is_repeated(world: Any) -> bool:
    """Whether an Event about it was met again."""
    found = world.kubectl.json("get", "events", "--namespace=default")["items"]
    mine = [each for each in found if each["involvedObject"]["name"] == "audited"]
    return any(each.get("count", 1) > 1 for each in mine)


def stalled(world: Any) -> str:
    found = world.kubectl.json("get", "bd", "audited", "--namespace=default")
    generation = found["metadata"]["generation"]
    conditions = found.get("status", {}).get("conditions", ())
    told = [
        each for each in conditions if each["type"] == "Stalled" and each["observedGeneration"] == generation
    ]
    return str(told[0]["status"]) if told else ""


def test_no_right_is_granted_twice() -> None:
    granted = rights()
    assert len(granted) == len(set(granted))
    assert [each for each in granted if any(other.includes(each) for other in granted)] == []


def test_its_rights_are_exactly_what_it_uses(story: int) -> None:
    made, granted = requests(), rights()
    refused = [each for each in made[story:] if each["responseStatus"]["code"] == 403]
    assert refused == []
    outside = [each for each in made[story:] if not any(right.covers(each) for right in granted)]
    assert outside == []
    assert {right for right in granted if not any(right.covers(each) for each in made)} == set()


def test_kopf_watches_and_does_nothing_else(story: int) -> None:
    """Nor does it look at the peerings that other operators made of it would agree by."""
    asked = [(each["verb"], each["objectRef"], each.get("userAgent", "")) for each in requests()]
    by_kopf = {(verb, what["resource"]) for verb, what, agent in asked if agent.startswith("kopf/")}
    assert by_kopf == {("list", "budgetdeployments"), ("watch", "budgetdeployments")}
    assert "patch" in {verb for verb, what, _ in asked if what["resource"] == "budgetdeployments"}


def test_secrets_are_read_by_name_alone(story: int) -> None:
    verbs = {right.verb for right in rights() if right.resource == "secrets"}
    assert verbs == {"get", "create", "delete"}
    named = [each for each in requests()[story:] if each["objectRef"]["resource"] == "secrets"]
    assert {each["verb"] for each in named} == verbs
    assert all(each["objectRef"].get("name") for each in named if each["verb"] != "create")
    deleted = [each["objectRef"] for each in named if each["verb"] == "delete"]
    assert deleted
    assert all(each["namespace"] == SYSTEM for each in deleted)
