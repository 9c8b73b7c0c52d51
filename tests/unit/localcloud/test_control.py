from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from localcloud.app import create_app
from localcloud.context import Context, Resource

ROOT = "/_localcloud/v1"


@pytest.fixture
def client(context: Context) -> Iterator[TestClient]:
    with TestClient(create_app(context)) as client:
        yield client


def test_nothing_is_there_at_first(client: TestClient) -> None:
    assert client.get(f"{ROOT}/health").json() == {"status": "ok"}
    assert client.get(f"{ROOT}/resources").json() == {"resources": []}


def test_services_announce_lines_logs_and_verbs(client: TestClient, context: Context) -> None:
    context.registry.listers.append(lambda: [Resource("zebra", "z", "global", "READY")])
    context.registry.listers.append(lambda: [Resource("ant", "a", "global", "READY")])
    context.registry.logs.append(lambda name: "hello\n" if name == "f1" else None)
    context.registry.verbs["poke"] = lambda name: {"poked": name}
    assert [line["kind"] for line in client.get(f"{ROOT}/resources").json()["resources"]] == ["ant", "zebra"]
    assert client.get(f"{ROOT}/logs/f1").json() == {"text": "hello\n"}
    assert client.get(f"{ROOT}/logs/f2").status_code == 404
    assert client.post(f"{ROOT}/poke/projects/p/jobs/j").json() == {"poked": "projects/p/jobs/j"}
    assert client.post(f"{ROOT}/wave/x").status_code == 404


def test_faults_are_made_seen_and_removed(client: TestClient) -> None:
    first = client.post(f"{ROOT}/faults", json={"path": "/instances", "when": "after"}).json()["id"]
    body = {"kind": "stock-out", "zone": "us-central1-a", "machineType": "e2-small"}
    second = client.post(f"{ROOT}/faults", json=body).json()["id"]
    found = {each["id"]: each for each in client.get(f"{ROOT}/faults").json()["faults"]}
    assert set(found) == {first, second}
    assert body.items() <= found[second].items()
    assert client.delete(f"{ROOT}/faults/{first}").status_code == 200
    assert client.delete(f"{ROOT}/faults/{first}").status_code == 404
    client.delete(f"{ROOT}/faults")
    assert client.get(f"{ROOT}/faults").json() == {"faults": []}


def test_a_fault_that_means_nothing_is_refused_with_its_field(client: TestClient) -> None:
    answer = client.post(f"{ROOT}/faults", json={"kind": "stock-out", "zone": "z", "model": "CHEAP"})
    assert answer.status_code == 400
    assert "model" in answer.json()["error"]["message"]
    assert "errors.pydantic" not in answer.text


def test_the_journal_can_be_read_in_parts(client: TestClient) -> None:
    for name in "ab":
        client.get(f"/compute/v1/projects/{name}")
    entries = client.get(f"{ROOT}/journal").json()["entries"]
    assert [entry["path"] for entry in entries] == ["/compute/v1/projects/a", "/compute/v1/projects/b"]
    after = client.get(f"{ROOT}/journal", params={"after": entries[0]["id"]}).json()["entries"]
    assert [entry["path"] for entry in after] == ["/compute/v1/projects/b"]
    for query in ({"after": "x"}, {"limit": "-1"}, {"limit": "\u00b2"}, {"limit": "9" * 30}):
        refused = client.get(f"{ROOT}/journal", params=query)
        assert refused.status_code == 400
        assert next(iter(query)) in refused.json()["error"]["message"]
