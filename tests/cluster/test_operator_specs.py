"""The operator's process and what users write: specs that cannot work cost nothing, and are picked up once
they can.
"""

import base64
import io
import json
import zipfile
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from budget_operator.core.names import Owner
from dev.errors import DevError

VALUE_BYTES = 256 * 1024  # of one metadata value
PREDICTOR = "class Predictor:\n    def load(self): pass\n    def predict(self, request): return 1\n"
INLINE = {"predictor": {"inline": PREDICTOR}}
LOGIN = {"username": "ada", "password": "lovelace-1815", "token": "a-token-of-some-length"}


def document(name: str, spec: dict[str, Any]) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "default"}
    return {
        "apiVersion": "budgetml.dev/v1alpha1",
        "kind": "BudgetDeployment",
        "metadata": metadata,
        "spec": spec,
    }


def secret(name: str, values: dict[str, str]) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "default"}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": values}


def config_map(name: str, files: dict[str, str]) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "default"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": files}


def cloud_name(name: str) -> str:
    return Owner("default", "default", name).cloud_name


def from_secret(name: str, key: str) -> dict[str, Any]:
    return {"name": "API_KEY", "valueFrom": {"secretKeyRef": {"name": name, "key": key}}}


@pytest.fixture(scope="module", autouse=True)
def references(operator: Any) -> Iterator[None]:
    """What the broken specs refer to."""
    hidden = base64.b64encode(b"\xff\xfe").decode()
    operator.world.apply(
        secret("half-login", {"username": "ada", "password": "lovelace-1815"}),
        secret("full", {"present": "s3cret-value-never-shown"}),
        {**secret("binary", {}), "data": {"key": hidden}},
        config_map("empty", {}),
        config_map("no-module", {"model.py": PREDICTOR}),
        config_map("broken", {"predictor.py": PREDICTOR, "helper.py": "def broken(:\n"}),
    )
    yield
    operator.world.kubectl("delete", "secret", "half-login", "full", "binary", "--ignore-not-found")
    operator.world.kubectl("delete", "configmap", "empty", "no-module", "broken", "--ignore-not-found")


#: Name -> spec, reason of the stall, part of its message.
BROKEN: dict[str, tuple[dict[str, Any], str, str]] = {
    "no-config-map": (
        {"predictor": {"configMap": {"name": "absent"}}},
        "ReferenceMissing",
        "spec.predictor.configMap.name: there is no ConfigMap default/absent",
    ),
    "no-secret": (
        {**INLINE, "env": [from_secret("absent", "key")]},
        "ReferenceMissing",
        "spec.env[0].valueFrom.secretKeyRef.name: there is no Secret default/absent",
    ),
    "no-secret-key": (
        {**INLINE, "env": [{"name": "PLAIN", "value": "1"}, from_secret("full", "absent")]},
        "ReferenceMissing",
        "spec.env[1].valueFrom.secretKeyRef.key: Secret default/full has no key absent",
    ),
    "secret-not-text": (
        {**INLINE, "env": [from_secret("binary", "key")]},
        "InvalidSpec",
        "spec.env[0].valueFrom.secretKeyRef: the value is not UTF-8",
    ),
    "no-login": ({**INLINE, "auth": {"secretName": "absent"}}, "ReferenceMissing", "spec.auth.secretName"),
    "half-login": (
        {**INLINE, "auth": {"secretName": "half-login"}},
        "ReferenceMissing",
        "spec.auth.secretName: Secret default/half-login needs a non-empty key token",
    ),
    "no-file": (
        {"predictor": {"configMap": {"name": "empty"}}},
        "InvalidSpec",
        "spec.predictor.entrypoint: there is no file predictor.py in spec.predictor.configMap (files: none)",
    ),
    "does-not-compile": (
        {"predictor": {"inline": "class Predictor:\n  def load(self) pass\n"}},
        "InvalidSpec",
        "spec.predictor.inline: predictor.py, line 2 does not compile",
    ),
    "return-outside-a-function": (
        {"predictor": {"inline": PREDICTOR + "return 1\n"}},
        "InvalidSpec",
        "spec.predictor.inline: predictor.py, line 4 does not compile: 'return' outside function",
    ),
    "helper-does-not-compile": (
        {"predictor": {"configMap": {"name": "broken"}}},
        "InvalidSpec",
        "spec.predictor.configMap: helper.py, line 1 does not compile",
    ),
    "no-class": (
        {"predictor": {"inline": "class Model: ...\n"}},
        "InvalidSpec",
        "spec.predictor.entrypoint: predictor.py defines no Predictor",
    ),
    "no-module": (
        {"predictor": {"configMap": {"name": "no-module"}}},
        "InvalidSpec",
        "spec.predictor.entrypoint: there is no file predictor.py in spec.predictor.configMap",
    ),
    "no-requirement": (
        {**INLINE, "requirements": ["numpy", "scikit-learn=1.7"]},
        "InvalidSpec",
        "spec.requirements[1]: 'scikit-learn=1.7' is not a requirement that pip understands",
    ),
    "no-machine-type": (
        {**INLINE, "machine": {"type": "e2-mediun"}},
        "InvalidSpec",
        "spec.machine.type: us-central1-a, us-central1-b does not offer e2-mediun",
    ),
    "no-zone": (
        {**INLINE, "placement": {"zones": ["us-central1-a", "us-central1-x"]}},
        "InvalidSpec",
        "spec.placement.zones: there is no zone us-central1-x",
    ),
    "pip-option": (
        {**INLINE, "requirements": ["numpy --no-deps"]},
        "InvalidSpec",
        "spec.requirements[0]: the pip option --no-deps is not supported",
    ),
}


def stalled(conditions: dict[str, dict[str, Any]]) -> bool:
    return bool(conditions["Stalled"]["status"] == "True")


def running(conditions: dict[str, dict[str, Any]]) -> bool:
    return bool(conditions["InstanceRunning"]["status"] == "True")


@pytest.fixture(scope="module")
def neighbour(operator: Any) -> Iterator[None]:
    """A deployment because of which the shared things stay while the tests' own come and go."""
    operator.world.apply(document("neighbour", INLINE))
    operator.world.wait("neighbour", running)
    yield
    operator.world.delete("neighbour")
    assert operator.world.resources() == []


def test_what_cannot_work_is_refused_by_name_and_costs_nothing(operator: Any) -> None:
    world = operator.world
    assert world.resources() == []
    since = world.mark()
    world.apply(*(document(name, spec) for name, (spec, _, _) in BROKEN.items()))
    for name, (_, reason, message) in BROKEN.items():
        found = world.wait(name, stalled)
        assert found["Stalled"]["reason"] == reason, name
        assert message in found["Stalled"]["message"], name
        assert found["Ready"]["status"] == "False", name
        assert found["Ready"]["reason"] == reason, name
        assert found["Reconciling"]["status"] == "False", name
        assert message in world.kubectl("describe", "bd", name).stdout, name
    events = world.kubectl("get", "events").stdout
    assert "ReferenceMissing" in events
    assert "s3cret-value-never-shown" not in world.kubectl("get", "bd", "-o", "yaml").stdout + events
    world.delete(*BROKEN)
    assert world.changes(since) == []
    assert world.looks(since) > 0, "the journal shows the operator's calls"


@pytest.mark.parametrize("key", ["..data", ".", "models/predictor.py"])
def test_keys_that_are_no_file_names_are_refused_by_the_api_server(operator: Any, key: str) -> None:
    with pytest.raises(DevError, match="is invalid: data"):
        operator.world.apply(config_map("no-file-name", {key: "x"}))


def test_what_was_missing_is_picked_up_when_it_appears(operator: Any, neighbour: None) -> None:
    world = operator.world
    spec = {
        "predictor": {"configMap": {"name": "late-code"}},
        "env": [from_secret("late", "key")],
        "auth": {"secretName": "late-login"},
    }
    world.apply(document("late", spec))
    world.wait("late", stalled)
    world.apply(config_map("late-code", {"predictor.py": PREDICTOR}))
    world.apply(secret("late", {"key": "value"}), secret("late-login", LOGIN))
    found = world.wait("late", running)
    assert found["Stalled"]["status"] == "False"
    assert world.deployment("late")["status"]["loginSecret"] == "late-login"
    world.delete("late")
    world.kubectl("delete", "secret", "late", "late-login")
    world.kubectl("delete", "configmap", "late-code")


def test_code_larger_than_what_metadata_may_hold_travels_by_the_bucket(
    operator: Any, neighbour: None
) -> None:
    """A hundred thousand euro signs: three bytes each, so more than the 256 KiB of a metadata value."""
    world = operator.world
    code = f"# {'€' * 100_000}\n{PREDICTOR}"
    assert len(code) < VALUE_BYTES < len(code.encode())
    world.wait("neighbour", running)
    since = world.mark()
    big = json.dumps(document("big", {"predictor": {"inline": code}}), ensure_ascii=False)
    world.kubectl("create", "-f", "-", input=big)
    world.wait("big", running)
    path = f"/compute/v1/projects/local-project/zones/us-central1-a/instances/{cloud_name('big')}"
    items = world.api.get(path).json()["metadata"]["items"]
    sizes = {item["key"]: len(item["value"].encode()) for item in items}
    assert sum(sizes.values()) < VALUE_BYTES / 2, sizes
    config = json.loads(next(item["value"] for item in items if item["key"] == "budget-config"))
    found = world.api.get(f"/storage/v1/b/{config['bucket']}/o/{quote(config['bundle'], safe='')}?alt=media")
    with zipfile.ZipFile(io.BytesIO(found.content)) as archive:
        assert archive.read("code/predictor.py").decode() == code
    inserts = [line for line in world.changes(since) if line.startswith("POST") and "/instances " in line]
    assert len(inserts) == 1
    world.delete("big")


def test_a_new_spec_is_picked_up_at_once(operator: Any, neighbour: None) -> None:
    world = operator.world
    world.apply(document("fixed", {"predictor": {"inline": "class Model: ...\n"}}))
    world.wait("fixed", stalled)
    world.apply(document("fixed", INLINE))
    world.wait("fixed", lambda found: found["Stalled"]["status"] == "False", seconds=5)
    world.wait("fixed", running)
    world.delete("fixed")


def test_a_new_spec_does_not_wait_for_a_back_off(operator: Any, neighbour: None) -> None:
    world = operator.world
    refused = {"method": "POST", "path": "/zones/[^/]+/instances$", "code": 403, "reason": "forbidden"}
    world.control("POST", "faults", refused)
    world.apply(document("patient", INLINE))
    found = world.wait("patient", lambda found: found["InstanceRunning"]["reason"] == "PermissionDenied")
    assert found["Stalled"]["status"] == "True", "only an administrator can mend it"
    before = world.mark()
    world.apply(document("patient", {**INLINE, "server": {"threads": 2}}))
    world.wait("patient", running, seconds=10)
    inserts = [line for line in world.changes(before) if line.startswith("POST") and "/instances " in line]
    assert len(inserts) == 1
    world.delete("patient")


def test_deleting_what_is_stalled_leaves_nothing(operator: Any, neighbour: None) -> None:
    """Once before anything was made, once with a VM whose spec was broken later."""
    world = operator.world
    world.apply(document("never", {"predictor": {"configMap": {"name": "absent"}}}))
    world.apply(document("later", INLINE))
    world.wait("never", stalled)
    world.wait("later", running)
    world.apply(document("later", {**INLINE, "requirements": ["a b c"]}))
    found = world.wait("later", stalled)
    assert found["InstanceRunning"]["status"] == "True", "what runs is kept"
    world.delete("never", "later")
    left = world.kubectl("get", "secrets", "--namespace=budgetml-system", "--output=name").stdout
    for name in ("never", "later"):
        assert not [row for row in world.resources() if cloud_name(name) in row[1]]
        assert cloud_name(name) not in left
