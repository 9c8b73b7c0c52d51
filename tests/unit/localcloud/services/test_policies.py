"""Policies, roles, accounts and services as gcloud sets them, and what follows for calls."""

from typing import Any

import pytest
from starlette.testclient import TestClient

from localcloud.accounts import token
from localcloud.app import create_app
from localcloud.context import Context

EMAIL = "vm-account@p.iam.gserviceaccount.com"
MEMBER = f"serviceAccount:{EMAIL}"
HEADERS = {"Authorization": f"Bearer {token(EMAIL)['access_token']}"}
ACCOUNT = f"/v1/projects/p/serviceAccounts/{EMAIL}"
ROLE = "projects/p/roles/reader"
CODE = {"title": "t", "expression": "resource.name.startsWith('projects/_/buckets/bbb/objects/code/')"}


@pytest.fixture
def client(context: Context) -> Any:
    with TestClient(create_app(context)) as made:
        made.post("/v1/projects/p/serviceAccounts", json={"accountId": "vm-account"}).raise_for_status()
        role = {"title": "Reader", "includedPermissions": ["storage.objects.get", "storage.objects.list"]}
        made.post("/v1/projects/p/roles", json={"roleId": "reader", "role": role}).raise_for_status()
        made.post("/storage/v1/b?project=p", json={"name": "bbb"}).raise_for_status()
        for name in ("code/a", "state/a"):
            made.post(f"/upload/storage/v1/b/bbb/o?uploadType=media&name={name}", content=b"x")
        yield made


def grant(client: TestClient, resource: str = "projects/p", **more: Any) -> Any:
    binding = {"role": ROLE, "members": [MEMBER]} | more
    return client.post(f"/v1/{resource}:setIamPolicy", json={"policy": {"bindings": [binding]}})


def read(client: TestClient, name: str) -> int:
    return int(client.get(f"/storage/v1/b/bbb/o/{name}", headers=HEADERS).status_code)


def test_an_account_that_was_made_has_nothing_until_a_policy_gives_it_something(client: TestClient) -> None:
    assert read(client, "code%2Fa") == 403
    grant(client).raise_for_status()
    assert [read(client, name) for name in ("code%2Fa", "state%2Fa")] == [200, 200]
    assert client.delete("/storage/v1/b/bbb/o/code%2Fa", headers=HEADERS).status_code == 403


def test_a_condition_keeps_a_role_in_its_place(client: TestClient) -> None:
    made = grant(client, condition=CODE)
    assert made.json()["version"] == 3
    assert [read(client, name) for name in ("code%2Fa", "state%2Fa")] == [200, 403]


def test_a_buckets_own_policy_holds_in_it(client: TestClient) -> None:
    policy = {"bindings": [{"role": ROLE, "members": [MEMBER]}]}
    shown = client.put("/storage/v1/b/bbb/iam", json=policy).json()
    assert shown["resourceId"] == "projects/_/buckets/bbb"
    assert client.get("/storage/v1/b/bbb/iam").json()["bindings"] == policy["bindings"]
    assert read(client, "state%2Fa") == 200
    assert client.get("/storage/v1/b/other/iam").status_code == 404


def test_what_is_granted_on_an_account_holds_on_it_alone(client: TestClient) -> None:
    permissions = {"permissions": ["iam.serviceAccounts.get"]}
    role = {"roleId": "looker", "role": {"includedPermissions": permissions["permissions"]}}
    client.post("/v1/projects/p/roles", json=role).raise_for_status()
    grant(client, ACCOUNT.removeprefix("/v1/"), role="projects/p/roles/looker").raise_for_status()
    assert client.get(ACCOUNT, headers=HEADERS).status_code == 200
    tested = client.post(f"{ACCOUNT}:testIamPermissions", json=permissions, headers=HEADERS)
    assert tested.json() == permissions
    assert client.post("/v1/projects/p:testIamPermissions", json=permissions, headers=HEADERS).json() == {}
    assert client.post("/v1/projects/p:testIamPermissions", json=permissions).json() == permissions


def test_what_a_fault_denies_is_not_had(client: TestClient, context: Context) -> None:
    denied = {"kind": "permission-denied", "permission": "compute.*"}
    client.post("/_localcloud/v1/faults", json=denied).raise_for_status()
    asked = {"permissions": ["compute.zones.get", "pubsub.topics.get"]}
    held = client.post("/v1/projects/p:testIamPermissions", json=asked).json()
    assert held == {"permissions": ["pubsub.topics.get"]}


def test_in_a_bucket_the_condition_is_looked_at_with_its_name(client: TestClient) -> None:
    here = {"title": "t", "expression": "resource.name == 'projects/_/buckets/bbb'"}
    grant(client, condition=here).raise_for_status()
    asked = {"permissions": ["storage.objects.list", "storage.buckets.get"]}
    found = client.get("/storage/v1/b/bbb/iam/testPermissions", params=asked, headers=HEADERS).json()
    assert found["permissions"] == ["storage.objects.list"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"role": "projects/p/roles/none"}, "does not exist"),
        ({"role": "roles/bigquery.admin"}, "does not exist"),
        ({"members": ["serviceAccount:none-such@p.iam.gserviceaccount.com"]}, "does not exist"),
        ({"members": ["someone"]}, "unknown type"),
        ({"condition": {"title": "t", "expression": "request.time > now"}}, "not offered"),
    ],
)
def test_what_makes_no_sense_is_refused(client: TestClient, change: dict[str, Any], said: str) -> None:
    refused = grant(client, **change)
    assert refused.status_code == 400
    assert said in refused.json()["error"]["message"]


def test_a_policy_that_somebody_else_has_changed_is_not_overwritten(client: TestClient) -> None:
    before = client.post("/v1/projects/p:getIamPolicy").json()
    grant(client).raise_for_status()
    again = client.post("/v1/projects/p:setIamPolicy", json={"policy": before})
    assert (again.status_code, again.json()["error"]["status"]) == (409, "ABORTED")


def test_an_account_that_is_made_anew_has_nothing_of_the_old_one(client: TestClient) -> None:
    grant(client).raise_for_status()
    client.delete(ACCOUNT).raise_for_status()
    (member,) = client.post("/v1/projects/p:getIamPolicy").json()["bindings"][0]["members"]
    assert member.startswith(f"deleted:{MEMBER}?uid=")
    assert client.get(ACCOUNT).status_code == 404
    assert client.get(f"/v1/projects/-/serviceAccounts/{EMAIL}").status_code == 403, "as Google says"
    assert client.post(f"{ACCOUNT}:getIamPolicy").status_code == 404
    client.post("/v1/projects/p/serviceAccounts", json={"accountId": "vm-account"}).raise_for_status()
    assert client.get(f"/v1/projects/-/serviceAccounts/{EMAIL}").json()["email"] == EMAIL
    assert read(client, "code%2Fa") == 403
    taken = client.post("/v1/projects/p/serviceAccounts", json={"accountId": "vm-account"})
    assert taken.status_code == 409


def test_a_deleted_role_gives_nothing_and_keeps_its_name(client: TestClient) -> None:
    grant(client).raise_for_status()
    client.delete(f"/v1/{ROLE}").raise_for_status()
    assert read(client, "code%2Fa") == 403
    assert client.get(f"/v1/{ROLE}").json()["deleted"] is True
    assert client.get("/v1/projects/p/roles").json() == {}
    again = client.post("/v1/projects/p/roles", json={"roleId": "reader", "role": {}})
    assert (again.status_code, again.json()["error"]["status"]) == (400, "FAILED_PRECONDITION")
    client.post(f"/v1/{ROLE}:undelete").raise_for_status()
    assert read(client, "code%2Fa") == 200


def test_a_role_is_changed_by_whoever_knows_it_as_it_is(client: TestClient) -> None:
    role = client.get(f"/v1/{ROLE}").json()
    less = {"includedPermissions": ["storage.objects.list"], "etag": role["etag"]}
    path = f"/v1/{ROLE}?updateMask=includedPermissions"
    changed = client.patch(path, json=less).json()
    assert changed == role | {"includedPermissions": ["storage.objects.list"], "etag": changed["etag"]}
    assert client.patch(path, json=less).status_code == 409
    assert client.patch(path, json={"includedPermissions": ["nothing"]}).status_code == 400


def test_googles_own_roles(client: TestClient) -> None:
    owner = set(client.get("/v1/roles/owner").json()["includedPermissions"])
    editor = set(client.get("/v1/roles/editor").json()["includedPermissions"])
    assert "resourcemanager.projects.setIamPolicy" in owner - editor
    assert client.get("/v1/roles/none").status_code == 404


def test_an_api_is_disabled_and_enabled(client: TestClient) -> None:
    services = "/v1/projects/p/services"
    client.post(f"{services}/compute.googleapis.com:disable").raise_for_status()
    names = [f"projects/p/services/{name}.googleapis.com" for name in ("compute", "iam")]
    found = client.get(f"{services}:batchGet", params={"names": names}).json()["services"]
    assert [each["state"] for each in found] == ["DISABLED", "ENABLED"]
    on = client.get(services, params={"filter": "state:ENABLED"}).json()["services"]
    assert not any(each["name"].endswith("/compute.googleapis.com") for each in on)
    assert client.get("/compute/v1/projects/p/zones").status_code == 403
    body = {"serviceIds": ["compute.googleapis.com", "run.googleapis.com"]}
    assert client.post(f"{services}:batchEnable", json=body).json()["done"] is True
    assert client.get("/compute/v1/projects/p/zones").status_code == 200
    assert client.post(f"{services}/bigquery.googleapis.com:disable").status_code == 400


def test_the_quotas_of_a_region(client: TestClient) -> None:
    limit = {"kind": "quota", "region": "us-central1", "metric": "PREEMPTIBLE_CPUS", "limit": 3}
    client.post("/_localcloud/v1/faults", json=limit).raise_for_status()
    client.post("/compute/v1/projects/p/regions/us-central1/addresses", json={"name": "a"}).raise_for_status()
    region = client.get("/compute/v1/projects/p/regions/us-central1").json()
    quotas = {each["metric"]: (each["usage"], each["limit"]) for each in region["quotas"]}
    assert quotas["PREEMPTIBLE_CPUS"] == (0, 3)
    assert quotas["STATIC_ADDRESSES"][0] == 1
    assert quotas["IN_USE_ADDRESSES"][0] == 0
    elsewhere = client.get("/compute/v1/projects/p/regions/us-west1").json()
    assert all(each["usage"] == 0 for each in elsewhere["quotas"])
