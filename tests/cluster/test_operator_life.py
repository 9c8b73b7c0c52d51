"""The operator and a bad world: crashes, a second operator, strangers, sold-out zones, an outage."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from budget_operator.core.names import Owner, Shared
from dev.conformance.bodies import archive
from dev.progress import until

PREDICTOR = "class Predictor:\n    def load(self): pass\n    def predict(self, request): return 1\n"
PROJECT, REGION, ZONE, OTHER_ZONE = "local-project", "us-central1", "us-central1-a", "us-central1-b"
TAKEOVER_SECONDS = 60
SHARED = Shared("default")


def document(name: str, namespace: str = "default") -> dict[str, Any]:
    return {
        "apiVersion": "budgetml.dev/v1alpha1",
        "kind": "BudgetDeployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"predictor": {"inline": PREDICTOR}},
    }


def cloud_name(name: str, namespace: str = "default") -> str:
    return Owner("default", namespace, name).cloud_name


def running(conditions: dict[str, dict[str, Any]]) -> bool:
    return bool(conditions["InstanceRunning"]["status"] == "True")


def armed(conditions: dict[str, dict[str, Any]]) -> bool:
    return running(conditions) and bool(conditions["KeepAliveArmed"]["status"] == "True")


def creations(changes: list[str]) -> dict[str, int]:
    """How often each kind of thing was made, by the collection that it was posted to."""
    counted: dict[str, int] = {}
    for line in changes:
        method, path, status = line.split()
        if method == "POST" and status.startswith("2") and path.endswith(COLLECTIONS):
            kind = path.rpartition("/")[2]
            counted[kind] = counted.get(kind, 0) + 1
    return counted


COLLECTIONS = ("/instances", "/addresses", "/firewalls", "/jobs", "/functions")


@pytest.fixture
def empty(world: Any) -> Iterator[None]:
    """The cloud is empty before and after."""
    assert world.resources() == []
    yield
    world.control("DELETE", "faults")
    world.kubectl("delete", "bd", "--all", "--timeout=60s")
    assert world.resources() == []


def test_one_of_two_operators_acts_and_the_other_takes_over(operator: Any, empty: None) -> None:
    """The first is killed between the call that makes the VM and the note about it."""
    world = operator.world
    second = type(operator)(world, "operator-2")
    second.start()
    try:
        until(lambda: "standing by" in (second.health() or ""), 20, lambda: f"{second.health()}")
        assert operator.health() == "200 active"
        since = world.mark()
        slow = {"method": "POST", "path": "/zones/[^/]+/instances$", "code": 503, "when": "after"}
        world.control("POST", "faults", {**slow, "latency": 2.0})
        world.apply(document("orphan"))
        until(lambda: world.names("instance") == [cloud_name("orphan")], 30, "no VM is made")
        operator.process.kill()
        killed = time.monotonic()
        assert (second.health() or "").startswith("200 standing by: ")
        world.apply({**document("orphan"), "spec": {"predictor": {"inline": PREDICTOR + "\n"}}})
        second.until_active(TAKEOVER_SECONDS)
        world.wait("orphan", armed)
        assert time.monotonic() - killed < TAKEOVER_SECONDS
        made = creations(world.changes(since))
        assert made.pop("functions") <= 2, "a build may be asked for again, under the same name"
        assert made == {"addresses": 1, "firewalls": 1, "jobs": 1}, "the answer about the VM was lost"
        assert world.names("instance") == [cloud_name("orphan")]
        operator.start()
        until(lambda: "standing by" in (operator.health() or ""), 20, lambda: f"{operator.health()}")
    finally:
        second.process.stop()
    operator.until_active(20)


def test_a_rolling_update_in_the_midst_of_five_creations_makes_each_once(operator: Any, empty: None) -> None:
    """The new pod is ready, as a standby, before the old one is told to end."""
    world, names = operator.world, [f"rolled-{number}" for number in range(5)]
    second = type(operator)(world, "operator-2")
    second.start()
    try:
        until(lambda: "standing by" in (second.health() or ""), 20, lambda: f"{second.health()}")
        since = world.mark()
        # Three wait for their second attempt when the old one is told to end.
        failing = {"method": "POST", "path": "/zones/[^/]+/instances$", "code": 503, "count": 3}
        world.control("POST", "faults", failing)
        world.apply(*map(document, names))
        until(lambda: bool(world.names("instance")), 30, "no VM is made")
        operator.process.stop()
        begun = len(world.names("instance"))
        second.until_active(TAKEOVER_SECONDS)
        for name in names:
            world.wait(name, armed, 90)
        wanted = sorted(map(cloud_name, names))
        assert sorted(world.names("instance")) == sorted(world.names("address")) == wanted
        assert 0 < begun < len(names), "it was not in the midst of them"
        made = creations(world.changes(since))
        assert made.pop("functions") <= 2, "a build may be asked for again, under the same name"
        assert made == {"instances": 5, "addresses": 5, "firewalls": 1, "jobs": 1}
    finally:
        second.process.stop()
        operator.start()
    operator.until_active(20)


def test_the_last_deployment_takes_the_shared_things_along(operator: Any, empty: None) -> None:
    world = operator.world
    world.apply(document("one"), document("two"))
    world.wait("one", armed)
    world.wait("two", armed)
    since = world.mark()
    shared = [row for row in world.resources() if cloud_name("one") not in row[1]]
    world.delete("one")
    assert [row for row in world.resources() if row[0] != "object"] == [
        row for row in shared if row[0] != "object"
    ]
    assert not any(cloud_name("one") in name for name in world.names("object"))
    deleted = [line for line in world.changes(since) if line.startswith("DELETE")]
    assert all(cloud_name("one") in line.replace("%2F", "/") for line in deleted), deleted
    assert armed(world.conditions("two"))
    world.delete("two")
    assert world.resources() == []


CONFLICTS = {True: ("ArtifactUploaded",), False: ("KeepAliveArmed", "InstanceRunning")}
"""A bucket of a stranger holds everything else up: an installation begins with its bucket."""


@pytest.mark.parametrize("bucket", [True, False])
def test_what_a_stranger_made_is_never_touched(operator: Any, empty: None, bucket: bool) -> None:
    """Everything that the operator would make is there already, without its marks."""
    world = operator.world
    strangers = make_strangers(world, cloud_name("mine"), bucket=bucket)
    since = world.mark()
    world.apply(document("mine"))
    found = world.wait("mine", lambda found: found["Stalled"]["status"] == "True")
    assert found["Stalled"]["reason"] == "NameConflict"
    for kind in (*CONFLICTS[bucket], "Ready"):
        assert (found[kind]["status"], found[kind]["reason"]) == ("False", "NameConflict"), kind
    assert bucket or cloud_name("mine") in found["InstanceRunning"]["message"]
    world.delete("mine")
    assert [line for line in world.changes(since) if bucket or "/storage/" not in line] == []
    for path, as_made in strangers.items():
        assert world.api.get(path).json() == as_made
    for path in strangers:
        world.api.delete(path).raise_for_status()
    until(lambda: world.resources() == [], 60, lambda: f"{world.resources()}")


def test_a_vm_that_a_stranger_made_is_never_touched(operator: Any, empty: None) -> None:
    """Only it stands in the way: all else is made, and removed again."""
    world, name = operator.world, cloud_name("mine")
    path = f"/compute/v1/projects/{PROJECT}/zones/{OTHER_ZONE}/instances"
    world.api.post(path, json=instance_by_hand(name, OTHER_ZONE)).raise_for_status()
    vm = f"{path}/{name}"
    until(lambda: bool(running_at(world, vm)), 20, "the stranger does not run")
    before, since = running_at(world, vm), world.mark()
    world.apply(document("mine"))
    found = world.wait("mine", lambda found: found["ArtifactUploaded"]["status"] == "True")
    assert found["Stalled"]["reason"] == found["InstanceRunning"]["reason"] == "NameConflict"
    assert f"instance {name} in {OTHER_ZONE}" in found["Stalled"]["message"]
    world.delete("mine")
    assert [line for line in world.changes(since) if "/instances" in line] == []
    assert running_at(world, vm) == before
    assert {row[0] for row in world.resources()} == {"instance", "disk"}
    world.api.delete(vm).raise_for_status()
    until(lambda: world.resources() == [], 60, lambda: f"{world.resources()}")


def test_a_function_that_a_stranger_made_is_never_touched(operator: Any, empty: None) -> None:
    """The keep-alive waits for its name; the VM does not."""
    world = operator.world
    made = make_function(world)
    before, since = world.api.get(made[0]).json(), world.mark()
    world.apply(document("mine"))
    found = world.wait("mine", lambda found: found["KeepAliveArmed"]["reason"] == "NameConflict", 60)
    assert f"function {SHARED.keep_alive} exists" in found["KeepAliveArmed"]["message"]
    world.wait("mine", running)
    world.delete("mine")
    assert [line for line in world.changes(since) if "/functions" in line] == []
    assert world.api.get(made[0]).json() == before
    for path in made:
        world.api.delete(path).raise_for_status()
    until(lambda: world.resources() == [], 60, lambda: f"{world.resources()}")


def make_function(world: Any) -> tuple[str, ...]:
    """What somebody deployed under the keep-alive's name, and from where; in the order of its removal."""
    buckets, parent = "/storage/v1/b", f"/v2/projects/{PROJECT}/locations/{REGION}/functions"
    source = {"bucket": "somebodys-sources", "object": "a.zip"}
    bucket = f"{buckets}/{source['bucket']}"
    world.api.post(f"{buckets}?project={PROJECT}", json={"name": source["bucket"]}).raise_for_status()
    upload = f"/upload{bucket}/o?uploadType=media&name={source['object']}"
    world.api.post(upload, content=archive()).raise_for_status()
    build = {"runtime": "python311", "entryPoint": "main", "source": {"storageSource": source}}
    body = {"environment": "GEN_2", "buildConfig": build, "serviceConfig": {"timeoutSeconds": 70}}
    named = {"functionId": SHARED.keep_alive}
    world.api.post(parent, params=named, json=body).raise_for_status()
    path = f"{parent}/{SHARED.keep_alive}"
    until(lambda: world.api.get(path).json()["state"] == "ACTIVE", 120, lambda: world.api.get(path).text)
    return path, f"{bucket}/o/{source['object']}", bucket


def running_at(world: Any, path: str) -> dict[str, Any]:
    """The instance, if it is there and runs."""
    answer = world.api.get(path)
    found = dict(answer.json()) if answer.is_success else {}
    return found if found.get("status") == "RUNNING" else {}


def instance_by_hand(name: str, zone: str) -> dict[str, Any]:
    """What somebody would make without knowing of us."""
    disk = {"boot": True, "initializeParams": {"sourceImage": "projects/debian-cloud/global/images/d"}}
    return {
        "name": name,
        "machineType": f"zones/{zone}/machineTypes/e2-medium",
        "disks": [{**disk, "autoDelete": True}],
        "networkInterfaces": [{"network": "global/networks/default"}],
    }


def make_strangers(world: Any, name: str, *, bucket: bool) -> dict[str, Any]:
    """Path and content of what somebody made by hand."""
    compute, keep_alive = f"/compute/v1/projects/{PROJECT}", SHARED.keep_alive
    topic = f"projects/{PROJECT}/topics/{keep_alive}"
    job = f"projects/{PROJECT}/locations/{REGION}/jobs/{keep_alive}"
    target = {"topicName": topic, "data": "e30="}
    firewall = {"name": SHARED.firewall, "network": "global/networks/default"}
    allowed = {"allowed": [{"IPProtocol": "tcp", "ports": ["22"]}], "sourceRanges": ["10.0.0.0/8"]}
    calls: list[tuple[str, str, str, Any]] = [
        ("POST", f"{compute}/regions/{REGION}/addresses", f"/{name}", {"name": name}),
        ("POST", f"{compute}/zones/{ZONE}/instances", f"/{name}", instance_by_hand(name, ZONE)),
        ("POST", f"{compute}/global/firewalls", f"/{SHARED.firewall}", {**firewall, **allowed}),
        ("PUT", f"/v1/{topic}", "", {}),
        (
            "POST",
            f"/v1/projects/{PROJECT}/locations/{REGION}/jobs",
            f"/{keep_alive}",
            {"name": job, "schedule": "30 6 * * *", "timeZone": "Etc/UTC", "pubsubTarget": target},
        ),
        *([("POST", "/storage/v1/b", "/budgetml-local", {"name": "budgetml-local"})] if bucket else []),
    ]
    for method, path, _, body in calls:
        answer = world.api.request(method, path, json=body, params={"project": PROJECT})
        assert answer.is_success, answer.text
    paths = [path + suffix for _, path, suffix, _ in calls]
    until(lambda: all(world.api.get(path).is_success for path in paths), 20, "not all strangers are there")
    until(lambda: bool(running_at(world, paths[1])), 20, "the stranger does not run")
    return {path: world.api.get(path).json() for path in paths}


def test_a_sold_out_zone_is_passed_over(operator: Any, empty: None) -> None:
    world = operator.world
    world.control("POST", "faults", {"kind": "stock-out", "zone": ZONE})
    world.apply(document("moved"))
    world.wait("moved", running)
    status = world.deployment("moved")["status"]
    assert status["zone"] == OTHER_ZONE
    assert [row for row in world.resources() if row[0] == "instance"] == [
        ("instance", cloud_name("moved"), OTHER_ZONE)
    ]


def test_a_vm_whose_creation_was_preempted_is_started_and_no_second_one_is_made(
    operator: Any, empty: None
) -> None:
    """Google says that the creation failed, and yet the VM is there and holds the name."""
    world, name = operator.world, cloud_name("taken")
    since = world.mark()
    world.apply(document("taken"))

    def preempted() -> bool:
        answer = world.api.post(f"/_localcloud/v1/preempt/{name}")
        return bool(answer.is_success)

    until(preempted, 30, "no VM is made", interval=0.02)

    def creation() -> dict[str, Any]:
        """In whichever zone: the first one may still be remembered as sold out."""
        path = f"/compute/v1/projects/{PROJECT}/aggregated/operations"
        scopes = world.api.get(path, params={"filter": 'operationType="insert"'}).json()["items"].values()
        found = [each for scope in scopes for each in scope.get("operations", ())]
        return next(each for each in found if each["targetLink"].endswith(f"/instances/{name}"))

    until(lambda: creation()["status"] == "DONE", 20, "the creation does not end")
    failed = creation()
    assert "failed to start due to preemption" in failed["error"]["errors"][0]["message"]
    world.wait("taken", running, seconds=60)
    calls = [line for line in world.changes(since) if "/instances" in line and line.startswith("POST")]
    made = [line for line in calls if line.split()[1].endswith("/instances")]
    started = [line for line in calls if line.split()[1].endswith(f"/{name}/start")]
    assert (len(made), len(started)) == (1, 1)
    assert world.names("instance") == [name]
    status = world.deployment("taken")["status"]
    assert status["preemptions"]["count"] == 1
    events = world.kubectl.json("get", "events", "--field-selector=reason=Preempted")["items"]
    told = [each["message"] for each in events if each["involvedObject"]["name"] == "taken"]
    assert len(told) == 1
    assert told[0].endswith("before it served: 1 in a row")


def test_an_outage_of_the_cloud_is_told_and_survived(operator: Any, empty: None) -> None:
    """Also for a namespace that is deleted during the outage: it ends once the cloud is back."""
    world = operator.world
    world.kubectl("create", "namespace", "team-a")
    world.apply(document("kept"), document("doomed", "team-a"))
    world.wait("kept", running)
    world.wait("doomed", running, namespace="team-a")
    world.process.stop()
    world.kubectl("delete", "namespace", "team-a", "--wait=false")
    world.apply(document("late"))

    def unreachable(found: dict[str, dict[str, Any]]) -> bool:
        return bool(found["Reconciling"]["reason"] == "CloudUnavailable")

    found = world.wait("late", unreachable)
    assert found["Ready"]["status"] != "True"
    assert found["Stalled"]["status"] == "False"
    found = world.wait("kept", unreachable)
    assert found["InstanceRunning"]["status"] == "True", "what cannot be seen is not taken for gone"
    told = world.wait("doomed", unreachable, namespace="team-a")
    assert told["Reconciling"]["message"], "the reason is readable while the namespace hangs"
    world.start_cloud()
    world.wait("late", running, seconds=60)
    world.kubectl("wait", "--for=delete", "namespace/team-a", "--timeout=90s")
    left = json.dumps(world.resources())
    assert cloud_name("doomed", "team-a") not in left
    assert cloud_name("kept") in left
    assert len(world.names("instance")) == 2
