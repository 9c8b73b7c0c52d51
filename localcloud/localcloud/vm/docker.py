"""VMs as containers of the image `vm`, each with a Docker engine of its own inside.

Owns the container behind a VM: its fixed address, its processors and memory, its disk (two named volumes,
which stay when somebody else removes the container), its console (standard output) and the labels by which
everything can be found and swept. What happens inside at a boot, and how large the disk is there, is in
`localcloud/vm-image/vm-init`.

The engine finishes what a local cloud asked it for before it was killed, so a call may meet an earlier one of
its kind on the way.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

import docker
from docker.errors import APIError, DockerException, NotFound
from docker.models.containers import Container
from docker.types import Mount

from localcloud.settings import Settings
from localcloud.vm import VmError, VmSpec, VmState

log = logging.getLogger(__name__)

LABEL = "localcloud"
_DISK = {"var": "/var", "docker": "/var/lib/docker"}
_LOOK, _LOOKS = 0.1, 600
_CPU_PERIOD = 100_000  # microseconds
_MIB = 2**20
_NO_RIGHT_FOR_CAPS = "unable to apply caps"


class DockerBackend:
    """One container per VM, named `<network>.<VM>`; network and image are settings. A VM's name has no dot:
    with a dash for it, VM `b-c` of network `a` would be VM `c` of network `a-b`.
    """

    def __init__(self, settings: Settings) -> None:
        self._network = settings.network
        self._image = settings.vm_image
        #: Another local cloud may have been given the same network.
        self._own = {LABEL: settings.network, f"{LABEL}.home": str(settings.home)}
        self._lock = threading.Lock()
        self._client: Any = None
        self._privileged = True
        self._told: set[str] = set()

    def create(self, spec: VmSpec) -> None:
        with _explained(f"VM {spec.name} cannot be made"):
            for _ in range(_LOOKS):
                if self._find(spec.name) is not None or self._make(spec):
                    return
                time.sleep(_LOOK)
            raise VmError(f"The name of VM {spec.name} is taken")

    def start(self, spec: VmSpec) -> None:
        with _explained(f"VM {spec.name} cannot be started"):
            container = self._find(spec.name)
            if container is None:
                raise VmError(f"VM {spec.name} was never created")
            if container.attrs["State"]["Running"]:
                return
            self._give_address(container, spec.ip)
            self._give_machine(container, spec)
            try:
                container.start()
            except APIError as error:
                if not (container.attrs["HostConfig"]["Privileged"] and _NO_RIGHT_FOR_CAPS in str(error)):
                    raise
                # The engine itself lacks a capability. So this was the first boot and the disk is empty.
                self._privileged = False
                _remove(container)
                self._make(spec)
                self.start(spec)

    def stop(self, name: str, timeout_s: float) -> None:
        with _explained(f"VM {name} cannot be stopped"):
            container = self._find(name)
            if container is not None:
                with contextlib.suppress(NotFound):  # a removal was on its way
                    _switch_off(container, round(timeout_s))

    def suspend(self, name: str) -> None:
        with _explained(f"VM {name} cannot be suspended"):
            container = self._find(name)
            if container is not None and _state(container) is VmState.RUNNING:
                container.pause()

    def resume(self, name: str) -> None:
        with _explained(f"VM {name} cannot be resumed"):
            container = self._find(name)
            if container is not None:
                _unpause(container)

    def delete(self, name: str) -> None:
        with _explained(f"VM {name} cannot be deleted"):
            container = self._find(name)
            if container is not None:
                _remove(container)
            for part in _DISK:
                with contextlib.suppress(NotFound):
                    self._docker().api.remove_volume(f"{self._container_name(name)}.{part}")

    def state(self, name: str) -> VmState:
        with _explained(f"VM {name} cannot be observed"):
            container = self._find(name)
        return VmState.ABSENT if container is None else _state(container)

    def serial_output(self, name: str) -> str:
        with _explained(f"The console of VM {name} cannot be read"):
            container = self._find(name)
            output: bytes = container.logs() if container is not None else b""
        return output.decode(errors="replace")

    def sweep(self, known: set[str]) -> None:
        with _explained("VMs that nobody describes cannot be removed"):
            filters = {"label": [f"{name}={value}" for name, value in self._own.items()]}
            found = self._docker().containers.list(all=True, filters=filters, ignore_removed=True)
            labels = [container.labels for container in found]
            labels += [volume.attrs["Labels"] for volume in self._docker().volumes.list(filters=filters)]
            for name in sorted({each[f"{LABEL}.vm"] for each in labels} - known):
                log.warning("VM %s is described by no instance: it is removed", name)
                self.delete(name)

    def _docker(self) -> Any:
        with self._lock:
            if self._client is None:
                # as long as a standard VM's soft-off; the threads of many VMs share the connections
                self._client = docker.from_env(timeout=150, max_pool_size=64)
            return self._client

    def _container_name(self, name: str) -> str:
        return f"{self._network}.{name}"

    def _find(self, name: str) -> Container | None:
        try:
            return self._docker().containers.get(self._container_name(name))
        except NotFound:
            return None

    def _make(self, spec: VmSpec) -> bool:
        """False if the name is taken: the engine is still at making or removing this VM."""
        api = self._docker().api
        endpoint = api.create_endpoint_config(ipv4_address=spec.ip)
        try:
            created = api.create_container(
                self._image,
                name=self._container_name(spec.name),
                hostname=spec.name[:63],
                labels=spec.labels | self._labels(spec),
                environment={"METADATA": spec.metadata, "DISK_GIB": str(spec.disk_gib)},
                host_config=self._host_config(spec),
                networking_config=api.create_networking_config({self._network: endpoint}),
            )
        except APIError as error:
            if error.status_code != HTTPStatus.CONFLICT:
                raise
            return False
        for warning in created.get("Warnings") or ():
            self._tell_once(f"the Docker engine cannot give VMs all limits of their machine type: {warning}")
        return True

    def _labels(self, spec: VmSpec) -> dict[str, str]:
        return self._own | {f"{LABEL}.vm": spec.name, f"{LABEL}.zone": spec.zone}

    def _disk(self, spec: VmSpec) -> list[Mount]:
        """Its volumes, which the engine makes with the container unless they are there."""
        name, labels = self._container_name(spec.name), self._labels(spec)
        return [Mount(place, f"{name}.{part}", labels=labels) for part, place in _DISK.items()]

    def _tell_once(self, message: str) -> None:
        if message not in self._told:
            self._told.add(message)
            log.warning(message)

    def _limits(self, spec: VmSpec) -> dict[str, Any]:
        """Those of the machine type; more processors than this machine has cannot be given."""
        here = int(self._docker().info()["NCPU"])
        if spec.cpus > here:
            self._tell_once(f"a VM with {spec.cpus} CPUs gets the {here} that this machine has")
        memory = spec.memory_mib * _MIB
        return {
            "mem_limit": memory,
            "memswap_limit": memory,  # no swap
            "cpu_period": _CPU_PERIOD,
            "cpu_quota": min(spec.cpus, here) * _CPU_PERIOD,
        }

    def _give_machine(self, container: Container, spec: VmSpec) -> None:
        """The machine type may have changed while the VM was off."""
        limits, config = self._limits(spec), container.attrs["HostConfig"]
        if (config.get("Memory"), config.get("CpuQuota")) != (limits["mem_limit"], limits["cpu_quota"]):
            container.update(**limits)

    def _host_config(self, spec: VmSpec) -> dict[str, Any]:
        output = {"type": "json-file", "config": {"max-size": "20m", "max-file": "2"}}
        api = self._docker().api
        common = {"log_config": output, "mounts": self._disk(spec)} | self._limits(spec)
        if self._privileged:
            config: dict[str, Any] = api.create_host_config(privileged=True, **common)
            return config
        config = api.create_host_config(
            cap_add=["ALL"],
            cap_drop=["SYS_RESOURCE"],
            security_opt=["seccomp=unconfined", "apparmor=unconfined"],
            device_cgroup_rules=["a *:* rwm"],
            **common,
        )
        # what the command line calls systempaths=unconfined
        return config | {"MaskedPaths": [], "ReadonlyPaths": []}

    def _give_address(self, container: Container, ip: str) -> None:
        """A stopped container keeps its address, unless the instance got another or the network is new."""
        network = self._docker().networks.get(self._network)
        endpoint = container.attrs["NetworkSettings"]["Networks"].get(self._network)
        if endpoint is not None:
            configured = (endpoint.get("IPAMConfig") or {}).get("IPv4Address")
            if configured == ip and endpoint.get("NetworkID") in ("", network.id):
                return
            self._docker().api.disconnect_container_from_network(container.id, self._network, force=True)
        network.connect(container, ipv4_address=ip)


def _state(container: Container) -> VmState:
    state = container.attrs["State"]
    if not state["Running"]:
        return VmState.STOPPED
    return VmState.SUSPENDED if state.get("Paused") else VmState.RUNNING


def _unpause(container: Container) -> None:
    if _state(container) is VmState.SUSPENDED:
        container.unpause()


def _switch_off(container: Container, seconds: int) -> None:
    if seconds:
        _unpause(container)  # a frozen guest hears no soft-off
        container.stop(timeout=seconds)
        return
    try:
        container.kill()  # a stop, however short, lets a guest begin with its soft-off
    except APIError as error:
        if error.status_code != HTTPStatus.CONFLICT:  # it is off
            raise


def _remove(container: Container) -> None:
    try:
        container.remove(force=True)
    except NotFound:
        return
    except APIError as error:
        if error.status_code != HTTPStatus.CONFLICT:  # somebody else is removing it
            raise
        with contextlib.suppress(NotFound):
            container.wait(condition="removed")


@contextlib.contextmanager
def _explained(what: str) -> Iterator[None]:
    """The engine's errors, and those of the connection to it, as the backend's own."""
    try:
        yield
    except APIError as error:
        raise VmError(f"{what}: {error.explanation or error}") from error
    except (DockerException, OSError) as error:
        raise VmError(f"{what}, the Docker engine does not answer: {error}") from error
