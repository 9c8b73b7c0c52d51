"""A Spot VM that is taken away before it serves, again and again: operator and keep-alive as they are,
against the local cloud. Time, the guest and the building of the function are the test's own.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from budget_operator.cloud.compute import ComputeGateway
from budget_operator.cloud.connection import Connection
from budget_operator.cloud.inventory import Gateways, Inventories
from budget_operator.cloud.pubsub import PubSubGateway
from budget_operator.cloud.scheduler import SchedulerGateway
from budget_operator.cloud.storage import StorageGateway
from budget_operator.core.gateways import Cloud, Door, FunctionRequest
from budget_operator.core.names import LABEL_SCHEDULE, METADATA_CONFIG, Owner, Shared
from budget_operator.core.observed import InstanceStatus, Probe
from budget_operator.reconcile import Means, Reconciler
from dev import plain
from dev.simulation.apiserver import ApiServer, Journal
from localcloud.services.compute.guest import GuestAttributes
from tests.unit.budget_operator.fakes import PARTS, SETTINGS, Clock, FakeCloud

ZONES, REGION = ("us-central1-a", "us-central1-b"), "us-central1"
OWNER = Owner("default", "default", "iris")
NAME = OWNER.cloud_name
BOOT_SECONDS = 20
PROVISIONING = 0.3
"""Seconds; the longest that the local cloud waits for here."""
AUTHORITY = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
FUNCTION = Path(__file__).parents[2] / "restart_function" / "main.py"


class Moving(Clock):
    """No two things happen at the same instant."""

    def __call__(self) -> datetime:
        self.advance(0.001)
        return self.now


class CloudClock:
    """The local cloud's: it reads the test's time, and what takes milliseconds takes them."""

    def __init__(self, clock: Clock, provisioning: threading.Event) -> None:
        self._clock = clock
        self._provisioning = provisioning

    def now(self) -> datetime:
        return self._clock.now

    def monotonic(self) -> float:
        return self._clock.now.timestamp()

    def wait(self, seconds: float, wake: threading.Event) -> bool:
        if seconds >= PROVISIONING:
            self._provisioning.wait()
        return wake.wait(max(0.0, seconds))

    def thread(self, work: Callable[[], object], name: str) -> threading.Thread:
        return threading.Thread(target=work, name=name, daemon=True)


@dataclass
class Built(FakeCloud):
    """Functions are there, and listen, at once; what they would do is done by the tests."""

    url: str = ""

    def create_function(self, request: FunctionRequest) -> None:
        self._build(request)
        self._built()
        body = {"topic": f"projects/p1/topics/{request.topic}"}
        path = "v1/projects/p1/subscriptions/eventarc-trigger"
        plain.put(f"{self.url}/{path}", json=body).raise_for_status()


@dataclass
class Guest:
    """What answers at a VM's address, once it has run for long enough."""

    clock: Clock
    compute: ComputeGateway
    began: Callable[[], str]

    def ready(self, door: Door) -> Probe:
        vm = next(filter(None, (self.compute.instance(zone, NAME) for zone in ZONES)), None)
        if vm is None or vm.status is not InstanceStatus.RUNNING or door.url != f"https://{vm.external_ip}":
            return Probe(False, "connection refused")
        if self.clock.now - datetime.fromisoformat(self.began()) < timedelta(seconds=BOOT_SECONDS):
            return Probe(False, "connection refused")
        return Probe(True, "ok", json.loads(vm.metadata[METADATA_CONFIG])["revision"], certificate_ok=True)

    def many_ready(self, doors: Sequence[Door]) -> Mapping[Door, Probe]:
        return {door: self.ready(door) for door in doors}

    def predict(self, door: Door, token: str, payload: object) -> Probe:
        return self.ready(door)


@dataclass
class Stage:
    """A deployment, the operator's passes over it, and the ticks of the keep-alive, on the test's time."""

    cloud: Any
    wait_until: Callable[..., Any]
    clock: Clock = field(default_factory=Moving)
    ticks: Callable[[], None] | None = None
    provisioning: threading.Event = field(default_factory=threading.Event)
    """Until it is set no VM gets beyond its first phase."""

    def __post_init__(self) -> None:
        journal = Journal()
        self.kube = ApiServer(self.clock, journal)
        connection = Connection("p1", self.cloud.url, "anonymous")
        self.compute = ComputeGateway(connection)
        services = Gateways(
            compute=self.compute,
            storage=StorageGateway(connection, "bucket"),
            pubsub=PubSubGateway(connection),
            scheduler=SchedulerGateway(connection, REGION),
            functions=Built(self.clock, journal, url=self.cloud.url),
        )
        gateways = Cloud(
            **vars(services),
            snapshots=Inventories(services, "default", self.clock, self.clock.wall),
            prober=Guest(self.clock, self.compute, lambda: str(self.instance()["lastStartTimestamp"])),
        )
        settings = replace(SETTINGS, project="p1", api_endpoint=self.cloud.url, credentials="anonymous")
        self.reconciler = Reconciler(
            settings,
            self.kube,
            Means(gateways, self.clock, self.clock.wall, jitter=lambda: 1.0),
            PARTS,
        )
        self.due = self.next_tick = self.clock.now
        self.provisioning.set()

    def instance(self) -> dict[str, Any]:
        """The one that there is; never a second."""
        listed = self.cloud.compute("GET", "aggregated/instances").json()["items"].values()
        found = [instance for scope in listed for instance in scope.get("instances", ())]
        assert len(found) <= 1, found
        return found[0] if found else {"status": "NONE"}

    def status(self) -> str:
        return str(self.instance()["status"])

    def until(self, reached: Callable[[], bool], seconds: float = 600) -> None:
        """Passes and ticks, each in its time."""
        deadline = self.clock.now + timedelta(seconds=seconds)
        while not reached():
            assert self.clock.now < deadline, json.dumps(self.kube.status("iris"), indent=1)
            self.clock.now = max(self.clock.now, min(self.due, self.next_tick))
            if self.clock.now >= self.next_tick:
                self.next_tick += timedelta(minutes=1)
                if self.ticks is not None:
                    self.ticks()
            if self.clock.now >= self.due:
                after = self.reconciler.reconcile("default", "iris").after
                self.due = self.clock.now + timedelta(seconds=max(after or 0, 0.05))
            self.settle()

    def settle(self) -> None:
        """What takes milliseconds has happened; the VM has told its authority."""
        self.wait_until(lambda: self.status() in ("NONE", "RUNNING", "TERMINATED"), "the VM to come to rest")
        if self.status() == "RUNNING":
            path = f"projects/p1/{self.instance()['selfLink'].split('/projects/p1/')[1]}"
            GuestAttributes(self.cloud.context.store).put(path, "budgetml", "ca", AUTHORITY)

    def preempt(self) -> None:
        """Within seconds of a start, without a notice."""
        self.cloud.control("POST", f"/preempt/{NAME}")
        self.settle()
        assert self.status() == "TERMINATED"

    def moments(self, path: str) -> list[datetime]:
        """When calls to it took effect."""
        return [
            datetime.fromisoformat(entry.time)
            for entry in self.cloud.context.journal.entries(limit=1_000_000)
            if entry.method == "POST" and entry.path.partition("?")[0].endswith(path) and entry.status == 200
        ]


@pytest.fixture
def stage(cloud: Any, wait_until: Callable[..., Any]) -> Stage:
    made = Stage(cloud, wait_until)
    cloud.clock = CloudClock(made.clock, made.provisioning)
    cloud.durations = replace(cloud.durations, notice=0.0, provisioning=PROVISIONING)
    cloud.turn()
    return made


def preempted_before_it_served(stage: Stage) -> list[float]:
    """The creation and five starts come to nothing, then nobody disturbs; the pauses before each start."""
    stage.provisioning.clear()
    stage.kube.apply("iris")
    made = threading.Thread(target=preempt_while_it_is_made, args=(stage,))
    made.start()
    stage.until(lambda: bool(stage.moments("/instances")) and not made.is_alive())
    stage.settle()
    assert stage.status() == "TERMINATED"
    (operation,) = stage.cloud.compute(
        "GET", f"zones/{ZONES[0]}/operations", filter='operationType="insert"'
    ).json()["items"]
    assert "failed to start due to preemption" in operation["error"]["errors"][0]["message"]
    downs = [stage.clock.now]
    for _ in range(5):
        stage.until(lambda: stage.status() == "RUNNING")
        stage.clock.advance(3)
        stage.preempt()
        downs.append(stage.clock.now)
    stage.until(lambda: stage.kube.condition("iris", "Ready")[0] == "True")
    starts = stage.moments("/start")
    return [(start - down).total_seconds() for down, start in zip(downs, starts, strict=True)]


def preempt_while_it_is_made(stage: Stage) -> None:
    stage.wait_until(lambda: stage.status() == "PROVISIONING", "the VM to be made", 60)
    stage.cloud.control("POST", f"/preempt/{NAME}")
    stage.provisioning.set()


def test_a_vm_that_is_preempted_before_it_serves_comes_back_with_growing_pauses(stage: Stage) -> None:
    """The operator alone, as with a keep-alive that ticks once a day."""
    pauses = preempted_before_it_served(stage)
    print("pauses before the starts:", pauses)
    assert len(stage.moments("/instances")) == 1, "one insert, however it ended"
    for pause, wanted in zip(pauses, (10, 20, 40, 80, 160, 160), strict=True):
        assert pause == pytest.approx(wanted, abs=1)
    assert stage.kube.status("iris")["preemptions"]["count"] == 6
    told = [message for _, reason, message in stage.kube.events if reason == "Preempted"]
    counted = [message.rpartition("before it served: ")[2] for message in told]
    assert counted == [*(f"{number} in a row" for number in range(1, 5)), *["5 or more in a row"] * 2]


def test_the_keep_alive_starts_it_once_a_minute_at_most(stage: Stage) -> None:
    """It needs no memory of its own: pauses grow up to its schedule, and nobody starts what runs."""
    main = restart_function()
    cloud = main.Cloud("p1", Shared("default").hash, stage.cloud.url, "anonymous")

    def tick() -> None:
        seconds = iter(range(1000))
        main.keep_alive(cloud, main.Tick("", uuid.uuid4().hex), lambda: float(next(seconds)), lambda _: None)

    stage.ticks = tick
    pauses = preempted_before_it_served(stage)
    print("pauses before the starts:", pauses)
    assert len(stage.moments("/instances")) == 1
    assert max(pauses) <= 61
    starts = stage.moments("/start")
    assert all(later - earlier >= timedelta(seconds=10) for earlier, later in pairwise(starts))


def test_the_message_that_a_vm_sends_when_it_leaves_names_it(stage: Stage) -> None:
    stage.kube.apply("iris")
    stage.until(lambda: stage.status() == "RUNNING")
    vm = stage.instance()
    (config,) = [item["value"] for item in vm["metadata"]["items"] if item["key"] == METADATA_CONFIG]
    told = json.loads(config)
    topics = stage.cloud.control("GET", "/resources")["resources"]
    assert told["keepAliveTopic"].rpartition("/")[2] in [
        row["name"] for row in topics if row["kind"] == "topic"
    ]
    main = restart_function()
    tick = main.read_tick("1", {"message": {"data": told["keepAliveData"]}})
    assert tick == main.Tick(vm["labels"][LABEL_SCHEDULE], "1", NAME)


def restart_function() -> Any:
    spec = importlib.util.spec_from_file_location("restart_function_of_this_test", FUNCTION)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
