"""The Docker backend against an engine of a few lines; tests/e2e runs it against a real one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from docker.errors import APIError, DockerException, NotFound

from localcloud.settings import Settings
from localcloud.vm import VmError, VmSpec, VmState
from localcloud.vm.docker import DockerBackend

NETWORK = "net"


class Engine:
    """Containers by name, as far as the backend looks at them."""

    def __init__(self, refuses_privileged: bool = False) -> None:
        self.refuses_privileged = refuses_privileged
        self.network_id = "network-1"
        self.containers_by_name: dict[str, FakeContainer] = {}
        self.volumes_by_name: dict[str, SimpleNamespace] = {}
        self.log: list[str] = []
        self.api = Api(self)
        self.containers = SimpleNamespace(get=self._get, list=self._list)
        self.volumes = SimpleNamespace(list=self._list_volumes)
        self.networks = SimpleNamespace(get=self._get_network)
        self.warnings: list[str] = []
        #: Names of containers that the engine has begun to make.
        self.reserved: dict[str, FakeContainer] = {}

    def info(self) -> dict[str, Any]:
        return {"NCPU": 4}

    def _get(self, name: str) -> FakeContainer:
        if name not in self.containers_by_name:
            raise NotFound("no such container")
        return self.containers_by_name[name]

    def _list(self, filters: dict[str, list[str]], **others: Any) -> list[FakeContainer]:
        return [each for each in self.containers_by_name.values() if carries(each.labels, filters)]

    def _list_volumes(self, filters: dict[str, list[str]]) -> list[SimpleNamespace]:
        return [each for each in self.volumes_by_name.values() if carries(each.attrs["Labels"], filters)]

    def _get_network(self, name: str) -> SimpleNamespace:
        if name != NETWORK:
            raise NotFound("network not found")

        def connect(container: FakeContainer, ipv4_address: str) -> None:
            self.log.append(f"connect {container.name} {ipv4_address}")
            container.join(ipv4_address, self.network_id)

        return SimpleNamespace(id=self.network_id, connect=connect)


def carries(labels: dict[str, str], filters: dict[str, list[str]]) -> bool:
    return {f"{key}={value}" for key, value in labels.items()} >= set(filters["label"])


class Api:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def create_endpoint_config(self, ipv4_address: str) -> str:
        return ipv4_address

    def create_networking_config(self, endpoints: dict[str, str]) -> dict[str, str]:
        return endpoints

    def create_host_config(self, **given: Any) -> dict[str, Any]:
        return dict(given)

    def create_container(self, image: str, **given: Any) -> dict[str, Any]:
        name = given["name"]
        if name in self._engine.reserved:
            self._engine.containers_by_name[name] = self._engine.reserved.pop(name)
            raise APIError("the name is in use", response=SimpleNamespace(status_code=409))
        for mount in given["host_config"]["mounts"]:
            labels = mount["VolumeOptions"]["Labels"]
            self._engine.volumes_by_name[mount["Source"]] = SimpleNamespace(attrs={"Labels": labels})
        self._engine.log.append(f"create {name} {image}")
        self._engine.containers_by_name[name] = FakeContainer(self._engine, given)
        return {"Id": name, "Warnings": self._engine.warnings}

    def remove_volume(self, name: str) -> None:
        if self._engine.volumes_by_name.pop(name, None) is None:
            raise NotFound("no such volume")

    def disconnect_container_from_network(self, container: str, network: str, force: bool) -> None:
        self._engine.log.append(f"disconnect {container} {network}")


class FakeContainer:
    def __init__(self, engine: Engine, given: dict[str, Any]) -> None:
        self._engine = engine
        self.given = given
        self.id = self.name = given["name"]
        self.labels: dict[str, str] = given["labels"]
        self.remove_error: Exception | None = None
        host = given["host_config"]
        self.attrs: dict[str, Any] = {
            "State": {"Running": False},
            "HostConfig": {
                "Privileged": host.get("privileged", False),
                "Memory": host["mem_limit"],
                "CpuQuota": host["cpu_quota"],
            },
            "NetworkSettings": {"Networks": {}},
        }
        self.join(given["networking_config"][NETWORK], "")

    def join(self, ip: str, network_id: str) -> None:
        endpoint = {"IPAMConfig": {"IPv4Address": ip}, "NetworkID": network_id}
        self.attrs["NetworkSettings"]["Networks"] = {NETWORK: endpoint}

    def start(self) -> None:
        if self._engine.refuses_privileged and self.attrs["HostConfig"]["Privileged"]:
            raise APIError("runc: unable to apply caps: operation not permitted")
        self._engine.log.append(f"start {self.name}")
        self.attrs["State"]["Running"] = True

    def stop(self, timeout: int) -> None:
        self._engine.log.append(f"stop {self.name} {timeout}")
        self.attrs["State"]["Running"] = False

    def update(self, **limits: Any) -> None:
        self._engine.log.append(f"update {self.name} {limits['mem_limit'] >> 20} {limits['cpu_quota']}")

    def pause(self) -> None:
        self._engine.log.append(f"pause {self.name}")
        self.attrs["State"]["Paused"] = True

    def unpause(self) -> None:
        self._engine.log.append(f"unpause {self.name}")
        self.attrs["State"]["Paused"] = False

    def remove(self, force: bool) -> None:
        assert force
        del self._engine.containers_by_name[self.name]
        if self.remove_error:
            raise self.remove_error

    def wait(self, condition: str) -> None:
        assert condition == "removed"
        raise NotFound("gone meanwhile")

    def logs(self) -> bytes:
        return b"boot\xff\n"


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Engine], DockerBackend]:
    def backend(engine: Engine) -> DockerBackend:
        monkeypatch.setattr("docker.from_env", lambda **_: engine)
        return DockerBackend(Settings(home=tmp_path, network=NETWORK, vm_image="vm:test"))

    return backend


def spec(name: str = "v1", ip: str = "10.202.50.10", cpus: int = 2, memory_mib: int = 4096) -> VmSpec:
    return VmSpec(
        name=name,
        zone="us-central1-a",
        ip=ip,
        metadata="10.202.50.1:8085",
        cpus=cpus,
        memory_mib=memory_mib,
        disk_gib=20,
        image="cos-stable",
        labels={"owner": "me"},
    )


def test_a_vm_is_one_labelled_container_with_its_address(
    make: Callable[[Engine], DockerBackend], tmp_path: Path
) -> None:
    engine = Engine()
    make(engine).create(spec())
    container = engine.containers_by_name["net.v1"]
    assert container.given["environment"] == {
        "METADATA": "10.202.50.1:8085",
        "DISK_GIB": "20",
    }
    assert container.given["networking_config"] == {NETWORK: "10.202.50.10"}
    assert container.labels == {
        "owner": "me",
        "localcloud": NETWORK,
        "localcloud.home": str(tmp_path),
        "localcloud.vm": "v1",
        "localcloud.zone": "us-central1-a",
    }
    assert engine.log == ["create net.v1 vm:test"], "any source image boots the same container"


def test_a_vm_has_the_processors_and_memory_of_its_type_and_no_swap(
    make: Callable[[Engine], DockerBackend],
) -> None:
    engine = Engine()
    make(engine).create(spec(memory_mib=1024))
    host = engine.containers_by_name["net.v1"].given["host_config"]
    assert host["mem_limit"] == host["memswap_limit"] == 2**30
    assert host["cpu_quota"] / host["cpu_period"] == 2


def test_another_machine_type_counts_from_the_next_start(make: Callable[[Engine], DockerBackend]) -> None:
    engine = Engine()
    backend = make(engine)
    backend.create(spec())
    backend.start(spec(cpus=4, memory_mib=8192))
    assert engine.log[1:] == ["update net.v1 8192 400000", "start net.v1"]


def test_what_cannot_be_limited_is_said_once(
    make: Callable[[Engine], DockerBackend], caplog: pytest.LogCaptureFixture
) -> None:
    engine = Engine()
    engine.warnings = ["Your kernel does not support swap limit capabilities"]
    backend = make(engine)
    backend.create(spec(cpus=32))
    backend.create(spec("v2", "10.202.50.11", cpus=32))
    host = engine.containers_by_name["net.v1"].given["host_config"]
    assert host["cpu_quota"] == 4 * host["cpu_period"], "more than there are is refused"
    assert [record.message for record in caplog.records] == [
        "a VM with 32 CPUs gets the 4 that this machine has",
        f"the Docker engine cannot give VMs all limits of their machine type: {engine.warnings[0]}",
    ]


def test_repeating_every_call_changes_nothing(make: Callable[[Engine], DockerBackend]) -> None:
    engine = Engine()
    backend = make(engine)
    for _ in range(2):
        backend.create(spec())
    for _ in range(2):
        backend.start(spec())
    assert engine.log == ["create net.v1 vm:test", "start net.v1"]
    backend.stop("v1", 30)
    for _ in range(2):
        backend.delete("v1")
    backend.stop("v1", 30)
    assert engine.log[2:] == ["stop net.v1 30"]


def test_state_follows_the_container(make: Callable[[Engine], DockerBackend]) -> None:
    backend = make(Engine())
    seen = [backend.state("v1")]
    backend.create(spec())
    seen.append(backend.state("v1"))
    backend.start(spec())
    seen.append(backend.state("v1"))
    backend.delete("v1")
    seen.append(backend.state("v1"))
    assert seen == [VmState.ABSENT, VmState.STOPPED, VmState.RUNNING, VmState.ABSENT]


def test_a_vm_is_suspended_and_goes_on(make: Callable[[Engine], DockerBackend]) -> None:
    engine = Engine()
    backend = make(engine)
    backend.suspend("v1")
    backend.create(spec())
    backend.suspend("v1")
    backend.start(spec())
    for _ in range(2):
        backend.suspend("v1")
    assert backend.state("v1") is VmState.SUSPENDED
    for _ in range(2):
        backend.resume("v1")
    assert backend.state("v1") is VmState.RUNNING
    backend.suspend("v1")
    backend.stop("v1", 30)
    assert engine.log[2:] == [
        "pause net.v1",
        "unpause net.v1",
        "pause net.v1",
        "unpause net.v1",
        "stop net.v1 30",
    ], "a frozen guest hears no soft-off"


def test_start_moves_a_stopped_vm_to_its_new_address(make: Callable[[Engine], DockerBackend]) -> None:
    engine = Engine()
    backend = make(engine)
    backend.create(spec())
    backend.start(spec(ip="10.202.50.77"))
    assert engine.log[1:] == ["disconnect net.v1 net", "connect net.v1 10.202.50.77", "start net.v1"]


def test_start_joins_a_network_that_was_made_anew(make: Callable[[Engine], DockerBackend]) -> None:
    engine = Engine()
    backend = make(engine)
    backend.create(spec())
    engine.containers_by_name["net.v1"].join("10.202.50.10", "network-0")
    backend.start(spec())
    assert "connect net.v1 10.202.50.10" in engine.log, "the engine would look for the old network and fail"


def test_an_engine_without_all_capabilities_gets_all_but_the_missing(
    make: Callable[[Engine], DockerBackend],
) -> None:
    engine = Engine(refuses_privileged=True)
    backend = make(engine)
    backend.create(spec())
    backend.create(spec("v2", "10.202.50.11"))
    backend.start(spec())
    backend.start(spec("v2", "10.202.50.11"))
    for container in engine.containers_by_name.values():
        host = container.given["host_config"]
        assert (host["cap_add"], host["cap_drop"]) == (["ALL"], ["SYS_RESOURCE"])
        assert (host["MaskedPaths"], host["ReadonlyPaths"]) == ([], [])
    assert [line for line in engine.log if line.startswith("start")] == ["start net.v1", "start net.v2"]


def test_other_failures_of_a_start_are_told(make: Callable[[Engine], DockerBackend]) -> None:
    backend = make(Engine())
    with pytest.raises(VmError, match="v9 was never created"):
        backend.start(spec("v9"))


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (NotFound("gone"), "somebody removed it between look-up and removal"),
        (APIError("conflict", response=SimpleNamespace(status_code=409)), "it is being removed already"),
    ],
)
def test_delete_accepts_that_another_was_faster(
    make: Callable[[Engine], DockerBackend], error: Exception, reason: str
) -> None:
    engine = Engine()
    backend = make(engine)
    backend.create(spec())
    engine.containers_by_name["net.v1"].remove_error = error
    backend.delete("v1")
    assert backend.state("v1") is VmState.ABSENT, reason


def test_the_disk_outlives_its_container_and_goes_with_the_vm(
    make: Callable[[Engine], DockerBackend],
) -> None:
    engine = Engine()
    backend = make(engine)
    backend.create(spec())
    mounts = engine.containers_by_name.pop("net.v1").given["host_config"]["mounts"]
    assert {mount["Target"]: mount["Source"] for mount in mounts} == {
        "/var": "net.v1.var",
        "/var/lib/docker": "net.v1.docker",
    }
    assert set(engine.volumes_by_name) == {"net.v1.var", "net.v1.docker"}
    backend.delete("v1")
    assert engine.volumes_by_name == {}, "also where the container had gone before"


def test_a_vm_that_the_engine_is_still_making_is_waited_for(make: Callable[[Engine], DockerBackend]) -> None:
    engine = Engine()
    backend = make(engine)
    backend.create(spec())
    engine.reserved["net.v1"] = engine.containers_by_name.pop("net.v1")
    backend.create(spec())
    assert backend.state("v1") is VmState.STOPPED


def test_a_vm_that_vanishes_while_it_is_stopped_is_off(
    make: Callable[[Engine], DockerBackend], monkeypatch: pytest.MonkeyPatch
) -> None:
    def vanish(self: FakeContainer, timeout: int) -> None:
        raise NotFound("gone")

    backend = make(Engine())
    backend.create(spec())
    monkeypatch.setattr(FakeContainer, "stop", vanish)
    backend.stop("v1", 30)


@pytest.mark.parametrize("label", ["localcloud", "localcloud.home"])
def test_sweep_removes_what_this_cloud_made_and_nobody_knows(
    make: Callable[[Engine], DockerBackend], label: str
) -> None:
    engine = Engine()
    backend = make(engine)
    for number in range(4):
        backend.create(spec(f"v{number}", f"10.202.50.1{number}"))
    for part in (engine.containers_by_name["net.v1"].labels, *labels_of_disk(engine, "v1")):
        part[label] = "another's"
    del engine.containers_by_name["net.v2"]
    backend.sweep({"v0"})
    assert list(engine.containers_by_name) == ["net.v0", "net.v1"]
    assert {name[:6] for name in engine.volumes_by_name} == {"net.v0", "net.v1"}


def labels_of_disk(engine: Engine, vm: str) -> list[dict[str, str]]:
    return [engine.volumes_by_name[f"net.{vm}.{part}"].attrs["Labels"] for part in ("var", "docker")]


def test_the_console_survives_bytes_that_are_no_text(make: Callable[[Engine], DockerBackend]) -> None:
    backend = make(Engine())
    assert backend.serial_output("v1") == ""
    backend.create(spec())
    assert backend.serial_output("v1") == "boot\ufffd\n"


def test_an_engine_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(**_: Any) -> None:
        raise DockerException("connection refused")

    monkeypatch.setattr("docker.from_env", refuse)
    with pytest.raises(VmError, match="Docker engine does not answer: connection refused"):
        DockerBackend(Settings(home=tmp_path)).state("v1")
