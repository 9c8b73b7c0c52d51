"""The local cloud, killed in the middle of what it does to containers: nothing is lost or half made.

It runs beside the stack's, on the same engine. Some kills come at a chosen moment, which the engine's events
tell; others at any. `tests/contract/test_killed.py` does the same without containers, and more often.
"""

import contextlib
import random
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker as sdk
import httpx
import pytest

from dev import images
from dev import stack as stacks
from dev.conformance import bodies
from dev.conformance.bodies import PROJECT, REGION, ZONE
from dev.docker import Docker
from dev.paths import CLOUD_PORT, KILLED, KILLED_BESIDE, VENV_BIN, Home, locked
from dev.progress import until

KILLS = 4  # at any moment; more come at chosen ones
DURATIONS = ("provisioning=0.1", "staging=0.1", "operation=0.05", "stop_spot=10", "watch=0.1")
INSTANCES = f"/compute/v1/projects/{PROJECT}/zones/{ZONE}/instances"
DISKS = f"/compute/v1/projects/{PROJECT}/zones/{ZONE}/disks"
ADDRESSES = f"/compute/v1/projects/{PROJECT}/regions/{REGION}/addresses"
OPERATIONS = f"/compute/v1/projects/{PROJECT}/aggregated/operations"
#: What lasts, and what the container is then. One that was stopped before its first start may have none.
LASTING = {"RUNNING": {"running"}, "SUSPENDED": {"paused"}, "TERMINATED": {"exited", "created", "absent"}}
BOOT = "vm-init: boot"
#: The disk counts the boots, the console those of one container.
STARTUP = "#!/bin/bash\necho >>/var/boots; echo boot number $(wc -l </var/boots)\n"
SHUTDOWN = "#!/bin/bash\necho going down; sleep 1\n"
WITNESS = "witness"


class Cloud:
    """A local cloud as a process of its own, and what the engine has of it."""

    def __init__(self, home: Home, docker: Docker) -> None:
        self.home = home
        self.engine = sdk.DockerClient(base_url=docker.host)
        self.loops = loops()  # of others
        self.http = httpx.Client(base_url=home.cloud_url, timeout=10, trust_env=False)
        self._env = docker.env
        self._process = stacks.localcloud(home)

    @property
    def state(self) -> Path:
        return self.home.root / "localcloud"

    def start(self) -> None:
        argv = [str(VENV_BIN / "localcloud"), "serve", f"--home={self.state}", "--backend=docker"]
        argv += [f"--listen={self.home.gateway}:{CLOUD_PORT}", *(f"--duration={each}" for each in DURATIONS)]
        argv += [f"--network={self.home.network}", f"--subnet={self.home.subnet}"]
        self._process.start([*argv, f"--vm-image={images.VM_IMAGE}"], env=self._env)
        until(self._answers, 30, lambda: f"no answer:\n{self._process.log_tail()}")

    def _answers(self) -> bool:
        try:
            return self.http.get("/_localcloud/v1/health").is_success
        except httpx.TransportError:
            return False

    def kill(self) -> None:
        self._process.kill()
        assert self._process.pid() is None

    def turn(self) -> None:
        """Start it again after a kill, and wait until all that was under way has ended."""
        self.start()
        until(
            self._is_settled, 60, lambda: f"not settled: {self.items(INSTANCES)}\n{self._process.log_tail()}"
        )

    def _is_settled(self) -> bool:
        instances = self.items(INSTANCES).values()
        scopes = self.http.get(OPERATIONS).json()["items"].values()
        ended = {each["status"] for scope in scopes for each in scope.get("operations", ())}
        runs = all(self.has_run(each["name"]) for each in instances if each["status"] == "RUNNING")
        return {each["status"] for each in instances} <= set(LASTING) and ended <= {"DONE"} and runs

    def items(self, path: str) -> dict[str, dict[str, Any]]:
        return {each["name"]: each for each in self.http.get(path).json()["items"]}

    def insert(self, name: str, **scripts: str) -> None:
        given = {"startup-script": STARTUP} | {f"{kind}-script": text for kind, text in scripts.items()}
        metadata = {"items": [{"key": key, "value": value} for key, value in given.items()]}
        body = bodies.spot_instance(
            name, metadata=metadata, machineType=f"zones/{ZONE}/machineTypes/e2-small"
        )
        self.http.post(INSTANCES, json=body).raise_for_status()

    def do(self, name: str, verb: str) -> None:
        method, path = ("DELETE", "") if verb == "delete" else ("POST", f"/{verb}")
        self.http.request(method, f"{INSTANCES}/{name}{path}").raise_for_status()

    def settled(self, name: str, status: str) -> None:
        until(lambda: self.status(name) == status and self._is_settled(), 60, lambda: self.console(name))

    def status(self, name: str) -> str:
        return str(self.items(INSTANCES).get(name, {}).get("status", "GONE"))

    def console(self, name: str) -> str:
        return str(self.http.get(f"{INSTANCES}/{name}/serialPort").json()["contents"])

    def has_run(self, name: str) -> bool:
        """Whether the last boot has come to the end of its startup script."""
        return "startup-script ended with 0" in self.console(name).rpartition(BOOT)[2]

    def events(self, name: str) -> set[str]:
        """What Google would say that happened to an instance."""
        scopes = self.http.get(OPERATIONS).json()["items"].values()
        found = [each for scope in scopes for each in scope.get("operations", ())]
        return {each["operationType"] for each in found if each["targetLink"].endswith(f"/{name}")}

    def container(self, name: str) -> Any:
        return self.engine.containers.get(f"{self.home.network}.{name}")

    def containers(self) -> dict[str, Any]:
        """All in the engine that are this cloud's, by their VM."""
        prefix = f"{self.home.network}."
        found = self.engine.containers.list(all=True, ignore_removed=True)
        return {each.name.removeprefix(prefix): each for each in found if each.name.startswith(prefix)}

    def volumes(self) -> list[str]:
        """The VM of each volume in the engine that is this cloud's."""
        prefix = f"{self.home.network}."
        names = [each.name for each in self.engine.volumes.list()]
        return sorted(name.split(".")[1] for name in names if name.startswith(prefix))

    def killed_at(self, moment: str, name: str, change: Callable[[], None]) -> None:
        """Kills it as soon as the engine tells of this moment in the life of the VM."""
        kind, action = moment.split()
        filters, container = {"type": kind, "event": action}, f"{self.home.network}.{name}"
        now = time.time_ns()  # the engine tells of whole seconds, and of earlier ones too
        told = self.engine.events(decode=True, filters=filters, since=now // 10**9, until=now // 10**9 + 30)
        change()
        for event in told:
            actor = event["Actor"]
            is_of_it = container == actor["Attributes"].get("name") or actor["ID"].startswith(f"{container}.")
            if is_of_it and event["timeNano"] > now:
                self.kill()
                told.close()
                return
        raise AssertionError(f"{name}: there was no {moment}")


@contextlib.contextmanager
def running(home: Home, docker: Docker) -> Iterator[Cloud]:
    with locked(home.network):
        stacks.down(home)
        images.network(docker, home)
        made = Cloud(home, docker)
        try:
            made.start()
            yield made
        finally:
            stacks.down(home)


@pytest.fixture(scope="module")
def cloud(docker: Docker) -> Iterator[Cloud]:
    """With a VM that nobody touches: it runs through everything that happens to the local cloud."""
    with running(KILLED, docker) as made:
        made.insert(WITNESS)
        made.settled(WITNESS, "RUNNING")
        started = made.container(WITNESS).attrs["State"]["StartedAt"]
        yield made
        assert made.container(WITNESS).attrs["State"]["StartedAt"] == started
        assert made.console(WITNESS).count(BOOT) == 1


@pytest.fixture
def vm(cloud: Cloud) -> Iterator[str]:
    """One that runs, and is gone at the end of the test."""
    cloud.insert("vm", shutdown=SHUTDOWN)
    cloud.settled("vm", "RUNNING")
    yield "vm"
    if cloud.status("vm") != "GONE":
        cloud.do("vm", "delete")
        until(lambda: cloud.status("vm") == "GONE", 30, "it is not deleted")
    whole(cloud)


def whole(cloud: Cloud, *vanished: str) -> None:
    """Each instance has what it needs, and nothing is there that no instance describes."""
    instances, containers = cloud.items(INSTANCES), cloud.containers()
    assert set(cloud.items(DISKS)) == set(instances)
    assert set(containers) <= set(instances) and set(cloud.volumes()) <= set(instances)
    for name, instance in instances.items():
        found = containers[name].status if name in containers else "absent"
        assert found in LASTING[instance["status"]], name
        assert cloud.volumes().count(name) == (2 if name in containers or name in vanished else 0)
        given = instance["networkInterfaces"][0].get("networkIP")
        assert (given is None) == (instance["status"] == "TERMINATED")
        if found == "running":
            networks = containers[name].attrs["NetworkSettings"]["Networks"]
            assert [each["IPAddress"] for each in networks.values()] == [given]
    wanted = sum(has_disk(cloud, name) for name, each in instances.items() if each["status"] != "TERMINATED")
    until(lambda: len(loops() - cloud.loops) == wanted, 10, lambda: f"{loops()}, {wanted} are wanted")


def loops() -> set[str]:
    """The machine's loop devices that are in use."""
    return {each.parents[1].name for each in Path("/sys/block").glob("loop*/loop/backing_file")}


def has_disk(cloud: Cloud, name: str) -> bool:
    """Whether the machine had a loop device to give for it."""
    return "the disk is not limited" not in cloud.console(name).rpartition(BOOT)[2]


@pytest.mark.parametrize("moment", ["volume create", "container create"])
def test_a_vm_that_was_promised_is_made(cloud: Cloud, moment: str) -> None:
    cloud.killed_at(moment, "new", lambda: cloud.insert("new"))
    cloud.turn()
    assert cloud.status("new") == "RUNNING"
    assert cloud.console("new").count(BOOT) == 1, "what had begun was not done again"
    whole(cloud)
    cloud.do("new", "delete")
    until(lambda: cloud.status("new") == "GONE", 30, "it is not deleted")


def test_a_vm_that_boots_meanwhile_waits_for_its_script(cloud: Cloud) -> None:
    cloud.insert("new")
    until(
        lambda: "new" in cloud.containers() and BOOT in cloud.container("new").logs().decode(), 30, "no boot"
    )
    cloud.kill()
    until(lambda: "engine up" in cloud.container("new").logs().decode(), 30, "the boot does not go on")
    cloud.turn()
    assert cloud.status("new") == "RUNNING"
    assert cloud.console("new").count(BOOT) == 1
    cloud.killed_at("container destroy", "new", lambda: cloud.do("new", "delete"))
    cloud.turn()
    assert cloud.status("new") == "GONE"
    whole(cloud)


@pytest.mark.parametrize(
    ("verb", "moment"),
    [("simulateMaintenanceEvent", "container kill"), ("stop", "container die")],
)
def test_what_was_to_be_off_is_off(cloud: Cloud, vm: str, verb: str, moment: str) -> None:
    cloud.killed_at(moment, vm, lambda: cloud.do(vm, verb))
    cloud.turn()
    assert cloud.status(vm) == "TERMINATED"
    assert cloud.console(vm).rstrip().endswith("vm-init: off"), "it was not cut short"
    whole(cloud)


def test_what_was_to_go_on_goes_on(cloud: Cloud, vm: str) -> None:
    for verb, moment, then in (("suspend", "pause", "SUSPENDED"), ("resume", "unpause", "RUNNING")):
        cloud.killed_at(f"container {moment}", vm, lambda verb=verb: cloud.do(vm, verb))  # type: ignore[misc]
        cloud.turn()
        assert cloud.status(vm) == then
        whole(cloud)
    cloud.killed_at("container die", vm, lambda: cloud.do(vm, "reset"))
    cloud.turn()
    assert cloud.status(vm) == "RUNNING"
    assert cloud.console(vm).count(BOOT) == 2


def test_who_went_down_meanwhile_is_seen_to_be_down(cloud: Cloud, vm: str) -> None:
    """A guest that powers itself off, and then a container that somebody removes."""
    cloud.kill()
    cloud.container(vm).kill("TERM")
    until(lambda: "soft-off" in cloud.container(vm).logs().decode(), 20, "it hears no soft-off")
    cloud.turn()
    until(lambda: cloud.status(vm) == "TERMINATED", 20, "it is off")
    assert "compute.instances.guestTerminate" in cloud.events(vm)
    assert "going down" in cloud.console(vm), "its shutdown script was waited for"
    whole(cloud)
    cloud.do(vm, "start")
    cloud.settled(vm, "RUNNING")
    cloud.kill()
    cloud.container(vm).remove(force=True, v=True)
    cloud.start()
    until(lambda: cloud.status(vm) == "TERMINATED", 20, "it is gone")
    assert "compute.instances.hostError" in cloud.events(vm)
    whole(cloud, vm)
    cloud.do(vm, "start")
    cloud.settled(vm, "RUNNING")
    assert "boot number 3" in cloud.console(vm), "its disk was kept"


def test_what_nobody_describes_is_removed_but_not_a_neighbours(cloud: Cloud, docker: Docker) -> None:
    with running(KILLED_BESIDE, docker) as other:
        # with a dash between them, network and VM would read the same
        other.insert("vm")
        other.insert("half")
        cloud.insert("beside-vm")
        other.settled("vm", "RUNNING")
        cloud.settled("beside-vm", "RUNNING")
        before = cloud.container("beside-vm").id
        other.kill()
        shutil.rmtree(other.state)
        other.container("half").remove(force=True)
        assert (set(other.containers()), set(other.volumes())) == ({"vm"}, {"vm", "half"})
        other.start()
        assert (other.containers(), other.volumes()) == ({}, [])
        cloud.kill()
        cloud.turn()
        assert cloud.container("beside-vm").id == before
    cloud.do("beside-vm", "delete")
    until(lambda: cloud.status("beside-vm") == "GONE", 30, "it is not deleted")
    whole(cloud)


class User:
    """Makes random changes to two VMs and remembers what was promised."""

    NAMES = ("ada", "bob")

    def __init__(self, cloud: Cloud, seed: int) -> None:
        self._cloud = cloud
        self._random = random.Random(seed)
        self.there: set[str] = set()
        self.gone: set[str] = set()

    def work(self) -> None:
        """For a while."""
        end = time.monotonic() + self._random.uniform(0.5, 3)
        while time.monotonic() < end:
            with contextlib.suppress(httpx.HTTPStatusError):  # it is not in a state for that
                self._change(self._random.choice(self.NAMES))
            time.sleep(self._random.uniform(0, 0.6))

    def _change(self, name: str) -> None:
        if name not in self.there:
            self._cloud.insert(name)
            self.there.add(name)
            self.gone.discard(name)
            return
        verbs = ("stop", "start", "start", "reset", "simulateMaintenanceEvent", "suspend", "resume", "delete")
        verb = self._random.choice(verbs)
        self._cloud.do(name, verb)
        if verb == "delete":
            self.there.discard(name)
            self.gone.add(name)


def test_a_random_history_with_kills_at_any_moment(cloud: Cloud) -> None:
    user = User(cloud, 1)
    for _ in range(KILLS):
        user.work()
        cloud.kill()
        cloud.turn()
        assert user.there <= set(cloud.items(INSTANCES))
        assert not user.gone & set(cloud.items(INSTANCES))
        whole(cloud)
