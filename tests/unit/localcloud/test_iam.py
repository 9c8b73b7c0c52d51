"""Roles that are bound to an account, and what a call is refused for."""

import json
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from localcloud.accounts import token
from localcloud.app import create_app
from localcloud.context import Context
from localcloud.demands import Sent, demands
from localcloud.iam import Binding, Demand, permissions_in
from localcloud.permissions import asked

ACCOUNT = "vm@p.iam.gserviceaccount.com"
HEADERS = {"Authorization": f"Bearer {token(ACCOUNT)['access_token']}"}
BUCKET = "projects/_/buckets/bbb"
ZONE = "/compute/v1/projects/p/zones/us-central1-a"


@pytest.fixture
def client(context: Context) -> Any:
    with TestClient(create_app(context)) as made:
        yield made


def bind(context: Context, *permissions: str, on: str = "*") -> None:
    context.iam.bind(Binding(account=ACCOUNT, permissions=frozenset(permissions), on=on))


def needed(
    context: Context, method: str, path: str, body: object = None, **query: str
) -> set[tuple[str, str]]:
    call = asked(method, path)
    assert call is not None
    sent = Sent(path, query, "application/json", json.dumps(body).encode())
    return {(each.permission, each.resource) for each in demands(call, sent, context.store)}


# --- what a call needs ---

INSERTED: dict[str, Any] = {
    "name": "v",
    "disks": [{"boot": True, "initializeParams": {"sourceImage": "projects/mine/global/images/i"}}],
    "networkInterfaces": [
        {
            "network": "global/networks/default",
            "networkIP": "10.0.0.2",
            "accessConfigs": [{"natIP": "1.2.3.4"}],
        }
    ],
    "metadata": {"items": [{"key": "k", "value": "v"}]},
    "tags": {"items": ["t"]},
    "labels": {"a": "b"},
    "serviceAccounts": [{"email": "default"}],
}


def test_an_instance_needs_what_it_is_given(context: Context) -> None:
    zone, region = "projects/p/zones/us-central1-a", "projects/p/regions/us-central1"
    assert needed(context, "POST", f"{ZONE}/instances", INSERTED) == {
        ("compute.instances.create", zone),
        ("compute.disks.create", f"{zone}/disks/v"),
        ("compute.images.useReadOnly", "projects/mine/global/images/i"),
        ("compute.subnetworks.use", f"{region}/subnetworks/default"),
        ("compute.subnetworks.useExternalIp", f"{region}/subnetworks/default"),
        ("compute.addresses.use", f"{region}/addresses/1.2.3.4"),
        ("compute.addresses.useInternal", f"{region}/addresses/10.0.0.2"),
        *((f"compute.instances.set{each}", f"{zone}/instances/v") for each in ("Metadata", "Tags", "Labels")),
        ("compute.instances.setServiceAccount", f"{zone}/instances/v"),
        ("iam.serviceAccounts.actAs", f"projects/p/serviceAccounts/{default(context)}"),
    }


def default(context: Context) -> str:
    with TestClient(create_app(context)) as client:
        return str(client.get("/compute/v1/projects/p").json()["defaultServiceAccount"])


def test_one_that_is_given_nothing_needs_no_more_than_a_disk_and_a_network(context: Context) -> None:
    image = {"sourceImage": "projects/cos-cloud/global/images/family/cos-stable"}
    body = {"name": "v", "disks": [{"initializeParams": image}], "networkInterfaces": [{}]}
    found = {permission for permission, _ in needed(context, "POST", f"{ZONE}/instances", body)}
    assert found == {"compute.instances.create", "compute.disks.create", "compute.subnetworks.use"}


@pytest.mark.parametrize("body", ["no object", None])
def test_what_is_no_request_needs_no_more_than_its_name(context: Context, body: object) -> None:
    found = needed(context, "POST", "/compute/v1/projects/p/regions/r/addresses", body)
    assert found == {("compute.addresses.create", "projects/p/regions/r")}


def test_a_firewall_rule_is_a_change_of_its_networks_policy(context: Context) -> None:
    found = needed(context, "DELETE", "/compute/v1/projects/p/global/firewalls/f")
    assert found == {
        ("compute.firewalls.delete", "projects/p/global/firewalls/f"),
        ("compute.networks.updatePolicy", "projects/p/global/networks"),
    }


def test_a_function_is_deployed_as_all_its_accounts(context: Context) -> None:
    parent = "projects/p/locations/l"
    body = {
        "serviceConfig": {"serviceAccountEmail": "run@p"},
        "buildConfig": {"serviceAccount": "projects/p/serviceAccounts/build@p"},
        "eventTrigger": {"serviceAccountEmail": "trigger@p"},
    }
    assert needed(context, "POST", f"/v2/{parent}/functions", body) == {
        ("cloudfunctions.functions.create", f"{parent}/functions"),
        *(
            ("iam.serviceAccounts.actAs", f"projects/p/serviceAccounts/{each}@p")
            for each in ("run", "build", "trigger")
        ),
    }


def test_what_concerns_objects_depends_on_whether_they_are_there(
    context: Context, client: TestClient
) -> None:
    upload, get = "/upload/storage/v1/b/bbb/o", "/storage/v1/b/bbb/o/state%2Fa"
    new = {("storage.objects.create", f"{BUCKET}/objects/state/a")}
    assert needed(context, "POST", upload, uploadType="media", name="state/a") == new
    assert ("storage.objects.list", BUCKET) in needed(context, "GET", get)
    client.post("/storage/v1/b?project=p", json={"name": "bbb"}).raise_for_status()
    client.post(f"{upload}?uploadType=media&name=state/a", content=b"x").raise_for_status()
    there = f"{BUCKET}/objects/state/a"
    replaced = new | {("storage.objects.delete", there)}
    assert needed(context, "POST", upload, uploadType="media", name="state/a") == replaced
    assert needed(context, "POST", upload, {"name": "state/a"}, uploadType="resumable") == replaced
    assert needed(context, "GET", get) == {("storage.objects.get", there)}
    parts = b'--b\r\ncontent-type: application/json\r\n\r\n{"name": "state/a"}\r\n--b\r\n\r\nx\r\n--b--'
    sent = Sent(upload, {"uploadType": "multipart"}, "multipart/related; boundary=b", parts)
    call = asked("POST", upload)
    assert call is not None
    assert {(each.permission, each.resource) for each in demands(call, sent, context.store)} == replaced


# --- what an account is refused ---


@pytest.mark.parametrize(
    ("method", "path", "permission", "words"),
    [
        (
            "GET",
            f"{ZONE}/instances/v",
            "compute.instances.get",
            "for 'projects/p/zones/us-central1-a/instances/v'",
        ),
        ("GET", "/storage/v1/b/bbb/o/x", "storage.objects.get", f"{ACCOUNT} does not have"),
        (
            "GET",
            "/v1/projects/p/topics/ttt",
            "pubsub.topics.get",
            "denied on resource 'projects/p/topics/ttt'",
        ),
        (
            "GET",
            "/v1/projects/p/locations/l/jobs/j",
            "cloudscheduler.jobs.get",
            "(or the resource may not exist)",
        ),
        (
            "GET",
            "/v2/projects/p/locations/l/functions/f",
            "cloudfunctions.functions.get",
            "denied on resource",
        ),
    ],
)
def test_each_service_says_in_its_own_words_what_is_missing(
    client: TestClient, context: Context, method: str, path: str, permission: str, words: str
) -> None:
    bind(context, "compute.zones.list")
    assert client.request(method, path).status_code == 404, "who has no account is not asked"
    refused = client.request(method, path, headers=HEADERS)
    error = refused.json()["error"]
    assert refused.status_code == error["code"] == 403
    assert permission in error["message"]
    assert words in error["message"]
    assert ("errors" in error) == path.startswith(("/compute", "/storage"))
    entry = context.journal.entries()[-1]
    assert (entry.account, entry.demanded.split()[0]) == (ACCOUNT, permission)
    bind(context, permission, "storage.objects.list")
    assert client.request(method, path, headers=HEADERS).status_code == 404


def test_a_role_can_hold_on_some_resources_alone(client: TestClient, context: Context) -> None:
    client.post("/storage/v1/b?project=p", json={"name": "bbb"}).raise_for_status()
    bind(context, "storage.objects.create", on=f"{BUCKET}/objects/*")
    bind(context, "storage.objects.delete", on=f"{BUCKET}/objects/state/*")
    upload = "/upload/storage/v1/b/bbb/o?uploadType=media&name="
    for name, again in (("state/a", 200), ("code/a", 403)):
        answers = [client.post(upload + name, content=b"x", headers=HEADERS).status_code for _ in range(2)]
        assert answers == [200, again]


def test_the_account_of_a_vm_is_missed_by_name(context: Context, client: TestClient) -> None:
    bind(context, *(permission for permission, _ in needed(context, "POST", f"{ZONE}/instances", INSERTED)))
    context.iam.unbind(ACCOUNT)
    granted = {permission for permission, _ in needed(context, "POST", f"{ZONE}/instances", INSERTED)}
    bind(context, *(granted - {"iam.serviceAccounts.actAs"}))
    error = client.post(f"{ZONE}/instances", json=INSERTED, headers=HEADERS).json()["error"]
    assert error["errors"][0]["reason"] == "SERVICE_ACCOUNT_ACCESS_DENIED"
    assert f"User: '{ACCOUNT}'" in error["message"]


def test_bindings_end_with_the_account(context: Context) -> None:
    bind(context, "a.b.c")
    demand = Demand("a.b.d", "x")
    assert context.iam.missing(ACCOUNT, (demand,)) == demand
    assert context.iam.missing("", (demand,)) is None
    assert context.iam.unbind(ACCOUNT)
    assert not context.iam.unbind(ACCOUNT)
    assert context.iam.missing(ACCOUNT, (demand,)) is None


def test_role_files_are_read_as_gcloud_takes_them(tmp_path: Path) -> None:
    text = "title: T\nincludedPermissions:\n# why\n- a.b.c\n  - d.e.f # too\n"
    assert permissions_in(text) == {"a.b.c", "d.e.f"}
    with pytest.raises(ValueError, match="no includedPermissions"):
        permissions_in("title: T\nstage: GA\n")
