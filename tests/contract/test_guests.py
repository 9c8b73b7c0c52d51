"""Simulated VMs that answer: seen through the operator's own prober and gateway, as it sees real ones."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from budget_operator.cloud.compute import ComputeGateway
from budget_operator.cloud.connection import Connection
from budget_operator.cloud.probe import HttpProber
from budget_operator.core.api import Status
from budget_operator.core.endpoint import Tls
from budget_operator.core.gateways import Door
from budget_operator.core.observed import GuestReport
from budget_operator.core.serving import Glimpse, Serving, judge
from dev import plain
from dev.conformance.bodies import PROJECT, ZONE
from dev.conformance.server import Cloud
from localcloud.ports import free_port

OLD, NEW = "a1b2c3d4", "ffee0011"
IMAGE = "registry/server@sha256:12"
INSTANCES = f"zones/{ZONE}/instances"
MANY = 200


def _permitted() -> bool:
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")
            probe.bind(("127.0.77.1", 443))
    except PermissionError:
        return False
    return True


pytestmark = pytest.mark.skipif(not _permitted(), reason="ports 80 and 443 are for root here")


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    running = Cloud(tmp_path / "home", free_port(), guests=True)
    running.start()
    yield running
    running.stop()
    assert running.problems() == [], "an answer is not as Google describes it"


@pytest.fixture
def operator(cloud: Cloud) -> Operator:
    return Operator(cloud)


class Operator:
    """What it asks and believes of a VM."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._compute = ComputeGateway(Connection(PROJECT, cloud.url, "anonymous"))
        self._prober = HttpProber()

    def report(self, name: str = "vm1") -> GuestReport:
        return self._compute.guest_report(ZONE, name)

    def looks(self, ip: str, name: str = "vm1", target: str = OLD, tls: Tls = Tls()) -> Serving:  # noqa: B008
        """Its judgement after one glimpse with a prediction."""
        report = self.report(name)
        ca = tls.ca_bundle or report.ca_certificate
        url = tls.url(ip, report.certificate.name)
        door = Door(url, ip, ca, public=tls.mode == "Acme")
        ready = self._prober.ready(door)
        prediction = self._prober.predict(door, "no token", {"text": "fine"}) if ready.ok else None
        glimpse = Glimpse(
            running=True, due=True, target=target, ca=ca, tls=tls, url=url, image=IMAGE,
            host=report.host, report=report, ready=ready, prediction=prediction,
        )  # fmt: skip
        return judge(Status(), glimpse)


def config(revision: str = OLD, **tls: str) -> dict[str, str]:
    document = {"version": 1, "image": IMAGE, "deployment": "budget-x", "revision": revision, "tls": tls}
    return {"key": "budget-config", "value": json.dumps(document)}


def metadata(revision: str = OLD, **tls: str) -> dict[str, Any]:
    return {"items": [{"key": "enable-guest-attributes", "value": "TRUE"}, config(revision, **tls)]}


@pytest.fixture
def insert(cloud: Cloud, client_options: dict[str, Any], spot_body: Any) -> Callable[..., str]:
    """Make an instance with Google's client; its address."""
    from google.cloud import compute_v1

    client = compute_v1.InstancesClient(**client_options)
    operations = compute_v1.ZoneOperationsClient(**client_options)

    def make(name: str = "vm1", revision: str = OLD, **tls: str) -> str:
        body = json.dumps(spot_body(name, metadata=metadata(revision, **tls)))
        resource = compute_v1.Instance.from_json(body)
        made = client.insert_unary(project=PROJECT, zone=ZONE, instance_resource=resource)
        operations.wait(project=PROJECT, zone=ZONE, operation=made.name)
        found = client.get(project=PROJECT, zone=ZONE, instance=name)
        return str(found.network_interfaces[0].access_configs[0].nat_i_p)

    return make


@pytest.fixture
def status(cloud: Cloud) -> Callable[[], str]:
    return lambda: str(cloud.compute("GET", f"{INSTANCES}/vm1").json()["status"])


def test_ready_is_earned(insert: Any, operator: Operator) -> None:
    seen = operator.looks(insert())
    assert (seen.model.status, seen.certificate.status, seen.active) == ("True", "True", OLD)
    assert (seen.failure, seen.lag) == (None, None)
    report = operator.report()
    assert (report.phase, report.target, report.active, report.host.image) == ("serving", OLD, OLD, IMAGE)
    assert set(report.boot) > {"engine", "load", "certificate"}


def test_a_prediction_is_its_payload(insert: Any, operator: Operator) -> None:
    ip = insert(mode="Off")
    asked = {"payload": [{"ümlaut": None}]}
    with httpx.Client(base_url=f"http://{ip}", trust_env=False) as client:
        assert client.post("/predict_dict", json=asked).json() == asked["payload"]
        assert client.post("/predict", json=asked).json() == asked
        assert client.get("/").json() == {"status": "alive", "name": "budget-x", "revision": OLD}
    assert operator.looks(ip, tls=Tls("Off")).model.status == "True"
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"https://{ip}/", verify=False, trust_env=False)


def test_each_has_its_own_revision(insert: Any, operator: Operator) -> None:
    old, new = insert("vm1", OLD), insert("vm2", NEW)
    assert old != new
    assert operator.looks(old, "vm1").active == OLD
    assert operator.looks(new, "vm2", NEW).active == NEW
    other = Door(f"https://{new}", old, operator.report().ca_certificate)
    assert "certificate is not valid" in HttpProber().ready(other).message, "a guest is none but itself"


def test_nobody_answers_for_a_vm_that_is_gone(
    cloud: Cloud, insert: Any, operator: Operator, status: Any, wait_until: Any
) -> None:
    ip, ca = insert(), operator.report().ca_certificate
    door = Door(f"https://{ip}", ip, ca)
    with httpx.Client(verify=False, trust_env=False) as kept:
        assert kept.get(f"https://{ip}/healthz/ready").is_success
        cloud.control("POST", "/preempt/vm1")
        wait_until(lambda: status() == "TERMINATED", "the preemption")
        assert HttpProber().ready(door).message.endswith("Connection reset by peer")
        with pytest.raises(httpx.TransportError):
            kept.get(f"https://{ip}/healthz/ready")
    assert operator.report() == GuestReport()
    others = insert("vm2", NEW)
    cloud.compute("POST", f"{INSTANCES}/vm1/start")
    wait_until(lambda: status() == "RUNNING", "the start")
    found = cloud.compute("GET", f"{INSTANCES}/vm1").json()
    again = found["networkInterfaces"][0]["accessConfigs"][0]["natIP"]
    assert len({ip, others, again}) == 3
    assert operator.looks(again).model.status == "True"


def test_a_suspended_or_crashed_vm_is_silent(
    cloud: Cloud, insert: Any, operator: Operator, status: Any, wait_until: Any
) -> None:
    door = Door(f"https://{insert()}", "127.0.77.10", operator.report().ca_certificate)
    cloud.compute("POST", f"{INSTANCES}/vm1/suspend")
    wait_until(lambda: status() == "SUSPENDED", "the suspension")
    assert not HttpProber().ready(door).ok
    cloud.compute("POST", f"{INSTANCES}/vm1/resume")
    wait_until(lambda: status() == "RUNNING", "the resumption")
    assert HttpProber().ready(door).ok
    cloud.vms.crash("vm1")
    assert not HttpProber().ready(door).ok, "at once, whatever the instance's status still is"


def test_a_new_revision_serves(cloud: Cloud, insert: Any, operator: Operator) -> None:
    ip = insert()
    before = cloud.compute("GET", f"{INSTANCES}/vm1").json()["metadata"]["fingerprint"]
    body = metadata(NEW) | {"fingerprint": before}
    assert cloud.compute("POST", f"{INSTANCES}/vm1/setMetadata", body).is_success
    assert operator.looks(ip, target=NEW).active == NEW
    assert (operator.report().target, operator.report().active) == (NEW, NEW)


def test_a_broken_model_says_why(cloud: Cloud, insert: Any, operator: Operator) -> None:
    ip = insert()
    with cloud.fault(kind="broken-model", instance="vm*", reason="OutOfMemory", message="too large"):
        seen = operator.looks(ip)
        assert (seen.model.status, seen.model.reason) == ("False", "OutOfMemory")
        assert seen.model.message.startswith("too large; ")
        assert operator.report().failure_revision == OLD
        assert plain.get(f"http://{ip}/healthz/live", trust_env=False).is_success
    assert operator.looks(ip).model.status == "True"


def test_a_name_of_its_own(cloud: Cloud, insert: Any, operator: Operator) -> None:
    ip = insert(mode="Acme", host="model.example.org")
    assert operator.report().ca_certificate == "", "its authority is nobody's business then"
    bundle = (cloud.home / "guests" / "authority.pem").read_text()
    tls = Tls("Acme", "model.example.org", ca_bundle=bundle)
    seen = operator.looks(ip, tls=tls)
    assert (seen.url, seen.model.status) == ("https://model.example.org", "True")
    assert operator.looks(ip, tls=Tls("Acme", "model.example.org")).certificate.status == "False"


def test_what_a_vm_writes_itself_is_believed(insert: Any, operator: Operator, cloud: Cloud) -> None:
    with httpx.Client(transport=httpx.HTTPTransport(local_address=insert())) as vm:
        path = f"{cloud.url}/computeMetadata/v1/instance/guest-attributes/budgetml/state"
        vm.put(path, headers={"Metadata-Flavor": "Google"}, content=b'{"phase":"load"}')
    assert (operator.report().phase, operator.report().host.image) == ("load", IMAGE)


def test_a_restart_keeps_authority_and_answers(cloud: Cloud, insert: Any, operator: Operator) -> None:
    ip = insert()
    door = Door(f"https://{ip}", ip, operator.report().ca_certificate)
    cloud.turn()
    assert HttpProber().ready(door).revision == OLD
    assert operator.report().ca_certificate == door.ca


def test_many_are_one_listener(cloud: Cloud, insert: Any, spot_body: Any, wait_until: Any) -> None:
    first = insert("vm0")

    def costs() -> tuple[int, int]:
        guests = sum(thread.name == "guests" for thread in threading.enumerate())
        return guests, len(list(Path("/proc/self/fd").iterdir()))

    def revision(ip: str, client: httpx.Client) -> str:
        return str(client.get(f"https://{ip}/healthz/ready").json()["revision"])

    with httpx.Client(verify=False, trust_env=False) as client:
        assert revision(first, client) == OLD
    before = costs()
    with ThreadPoolExecutor(8) as pool:
        bodies = [spot_body(f"vm{n}", metadata=metadata(f"{n:08x}")) for n in range(1, MANY)]
        list(pool.map(lambda body: cloud.compute("POST", INSTANCES, body), bodies))
    found: dict[str, str] = {}

    def all_run() -> bool:
        items = cloud.compute("GET", INSTANCES).json()["items"]
        found.update((item["name"], item["networkInterfaces"][0]["networkIP"]) for item in items)
        return len(items) == MANY and all(item["status"] == "RUNNING" for item in items)

    wait_until(all_run, "all to run", 60)
    with httpx.Client(verify=False, trust_env=False) as client:
        seen = {name: revision(ip, client) for name, ip in found.items()}
    assert seen == {"vm0": OLD} | {f"vm{n}": f"{n:08x}" for n in range(1, MANY)}
    wait_until(lambda: costs()[1] <= before[1] + 5, "the connections to go")
    assert costs()[0] == before[0] == 1
