"""Where everything lies: the checkout, `.local/`, and one `Home` per stack.

A second stack (for tests) has a home of its own and shares engine, binaries and images with the main one.
A second checkout on the same engine needs another network: BUDGETML_NETWORK=NAME:THIRD_OCTET (budgetml:50).
"""

import contextlib
import fcntl
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from dev.errors import DevError
from localcloud.ports import free_port, is_free

ROOT = Path(__file__).resolve().parents[1]
LOCAL = ROOT / ".local"
BIN = LOCAL / "bin"
VENV_BIN = LOCAL / "venv" / "bin"
ENGINE = LOCAL / "engine"
REGISTRY_DATA = LOCAL / "registry"

CLOUD_PORT = 8085
REGISTRY_HOST = "registry.budget.internal"


@dataclass(frozen=True)
class Home:
    """One stack: its folder, its Docker network and the addresses in it."""

    root: Path
    network: str
    third_octet: int

    @property
    def subnet(self) -> str:
        """The network's range; the local cloud hands out addresses from .10 up."""
        return f"10.202.{self.third_octet}.0/24"

    @property
    def unnamed(self) -> str:
        """Where Docker takes addresses for containers that ask for none."""
        return f"10.202.{self.third_octet}.128/25"

    @property
    def gateway(self) -> str:
        """The host's address in the network: host and VMs both reach it."""
        return f"10.202.{self.third_octet}.1"

    @property
    def registry_ip(self) -> str:
        """The registry's fixed address, below those of the VMs."""
        return f"10.202.{self.third_octet}.2"

    @property
    def cloud_url(self) -> str:
        """The local cloud: Google's endpoint for everybody in this stack."""
        return f"http://{self.gateway}:{CLOUD_PORT}"

    @property
    def run(self) -> Path:
        """One pid file per process."""
        return self.root / "run"

    @property
    def log(self) -> Path:
        """One log per process."""
        return self.root / "log"

    @property
    def cluster(self) -> Path:
        """The control plane's data and keys."""
        return self.root / "cluster"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.root / "kubeconfig"

    @property
    def operator_kubeconfig(self) -> Path:
        """The operator's: a ServiceAccount token and nothing else."""
        return self.root / "operator.kubeconfig"

    def port(self, name: str) -> int:
        """A free port on loopback, the same one each time as long as nobody else took it."""
        remembered = self.root / "ports" / name
        with contextlib.suppress(OSError, ValueError):
            port = int(remembered.read_text())
            if is_free(port):
                return port
        port = free_port()
        remembered.parent.mkdir(parents=True, exist_ok=True)
        remembered.write_text(f"{port}\n")
        return port

    def known_port(self, name: str) -> int:
        """The port that `port` chose; its user may be listening by now."""
        return int((self.root / "ports" / name).read_text())


@dataclass(frozen=True)
class KindHome(Home):
    """A stack whose parts are pods on a node of kind, reached from this machine by ports of loopback."""

    @property
    def cloud_url(self) -> str:
        """The local cloud's API."""
        return f"http://127.0.0.1:{self.known_port('cloud')}"

    @property
    def tunnel_url(self) -> str:
        """The local cloud's proxy to its VMs."""
        return f"http://127.0.0.1:{self.known_port('tunnel')}"

    @property
    def node(self) -> str:
        """The one node's container, as kind calls it."""
        return f"{self.network}-control-plane"


def main_home(environment: Mapping[str, str]) -> Home:
    """The main stack's home, in the network that the environment names."""
    given = environment.get("BUDGETML_NETWORK", "budgetml:50")
    if not (named := re.fullmatch(r"([a-z][a-z0-9-]*):(\d{1,3})", given)):
        raise DevError(f"BUDGETML_NETWORK must be NAME:THIRD_OCTET, as budgetml:50, not {given!r}.")
    return Home(LOCAL, named[1], int(named[2]))


MAIN = main_home(os.environ)
E2E = Home(LOCAL / "e2e", "budgetml-e2e", 51)
TEST_CLUSTER = Home(LOCAL / "test-cluster", "budgetml-test-cluster", 52)
# the main home of a copy of this checkout, in which the tests call `make`
CHECKOUT = Home(LOCAL / "checkout" / ".local", "budgetml-checkout", 53)
# two local clouds without a stack, one of which is killed again and again; the networks' names begin alike
KILLED = Home(LOCAL / "killed", "budgetml-killed", 54)
KILLED_BESIDE = Home(LOCAL / "killed-beside", "budgetml-killed-beside", 55)
# the control plane and the processes of `make bench-operator`
BENCH = Home(LOCAL / "bench-operator", "budgetml-bench", 56)
# `make kind`; network and addresses stand in operator/deploy/kustomize/local, too
KIND = KindHome(LOCAL / "kind", "budgetml-kind", 57)
HOMES = (MAIN, E2E, TEST_CLUSTER, CHECKOUT, KILLED, KILLED_BESIDE, BENCH, KIND)


def version_of(deployable: str) -> str:
    """The version in a deployable's pyproject.toml."""
    text = (ROOT / deployable / "pyproject.toml").read_text()
    return str(tomllib.loads(text)["project"]["version"])


@contextlib.contextmanager
def locked(name: str) -> Iterator[None]:
    """One process at a time: two `make` runs may share the engine and the builds."""
    LOCAL.mkdir(exist_ok=True)
    with (LOCAL / f"{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
