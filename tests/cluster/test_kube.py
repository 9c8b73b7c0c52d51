"""`Kube` and `KubeLease` against a real API server, as the operator's own ServiceAccount."""

import json
import uuid
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from budget_operator.cluster.kube import Kube, KubeLease, connect
from budget_operator.core import api
from budget_operator.core.errors import (
    AlreadyExists,
    NotFound,
    PermissionDenied,
    PreconditionFailed,
    ResourceNotReady,
)

NO_OWNER = '[{"op": "remove", "path": "/metadata/ownerReferences"}]'
HELD = '{"metadata": {"finalizers": ["tests.budgetml.dev/held"]}}'


@pytest.fixture
def api_client(rbac: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("KUBECONFIG", str(rbac.operator_kubeconfig))
    connected = connect(pool_size=2)
    yield connected
    connected.close()


@pytest.fixture
def kube(api_client: Any) -> Kube:
    return Kube(api_client)


@pytest.fixture
def document(kube: Kube, rbac: Any) -> Iterator[Any]:
    name = f"kube-{uuid.uuid4().hex[:8]}"
    body = {
        "apiVersion": "budgetml.dev/v1alpha1",
        "kind": "BudgetDeployment",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"predictor": {"inline": "class Predictor: ..."}},
    }
    rbac.kubectl("apply", "-f", "-", input=json.dumps(body))
    yield kube.deployment("default", name)
    rbac.kubectl("patch", "bd", name, "--type=merge", "-p", '{"metadata":{"finalizers":null}}', check=False)
    rbac.kubectl("delete", "bd", name, "--ignore-not-found")


def test_what_is_absent_is_none_and_not_an_error(kube: Kube) -> None:
    assert kube.deployment("default", "absent") is None
    assert kube.secret("default", "absent") is None
    assert kube.config_map("default", "absent") is None


def test_the_cluster_has_a_uid(kube: Kube, rbac: Any) -> None:
    found = rbac.kubectl("get", "namespace", "kube-system", "--output=jsonpath={.metadata.uid}").stdout
    assert kube.cluster() == found


def test_the_list_holds_what_was_applied(kube: Kube, document: Any) -> None:
    assert document["metadata"]["uid"] in {item["metadata"]["uid"] for item in kube.all_deployments()}


def test_the_finalizer_is_added_and_removed_once(kube: Kube, document: Any) -> None:
    added = kube.add_finalizer(document)
    assert added["metadata"]["finalizers"] == [api.FINALIZER]
    with pytest.raises(PreconditionFailed):
        kube.remove_finalizer(document)
    kube.remove_finalizer(added)
    left = kube.deployment("default", document["metadata"]["name"])
    assert left is not None
    assert "finalizers" not in left["metadata"]


def test_a_status_written_on_a_stale_base_is_refused(kube: Kube, document: Any) -> None:
    written = kube.patch_status(document, {"state": "Pending", "ip": "10.0.0.1"})
    assert written["status"]["state"] == "Pending"
    assert written["metadata"]["generation"] == document["metadata"]["generation"]
    with pytest.raises(PreconditionFailed):
        kube.patch_status(document, {"state": "Serving"})
    again = kube.patch_status(written, {"ip": None})
    assert again["status"] == {"state": "Pending"}


def test_a_status_for_what_is_gone_is_not_found(kube: Kube, document: Any, rbac: Any) -> None:
    rbac.kubectl("delete", "bd", document["metadata"]["name"])
    with pytest.raises(NotFound):
        kube.patch_status(document, {"state": "Pending"})
    kube.remove_finalizer(document)


def test_a_secret_is_made_once_and_belongs_to_its_deployment(kube: Kube, document: Any, rbac: Any) -> None:
    name = f"{document['metadata']['name']}-login"
    first = kube.ensure_secret("default", name, {"password": b"one"}, document)
    second = kube.ensure_secret("default", name, {"password": b"two"}, document)
    assert first == second == {"password": b"one"}
    made = json.loads(rbac.kubectl("get", "secret", name, "-o", "json").stdout)
    assert made["metadata"]["ownerReferences"][0]["uid"] == document["metadata"]["uid"]


def test_a_secret_of_a_predecessor_is_not_taken_over(kube: Kube, document: Any, rbac: Any) -> None:
    name = f"{document['metadata']['name']}-login"
    kube.ensure_secret("default", name, {"password": b"one"}, document)
    metadata = {**document["metadata"], "uid": "6f3c8d1e-0000-4000-8000-000000000001"}
    with pytest.raises(ResourceNotReady, match=f"Secret default/{name}"):
        kube.ensure_secret("default", name, {"password": b"two"}, {**document, "metadata": metadata})
    rbac.kubectl("patch", "secret", name, "--type=json", "-p", NO_OWNER)
    held = kube.ensure_secret("default", name, {"password": b"two"}, {**document, "metadata": metadata})
    assert held == {"password": b"one"}, "orphaned on purpose, so it stays"


def test_a_secret_that_is_being_deleted_is_not_taken_over(kube: Kube, document: Any, rbac: Any) -> None:
    name = f"{document['metadata']['name']}-login"
    kube.ensure_secret("default", name, {"password": b"one"}, document)
    rbac.kubectl("patch", "secret", name, "--type=merge", "-p", HELD)
    rbac.kubectl("delete", "secret", name, "--wait=false")
    with pytest.raises(ResourceNotReady, match="until it is gone"):
        kube.ensure_secret("default", name, {"password": b"two"}, document)
    rbac.kubectl("patch", "secret", name, "--type=merge", "-p", '{"metadata":{"finalizers":null}}')


def test_secrets_are_deleted_in_the_system_namespace_only(kube: Kube, document: Any) -> None:
    kube.ensure_secret("budgetml-system", "sample-key", {"key": b"k"}, None)
    kube.delete_secret("budgetml-system", "sample-key")
    kube.delete_secret("budgetml-system", "sample-key")
    assert kube.secret("budgetml-system", "sample-key") is None
    with pytest.raises(PermissionDenied):
        kube.delete_secret("default", "anything")


def test_binary_and_text_of_a_config_map_come_together(kube: Kube, rbac: Any) -> None:
    body = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "code", "namespace": "default"},
        "data": {"predictor.py": "é"},
        "binaryData": {"model.bin": "AAH/"},
    }
    rbac.kubectl("apply", "-f", "-", input=json.dumps(body))
    assert kube.config_map("default", "code") == {"predictor.py": "é".encode(), "model.bin": b"\x00\x01\xff"}


def test_a_repeated_event_raises_its_count(kube: Kube, document: Any, rbac: Any) -> None:
    for _ in range(3):
        kube.event(document, "Warning", "LoadFailed", "the model did not load")
    kube.event(document, "Normal", "Serving", "it serves")
    listed = json.loads(rbac.kubectl("get", "events", "-o", "json").stdout)["items"]
    mine = {
        event["reason"]: event["count"]
        for event in listed
        if event["involvedObject"]["uid"] == document["metadata"]["uid"]
    }
    assert mine == {"LoadFailed": 3, "Serving": 1}


def test_the_lease_is_guarded_by_its_version(api_client: Any, rbac: Any) -> None:
    rbac.kubectl("delete", "lease", "budget-operator", "-n", "budgetml-system", "--ignore-not-found")
    store = KubeLease(api_client, "budgetml-system")
    empty = store.read_lease()
    mine = replace(empty, holder="me", duration_seconds=30, renewed_at="2026-01-01T00:00:00.000000Z")
    written = store.write_lease(mine)
    assert store.read_lease() == written
    with pytest.raises((AlreadyExists, PreconditionFailed)):
        store.write_lease(replace(mine, holder="other"))
    renewed = store.write_lease(replace(written, renewed_at="2026-01-01T00:00:05.000000Z"))
    with pytest.raises(PreconditionFailed):
        store.write_lease(replace(written, holder="other"))
    free = store.write_lease(replace(renewed, holder=""))
    assert store.read_lease().holder == free.holder == ""
    rbac.kubectl("delete", "lease", "budget-operator", "-n", "budgetml-system")
    with pytest.raises(NotFound):
        store.write_lease(replace(free, holder="me"))
    assert store.read_lease().holder == "me"
