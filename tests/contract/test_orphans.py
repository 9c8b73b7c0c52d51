"""`budget-operator orphans` as a program: Google's clients against the local cloud, and an API server that
answers what the command asks.
"""

from __future__ import annotations

import json
import re
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from budget_operator.cloud.compute import ComputeGateway
from budget_operator.cloud.connection import Connection
from budget_operator.cloud.pubsub import PubSubGateway
from budget_operator.cloud.scheduler import SchedulerGateway
from budget_operator.cloud.storage import StorageGateway
from budget_operator.core.gateways import InstanceRequest
from budget_operator.core.names import LABEL_DELETION, METADATA_OWNER, Owner, Shared
from budget_operator.core.observed import OperationRef
from budget_operator.core.ownership import Claim
from budget_operator.main import app
from dev import plain
from dev.conformance.bodies import REGION, ZONE
from dev.conformance.server import Cloud, until
from dev.paths import ROOT
from localcloud.clock import SystemClock
from localcloud.ports import free_port

PROJECT, BUCKET, CLUSTER = "my-project", "my-project-budgetml", "the-cluster"
SHARED = Shared("default")
IRIS, ROSE = (Owner("default", "default", name) for name in ("iris", "rose"))
AGO = timedelta(hours=1)


class SlowClock(SystemClock):
    """What is made now was made a while ago."""

    def now(self) -> datetime:
        return datetime.now(UTC) - AGO


@dataclass
class ApiServer:
    """As much of one as the command asks for. `installed`: it knows BudgetDeployments."""

    port: int
    objects: list[Owner] = field(default_factory=list)
    installed: bool = True

    def answer(self, path: str) -> tuple[int, Any]:
        if path == "/api/v1/namespaces/kube-system":
            return 200, {"metadata": {"uid": CLUSTER}}
        if path == "/apis/budgetml.dev/v1alpha1/budgetdeployments" and self.installed:
            items = [{"metadata": {"namespace": each.namespace, "name": each.name}} for each in self.objects]
            return 200, {"items": items or None, "metadata": {}}
        return 404, {"kind": "Status", "code": 404, "message": "not found"}


@pytest.fixture
def api_server() -> Iterator[ApiServer]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = served.answer(self.path.partition("?")[0])
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, *_: Any) -> None:
            """Nothing is printed."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        served = ApiServer(server.server_address[1])
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield served
        server.shutdown()


def kubeconfig(path: Path, port: int) -> str:
    named = {"name": "it", "cluster": {"server": f"http://127.0.0.1:{port}"}}
    context = {"name": "it", "context": {"cluster": "it", "user": "it"}}
    user = {"name": "it", "user": {}}
    path.write_text(
        yaml.safe_dump({"clusters": [named], "contexts": [context], "users": [user], "current-context": "it"})
    )
    return str(path)


@dataclass
class Installation:
    """What two deployments have made, and the command."""

    cloud: Cloud
    api: ApiServer
    folder: Path

    def __post_init__(self) -> None:
        connection = Connection(PROJECT, self.cloud.url, "anonymous")
        self.compute = ComputeGateway(connection)
        self.storage = StorageGateway(connection, BUCKET)
        self.topics = PubSubGateway(connection)
        self.jobs = SchedulerGateway(connection, REGION)

    def done(self, ref: OperationRef) -> None:
        until(lambda: getattr(self.compute.operation(ref), "done", False), ref.name)

    def share(self, cluster: str = CLUSTER) -> None:
        self.storage.create_bucket(REGION, SHARED.labels)
        since = datetime.now(UTC) - AGO
        self.storage.write("owner", Claim(cluster, since, datetime.now(UTC)).document(), "text/plain", 0)
        self.topics.create_topic(SHARED.keep_alive, SHARED.labels)
        self.jobs.create_job(SHARED.keep_alive, "0 0 1 1 *", "Etc/UTC", SHARED.keep_alive, b"{}", SHARED.mark)
        self.done(
            self.compute.insert_firewall(
                SHARED.firewall, "global/networks/default", SHARED.network_tag, SHARED.mark, new_id()
            )
        )

    def deploy(self, owner: Owner, deletion: str = "delete") -> None:
        self.done(self.compute.reserve_address(REGION, owner.cloud_name, owner.labels, new_id()))
        address = self.compute.address(REGION, owner.cloud_name)
        assert address is not None
        wanted = {"budgetml-wanted": "running", LABEL_DELETION: deletion}
        request = InstanceRequest(
            name=owner.cloud_name,
            zone=ZONE,
            machine_type="e2-medium",
            provisioning_model="SPOT",
            disk_gib=20,
            source_image="projects/cos-cloud/global/images/family/cos-stable",
            network="global/networks/default",
            network_tag=SHARED.network_tag,
            address=address.address,
            service_account="",
            labels={**owner.labels, **wanted},
            metadata={METADATA_OWNER: owner.document},
        )
        self.done(self.compute.insert_instance(request, new_id()))
        self.storage.upload(f"code/{owner.cloud_name}/1/bundle.zip", b"x" * 1000, "application/zip")

    def leave_disk(self, owner: Owner, spot_body: Callable[..., dict[str, Any]]) -> str:
        """A disk that somebody has kept, of a VM that is gone."""
        made = spot_body(f"{owner.cloud_name}")
        parameters = made["disks"][0]["initializeParams"] | {
            "labels": dict(owner.labels),
            "diskType": f"zones/{ZONE}/diskTypes/pd-balanced",
        }
        made["disks"][0] |= {"autoDelete": False, "initializeParams": parameters}
        made["labels"] = {}
        for method, path, body in (
            ("POST", f"zones/{ZONE}/instances", made),
            ("DELETE", f"zones/{ZONE}/instances/{owner.cloud_name}", None),
        ):
            url = f"{self.cloud.url}/compute/v1/projects/{PROJECT}/{path}"
            started = plain.request(method, url, json=body).json()
            self.done(OperationRef(started["name"], f"zones/{ZONE}"))
        return owner.cloud_name

    def run(self, *options: str, **settings: str) -> Any:
        environment = {
            "BUDGET_PROJECT": PROJECT,
            "BUDGET_ZONES": f"{ZONE},us-central1-b",
            "BUDGET_BUCKET": BUCKET,
            "BUDGET_IMAGE": "registry/server:1",
            "BUDGET_API_ENDPOINT": self.cloud.url,
            "BUDGET_CREDENTIALS": "anonymous",
            "KUBECONFIG": kubeconfig(self.folder / "kubeconfig", self.api.port),
        }
        done = CliRunner().invoke(app, ["orphans", *options], env=environment | settings)
        assert isinstance(done.exception, SystemExit | None), done.exception
        return done

    def resources(self, *options: str, **settings: str) -> tuple[int, list[dict[str, Any]]]:
        done = self.run("-o", "json", *options, **settings)
        return done.exit_code, json.loads(done.stdout)["resources"]

    def left(self) -> set[tuple[str, str]]:
        return {(each["kind"], each["name"]) for each in self.cloud.control("GET", "/resources")["resources"]}

    def changes(self) -> list[str]:
        """Calls that have changed something. Answers come before their entries: the last is waited for."""
        journal, marker = self.cloud.context.journal, f"/storage/v1/b/{new_id()}"
        plain.get(f"{self.cloud.url}{marker}")
        until(lambda: any(each.path == marker for each in journal.entries(limit=1_000_000)), "the journal")
        entries = journal.entries(limit=1_000_000)
        return [f"{each.method} {each.path}" for each in entries if each.method not in ("GET", "HEAD")]


def new_id() -> str:
    return str(uuid.uuid4())


@pytest.fixture
def installation(cloud: Cloud, api_server: ApiServer, tmp_path: Path) -> Installation:
    cloud.clock = SlowClock()
    cloud.turn()
    return Installation(cloud, api_server, tmp_path)


@pytest.fixture
def two(installation: Installation) -> Installation:
    """Of two deployments one has lost its object."""
    installation.share()
    installation.deploy(IRIS)
    installation.deploy(ROSE)
    installation.api.objects = [ROSE]
    return installation


OF_IRIS = {
    ("instance", IRIS.cloud_name),
    ("disk", IRIS.cloud_name),
    ("address", IRIS.cloud_name),
    ("objects", f"code/{IRIS.cloud_name}/"),
}


def test_what_nobody_owns_is_listed_with_its_price(two: Installation) -> None:
    before = two.changes()
    code, found = two.resources()
    assert code == 1
    assert {(each["kind"], each["name"]) for each in found} == OF_IRIS
    assert {each["verdict"] for each in found} == {"orphan"}
    monthly = {each["kind"]: each["monthly"] for each in found}
    assert monthly == {
        "instance": pytest.approx(14.68, abs=0.01),
        "disk": pytest.approx(2.0),
        "address": pytest.approx(1.825, abs=0.01),
        "objects": pytest.approx(0.0, abs=1e-6),
    }
    assert monthly["objects"] > 0
    assert two.changes() == before, "nothing is changed"
    shown = two.run()
    assert shown.exit_code == 1
    assert "4 orphans: 18.50 US dollars a month." in shown.stdout
    assert "there is no BudgetDeployment default/iris" in shown.stdout


def test_what_nobody_owns_is_deleted_and_all_else_stays(two: Installation) -> None:
    done = two.run("--delete")
    assert done.exit_code == 0, done.stdout
    ends = [line.split()[:2] for line in done.stdout.splitlines() if line.split()[0] in ("deleted", "gone")]
    assert ends == [["deleted", "instance"], ["gone", "disk"], ["deleted", "address"], ["deleted", "objects"]]
    assert {name for _, name in two.left() if name == IRIS.cloud_name} == set()
    assert {kind for kind, name in two.left() if name == ROSE.cloud_name} == {"instance", "disk", "address"}
    assert {kind for kind, _ in two.left()} >= {"bucket", "topic", "job", "firewall"}
    assert set(two.storage.objects("code/")) == {f"code/{ROSE.cloud_name}/1/bundle.zip"}
    again = two.run("--delete")
    assert (again.exit_code, again.stdout) == (0, "No orphans.\n")


def test_with_the_last_one_everything_goes(two: Installation) -> None:
    two.api.objects = []
    done = two.run("--delete", "-o", "json")
    assert done.exit_code == 0, done.stdout
    outcomes = [each["outcome"]["end"] for each in json.loads(done.stdout)["resources"]]
    assert set(outcomes) == {"deleted", "gone"}
    assert two.left() == set()
    assert two.run().stdout == "No orphans.\n"


def test_a_disk_that_was_kept_is_found_and_deleted(
    two: Installation, spot_body: Callable[..., dict[str, Any]]
) -> None:
    two.run("--delete")
    assert two.run().exit_code == 0
    name = two.leave_disk(IRIS, spot_body)
    code, (found,) = two.resources()
    assert (code, found["kind"], found["name"], found["monthly"]) == (1, "disk", name, pytest.approx(2.0))
    assert two.run("--delete").exit_code == 0
    assert ("disk", name) not in two.left()


def test_where_the_cluster_does_not_answer_nothing_is_an_orphan(two: Installation) -> None:
    before = two.changes()
    two.api.port = free_port()
    for options in ((), ("--delete",)):
        done = two.run(*options)
        assert (done.exit_code, done.stdout) == (2, "")
        assert "nothing is called an orphan: " in done.stderr
        assert "the Kubernetes API does not answer" in done.stderr
    assert two.changes() == before


def test_without_access_to_a_cluster_nothing_is_an_orphan(two: Installation) -> None:
    done = two.run("--delete", KUBECONFIG="")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "set KUBECONFIG or run in a pod" in done.stderr


def test_a_cluster_that_knows_no_deployments_is_the_wrong_one(two: Installation) -> None:
    two.api.installed = False
    done = two.run("--delete")
    assert done.exit_code == 2
    assert "list budgetdeployments" in done.stderr
    assert ("instance", IRIS.cloud_name) in two.left()


def test_of_another_clusters_installation_nothing_is_an_orphan(installation: Installation) -> None:
    installation.share(cluster="another")
    installation.deploy(IRIS)
    done = installation.run("--delete")
    assert done.exit_code == 2
    assert "belongs to cluster another" in done.stderr
    assert ("instance", IRIS.cloud_name) in installation.left()
    assert installation.run("--delete", BUDGET_TAKEOVER="true").exit_code == 0
    assert installation.left() == set()


def test_a_wrong_bucket_deletes_nothing(two: Installation) -> None:
    done = two.run("--delete", BUDGET_BUCKET="another-one")
    assert done.exit_code == 2
    assert "Check BUDGET_BUCKET" in done.stderr
    assert ("instance", IRIS.cloud_name) in two.left()


def test_of_another_installation_nothing_is_seen(two: Installation) -> None:
    done = two.run("--delete", BUDGET_INSTALLATION="another", BUDGET_BUCKET="another-one")
    assert (done.exit_code, done.stdout) == (0, "No orphans.\n")
    assert ("instance", IRIS.cloud_name) in two.left()


def test_what_was_retained_is_said_to_be(installation: Installation) -> None:
    installation.share()
    installation.deploy(IRIS, "retain")
    code, found = installation.resources("--delete")
    assert code == 0
    assert {each["verdict"] for each in found} == {"retained"}
    assert {each["kind"] for each in found} >= {"instance", "disk", "address", "objects", "job", "bucket"}
    assert ("instance", IRIS.cloud_name) in installation.left()


def test_what_was_just_made_is_left_alone(installation: Installation) -> None:
    installation.share()
    installation.cloud.clock = SystemClock()
    installation.cloud.turn()
    installation.deploy(IRIS)
    code, found = installation.resources("--delete")
    assert code == 0
    assert {each["verdict"] for each in found} == {"new"}
    assert ("instance", IRIS.cloud_name) in installation.left()


def test_what_a_silent_zone_hides_is_unknown_and_stays(two: Installation) -> None:
    two.api.objects = []
    with two.cloud.fault(kind="silent-zone", zone=ZONE):
        done = two.run("--delete", "-o", "json")
    assert done.exit_code == 2
    document = json.loads(done.stdout)
    assert document["unseen"] == {f"zones/{ZONE}": f"zones/{ZONE} does not answer"}
    assert {each["verdict"] for each in document["resources"]} == {"unknown"}
    assert ("address", IRIS.cloud_name) in two.left()


def test_what_cannot_be_deleted_is_told_and_what_lives_by_it_stays(two: Installation) -> None:
    path = f"/instances/{IRIS.cloud_name}$"
    with two.cloud.fault(method="DELETE", path=path, code=403, reason="forbidden", count=0):
        done = two.run("--delete")
    assert done.exit_code == 1
    failed = [line for line in done.stdout.splitlines() if line.startswith(("failed", "left"))]
    assert failed[0].startswith(f"failed   instance {IRIS.cloud_name} in {ZONE}: delete instance")
    assert [line.split()[:2] for line in failed[1:]] == [
        ["left", "disk"],
        ["left", "address"],
        ["left", "objects"],
    ]
    assert OF_IRIS - {("objects", f"code/{IRIS.cloud_name}/")} <= two.left()


def test_settings_that_are_wrong_are_named(two: Installation) -> None:
    done = two.run(BUDGET_ZONES="here")
    assert done.exit_code == 2
    assert "BUDGET_ZONES" in done.stderr


PAGE = (ROOT / "docs" / "orphans.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def said(text: str) -> list[str]:
    """Without what only old prices are warned with."""
    return [line for line in text.splitlines() if not line.startswith("WARNING")]


def test_the_page_shows_what_the_command_says(two: Installation) -> None:
    (_, look), (_, shown), (_, clear) = BLOCKS
    program, command, *options = look.split()
    assert (program, command) == ("budget-operator", "orphans")
    assert said(two.run(*options).stdout) == said(shown)
    program, command, *options = clear.split()
    assert (program, command) == ("budget-operator", "orphans")
    assert two.run(*options).exit_code == 0
    assert two.run().exit_code == 0
