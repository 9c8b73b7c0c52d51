"""The metadata server, asked from a VM's own address as a guest would: raw, and through google-auth."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from dev import plain
from dev.conformance.clock import HeldClock
from localcloud.accounts import token

INSTANCES = "zones/us-central1-a/instances"
GOOGLE = {"Metadata-Flavor": "Google"}
DISK = """0/device-name persistent-disk-0
0/index 0
0/interface SCSI
0/mode READ_WRITE
0/type PERSISTENT
"""


@pytest.fixture
def vm(cloud: Any, spot_body: Any) -> Iterator[httpx.Client]:
    """A client on the address of the running instance vm1."""
    account = {
        "email": "vm@p1.iam.gserviceaccount.com",
        "scopes": ["https://www.googleapis.com/auth/devstorage"],
    }
    items = [{"key": "enable-guest-attributes", "value": "TRUE"}, {"key": "budget-config", "value": "{}"}]
    with guest(cloud, spot_body(serviceAccounts=[account], metadata={"items": items})) as client:
        yield client


def guest(cloud: Any, body: dict[str, Any]) -> httpx.Client:
    """Insert the instance and speak from its address."""
    operation = cloud.compute("POST", INSTANCES, body).json()
    cloud.compute("POST", f"zones/us-central1-a/operations/{operation['name']}/wait")
    return at(cloud, body["name"])


def at(cloud: Any, name: str) -> httpx.Client:
    """Speak from the address that the instance has now."""
    ip = cloud.compute("GET", f"{INSTANCES}/{name}").json()["networkInterfaces"][0]["networkIP"]
    base = f"{cloud.url}/computeMetadata/v1/"
    transport = httpx.HTTPTransport(local_address=ip)
    return httpx.Client(transport=transport, base_url=base, headers=GOOGLE, timeout=30)


def test_an_instance_without_an_account_gets_no_token(cloud: Any, spot_body: Any) -> None:
    with guest(cloud, spot_body()) as client:
        assert client.get("instance/service-accounts/default/token").status_code == 404
        assert client.get("instance/service-accounts/", params={"recursive": "true"}).json() == {}


def test_the_header_is_needed(vm: httpx.Client) -> None:
    bare = httpx.Client(transport=httpx.HTTPTransport(local_address="127.0.77.10"))
    for path in (str(vm.base_url) + "instance/name", str(vm.base_url).rstrip("/")):
        assert bare.get(path).status_code == 403
        assert bare.put(str(vm.base_url) + "instance/guest-attributes/a/b").status_code == 403
        assert vm.get(path, headers={"X-Forwarded-For": "1.2.3.4"}).status_code == 403
    answer = vm.get("instance/name")
    assert (answer.text, answer.headers["Metadata-Flavor"]) == ("vm1", "Google")


def test_a_stranger_is_told_nothing(vm: httpx.Client, cloud: Any) -> None:
    answer = plain.get(f"{cloud.url}/computeMetadata/v1/instance/name", headers=GOOGLE)
    assert answer.status_code == 404


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("instance/hostname", "vm1.us-central1-a.c.p1.internal"),
        ("instance/attributes/budget-config", "{}"),
        ("instance/attributes/", "enable-guest-attributes\nbudget-config\n"),
        ("instance/name", "vm1"),
        ("instance/tags", '["budget-abc"]'),
        ("instance/tags?alt=text", "budget-abc\n"),
        ("instance/disks/", "0/\n"),
        ("instance/disks/0/", "device-name\nindex\ninterface\nmode\ntype\n"),
        ("instance/disks/?recursive=true&alt=text", DISK),
        ("instance/network-interfaces/0/access-configs/0/", "external-ip\ntype\n"),
        ("instance/scheduling/", "automatic-restart\non-host-maintenance\npreemptible\n"),
        ("instance/preempted", "FALSE"),
        ("instance/scheduling/preemptible", "TRUE"),
        ("instance/network-interfaces/", "0/\n"),
        ("instance/network-interfaces/0/ip", "127.0.77.10"),
        ("instance/network-interfaces/0/access-configs/0/external-ip", "127.0.77.10"),
        ("instance/service-accounts/default/email", "vm@p1.iam.gserviceaccount.com"),
        ("instance/service-accounts/default/scopes", "https://www.googleapis.com/auth/devstorage\n"),
        ("project/", "attributes/\nnumeric-project-id\nproject-id\n"),
        ("project/project-id", "p1"),
        ("project/attributes/?recursive=true", "{}"),
        ("universe/universe-domain", "googleapis.com"),
    ],
)
def test_values(vm: httpx.Client, path: str, text: str) -> None:
    assert vm.get(path).text == text


def test_every_answer_names_its_etag_and_flavor(vm: httpx.Client) -> None:
    for path in (
        "instance/name",
        "instance/",
        "instance/?recursive=true",
        "instance/?recursive=true&alt=text",
    ):
        headers = vm.get(path).headers
        assert (headers["Metadata-Flavor"], len(headers["ETag"])) == ("Google", 16)


def test_the_id_is_that_of_the_instance(vm: httpx.Client, cloud: Any) -> None:
    made = cloud.compute("GET", f"{INSTANCES}/vm1").json()["id"]
    assert (vm.get("instance/id").text, vm.get("instance/id?alt=json").json()) == (made, int(made))


def test_a_host_name_that_was_asked_for(cloud: Any, spot_body: Any) -> None:
    with guest(cloud, spot_body(hostname="model.example.org")) as client:
        assert client.get("instance/hostname").text == "model.example.org"


def test_names_that_hold_the_project_number(vm: httpx.Client) -> None:
    number = vm.get("project/numeric-project-id").text
    assert number.isdigit()
    assert vm.get("instance/zone").text == f"projects/{number}/zones/us-central1-a"
    assert vm.get("instance/machine-type").text == f"projects/{number}/machineTypes/e2-medium"


def test_recursive_answers_are_json_in_camel_case(vm: httpx.Client) -> None:
    found = vm.get("instance/", params={"recursive": "true"}).json()
    assert found["networkInterfaces"][0]["accessConfigs"][0]["externalIp"] == "127.0.77.10"
    assert found["attributes"]["budget-config"] == "{}", "names that users chose are left alone"
    assert "token" not in found["serviceAccounts"]["default"]
    assert (found["tags"], found["disks"][0]["deviceName"]) == (["budget-abc"], "persistent-disk-0")
    text = vm.get("instance/", params={"recursive": "true", "alt": "text"}).text
    assert "attributes/budget-config {}\n" in text
    assert "localcloud-" not in text
    assert vm.get("instance/name", params={"alt": "json"}).json() == "vm1"


def test_a_directory_without_slash_redirects(vm: httpx.Client) -> None:
    answer = vm.get("instance/attributes", params={"recursive": "true"})
    assert answer.status_code == 301
    assert answer.headers["Location"].endswith("/instance/attributes/?recursive=true")
    root = vm.get(str(vm.base_url).rstrip("/"))
    assert (root.status_code, root.headers["Location"]) == (301, "/computeMetadata/v1/")


@pytest.mark.parametrize(
    "path", ["instance/nothing", "instance/attributes/nothing", "nothing/", "instance/disks/1/"]
)
def test_what_is_not_there_is_not_found(vm: httpx.Client, path: str) -> None:
    assert vm.get(path).status_code == 404
    assert vm.get(path, params={"wait_for_change": "true"}).status_code == 404


def _set(cloud: Any, key: str, value: str) -> None:
    metadata = cloud.compute("GET", f"{INSTANCES}/vm1").json()["metadata"]
    items = [item for item in metadata["items"] if item["key"] != key] + [{"key": key, "value": value}]
    body = {"items": items, "fingerprint": metadata["fingerprint"]}
    assert cloud.compute("POST", f"{INSTANCES}/vm1/setMetadata", body).is_success


def test_wait_for_change(vm: httpx.Client, cloud: Any) -> None:
    path = "instance/attributes/budget-config"
    etag = vm.get(path).headers["ETag"]
    same = vm.get(path, params={"wait_for_change": "true", "last_etag": etag, "timeout_sec": "0.2"})
    assert (same.text, same.headers["ETag"]) == ("{}", etag), "after the time-out, as it is"
    timer = threading.Timer(0.2, _set, (cloud, "budget-config", '{"version":1}'))
    timer.start()
    changed = vm.get(path, params={"wait_for_change": "true", "last_etag": etag, "timeout_sec": "20"})
    timer.join()
    assert changed.text == '{"version":1}'
    assert changed.headers["ETag"] != etag
    at_once = vm.get(path, params={"wait_for_change": "true", "last_etag": etag, "timeout_sec": "20"})
    assert at_once.elapsed.total_seconds() < 20


def test_a_change_below_a_directory_is_waited_for(vm: httpx.Client, cloud: Any) -> None:
    path, query = (
        "instance/attributes/",
        {"recursive": "true", "wait_for_change": "true", "timeout_sec": "20"},
    )
    etag = vm.get(path, params={"recursive": "true"}).headers["ETag"]
    timer = threading.Timer(0.2, _set, (cloud, "budget-config", "new"))
    timer.start()
    assert vm.get(path, params=query | {"last_etag": etag}).json()["budget-config"] == "new"
    timer.join()


@pytest.mark.parametrize(
    ("path", "more"),
    [
        ("instance/attributes/", ""),
        ("instance/service-accounts/default/token", ""),
        ("instance/name", "&timeout_sec=soon"),
        ("instance/name", "&timeout_sec=nan"),
        ("instance/name", "&timeout_sec=-1"),
    ],
)
def test_what_cannot_be_waited_for_is_said(vm: httpx.Client, path: str, more: str) -> None:
    assert vm.get(f"{path}?wait_for_change=true{more}").status_code == 400


def test_a_preemption_is_announced_while_the_guest_runs(
    vm: httpx.Client, cloud: Any, monkeypatch: Any
) -> None:
    may_stop = threading.Event()
    monkeypatch.setattr(cloud.context.vms, "stop", lambda name, timeout_s: may_stop.wait(60))
    etag = vm.get("instance/preempted").headers["ETag"]
    cloud.control("POST", "/preempt/vm1")
    query = {"wait_for_change": "true", "last_etag": etag, "timeout_sec": "20"}
    assert vm.get("instance/preempted", params=query).text == "TRUE"
    may_stop.set()


def test_the_notice_of_a_preemption_is_read_while_the_vm_runs(
    cloud: Any, held: HeldClock, spot_body: Any, wait_until: Any
) -> None:
    scheduling = spot_body()["scheduling"] | {"preemptionNoticeDuration": {"seconds": "120"}}

    def status() -> str:
        return str(cloud.compute("GET", f"{INSTANCES}/vm1").json()["status"])

    with guest(cloud, spot_body(scheduling=scheduling)) as vm:
        etag = vm.get("instance/preempted").headers["ETag"]
        held.hold()  # the notice is short, and this may take longer
        cloud.control("POST", "/preempt/vm1")
        query = {"wait_for_change": "true", "last_etag": etag, "timeout_sec": "20"}
        assert vm.get("instance/preempted", params=query).text == "TRUE"
        assert status() == "RUNNING"
        held.release()
        wait_until(lambda: status() == "TERMINATED", "the soft-off")
        cloud.compute("POST", f"{INSTANCES}/vm1/start")
        wait_until(lambda: status() == "RUNNING", "the VM to run again")
    with at(cloud, "vm1") as vm:
        assert vm.get("instance/preempted").text == "FALSE"


def test_guest_attributes_reach_the_api(vm: httpx.Client, cloud: Any) -> None:
    assert vm.put("instance/guest-attributes/budgetml/state", content=b'{"phase":"load"}').status_code == 204
    query = {"queryPath": "budgetml/"}
    found = cloud.compute("GET", f"{INSTANCES}/vm1/getGuestAttributes", **query).json()
    assert found["queryValue"]["items"] == [
        {"namespace": "budgetml", "key": "state", "value": '{"phase":"load"}'}
    ]
    one = {"variableKey": "budgetml/state"}
    found = cloud.compute("GET", f"{INSTANCES}/vm1/getGuestAttributes", **one).json()
    assert found["variableValue"] == '{"phase":"load"}'
    assert vm.get("instance/guest-attributes/budgetml/state").text == '{"phase":"load"}'
    assert vm.put("instance/guest-attributes/budgetml/big", content=b"x" * 2**18).status_code == 413
    assert vm.delete("instance/guest-attributes/budgetml/state").status_code == 204
    gone = cloud.compute("GET", f"{INSTANCES}/vm1/getGuestAttributes", **query)
    assert gone.status_code == 404
    assert vm.put("instance/name", content=b"x").status_code == 405


def test_guest_attributes_must_be_enabled(vm: httpx.Client, cloud: Any) -> None:
    state = "instance/guest-attributes/budgetml/state"
    assert vm.put(state, content=b"x").status_code == 204
    _set(cloud, "enable-guest-attributes", "FALSE")
    assert [vm.request(method, state).status_code for method in ("PUT", "GET", "DELETE")] == [403] * 3
    assert vm.get("instance/guest-attributes/").status_code == 403


def test_google_auth_finds_its_credentials(
    vm: httpx.Client, cloud: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """All of what it asks: whether there is a metadata server, project, universe, account and token."""
    import google.auth
    import requests
    from google.auth.compute_engine import Credentials, _metadata
    from google.auth.transport.requests import Request
    from requests.adapters import HTTPAdapter

    class FromVm(HTTPAdapter):
        """From the VM's address, to localcloud instead of metadata.google.internal: as a VM's DNAT does."""

        def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
            super().init_poolmanager(*args, source_address=("127.0.77.10", 0), **kwargs)

        def send(self, request: Any, *args: Any, **kwargs: Any) -> Any:
            request.url = cloud.url + request.path_url
            return super().send(request, *args, **kwargs)

    for name in ("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_CLOUD_PROJECT", "GCE_METADATA_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    session = requests.Session()
    session.mount("http://", FromVm())
    request = Request(session)
    scopes = ["https://www.googleapis.com/auth/cloud-platform"]
    credentials, project = google.auth.default(scopes=scopes, request=request)
    assert isinstance(credentials, Credentials)
    credentials.refresh(request)  # type: ignore[no-untyped-call]
    assert (credentials.token, project) == (token(credentials.service_account_email)["access_token"], "p1")
    assert credentials.service_account_email == "vm@p1.iam.gserviceaccount.com"
    assert _metadata.get_universe_domain(request) == "googleapis.com"  # type: ignore[no-untyped-call]
    asked = [entry.path.split("?")[0] for entry in cloud.context.journal.entries()]
    assert "/computeMetadata/v1/instance/service-accounts/default/token" in asked


def test_the_root_names_its_flavor(cloud: Any) -> None:
    assert plain.get(f"{cloud.url}/").headers["Metadata-Flavor"] == "Google"
