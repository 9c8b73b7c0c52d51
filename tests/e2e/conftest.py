"""A whole stack of its own for the tests in this folder, beside a running one and gone at the end."""

import json
import os
import shutil
import ssl
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx
import pytest

from dev import api, engine, environment, images, plain
from dev import stack as stacks
from dev.docker import Docker
from dev.paths import BIN, CHECKOUT, E2E, REGISTRY_DATA, ROOT, VENV_BIN, Home, locked
from dev.progress import until
from dev.stack import Stack


@pytest.fixture(scope="session")
def docker() -> Iterator[Docker]:
    """An engine with the images built; DOCKER_HOST points to it."""
    was_up = engine.find() is not None
    found = engine.up()
    before = os.environ.get("DOCKER_HOST")
    os.environ["DOCKER_HOST"] = found.host
    try:
        with locked("images"):
            images.build(found)
        yield found
    finally:
        os.environ.pop("DOCKER_HOST")
        if before is not None:
            os.environ["DOCKER_HOST"] = before
        if not was_up:
            engine.release()


@pytest.fixture(scope="session")
def stack(docker: Docker) -> Iterator[Stack]:
    """The whole stack, started from nothing."""
    with locked("e2e"):
        stacks.down(E2E)
        try:
            yield stacks.up(E2E)
        finally:
            stacks.down(E2E)


@dataclass(frozen=True)
class Checkout:
    """A copy of this checkout with a stack of its own, for what takes a whole checkout: `make up`."""

    docker: Docker
    environment: dict[str, str]
    home: Home = CHECKOUT

    @property
    def root(self) -> Path:
        """Where its commands are run."""
        return self.home.root.parent

    def make(self, *words: str, seconds: float = 600) -> subprocess.CompletedProcess[str]:
        argv, env = ["make", *words], self.environment
        return subprocess.run(
            argv, cwd=self.root, env=env, capture_output=True, text=True, check=False, timeout=seconds
        )


@pytest.fixture(scope="session")
def checkout(docker: Docker) -> Iterator[Checkout]:
    """It shares what takes long to make: engine, images, virtual environment and control plane."""
    # not of the `make` above; and what is shared can be used, but nothing can be installed into it
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS"))}
    network = f"{CHECKOUT.network}:{CHECKOUT.third_octet}"
    given = {"BUDGETML_NETWORK": network, "DOCKER_HOST": docker.host, "PYTHON": "/bin/false"}
    with locked("checkout"):
        stacks.down(CHECKOUT)  # of tests that were killed
        made = Checkout(docker, inherited | given)
        copy_of_this_checkout(made.root)
        current = made.make("--question", ".local/venv/.ready").returncode == 0
        assert current, "the virtual environment is older than what it is made from: run `make venv`"
        try:
            yield made
        finally:
            stacks.down(CHECKOUT)


def copy_of_this_checkout(root: Path) -> None:
    """What a clone would hold if everything were committed, with the times that `make` goes by."""
    shutil.rmtree(root, ignore_errors=True)
    ignored = [line.strip("/") for line in (ROOT / ".gitignore").read_text().split()]
    shutil.copytree(ROOT, root, symlinks=True, ignore=shutil.ignore_patterns(".git", *ignored))
    REGISTRY_DATA.mkdir(exist_ok=True)
    CHECKOUT.root.mkdir()
    for shared in (BIN, VENV_BIN.parent, REGISTRY_DATA):
        (CHECKOUT.root / shared.name).symlink_to(shared)


def in_docker(docker: Docker, home: Home) -> list[str]:
    """The containers and networks of one stack."""
    everything = docker("container", "ls", "--all", "--format", "{{.Names}}").splitlines()
    everything += docker("network", "ls", "--format", "{{.Name}}").splitlines()
    return [name for name in everything if name.startswith(home.network)]


@dataclass
class Deployment:
    """One BudgetDeployment in the namespace default, as its user sees it."""

    stack: Stack
    name: str

    @cached_property
    def api(self) -> httpx.Client:
        return api.administrator(self.stack.home.kubeconfig)

    def apply(self, spec: dict[str, Any]) -> None:
        self.apply_object("BudgetDeployment", self.name, {"spec": spec}, "budgetml.dev/v1alpha1")

    def apply_secret(self, name: str, values: dict[str, str]) -> None:
        self.apply_object("Secret", name, {"stringData": values})

    def apply_object(self, kind: str, name: str, content: dict[str, Any], version: str = "v1") -> None:
        document = {"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": "default"}}
        self.stack.kubectl("apply", "-f", "-", input=json.dumps(document | content))

    def document(self) -> dict[str, Any]:
        path = f"/apis/budgetml.dev/v1alpha1/namespaces/default/budgetdeployments/{self.name}"
        return dict(self.api.get(path).raise_for_status().json())

    def status(self) -> dict[str, Any]:
        return dict(self.document().get("status", {}))

    def wait(self, holds: Callable[[dict[str, Any]], bool], seconds: float = 60) -> dict[str, Any]:
        """The status once it is as wanted and about the latest spec."""

        def reached() -> bool:
            document = self.document()
            status = document.get("status", {})
            found.clear()
            found.update(status)
            current = status.get("observedGeneration") == document["metadata"]["generation"]
            return current and holds(status)

        found: dict[str, Any] = {}
        until(reached, seconds, lambda: f"{self.name}: {json.dumps(found, indent=1)}", interval=0.3)
        return found

    def condition(self, kind: str, status: dict[str, Any] | None = None) -> dict[str, Any]:
        """One condition, of the live status or the one given; empty if it is not there."""
        conditions = (self.status() if status is None else status).get("conditions", ())
        return next((each for each in conditions if each["type"] == kind), {})

    def instance(self) -> dict[str, Any]:
        """Its one VM."""
        (found,) = self.instances()
        return found

    def instances(self) -> list[dict[str, Any]]:
        url = f"{self.stack.home.cloud_url}/compute/v1/projects/{environment.PROJECT}/aggregated/instances"
        listed = plain.get(url, timeout=30, trust_env=False).json()["items"]
        found = [vm for scope in listed.values() for vm in scope.get("instances", ())]
        return [vm for vm in found if vm["name"].startswith(f"budget-{self.name}-")]

    def console(self) -> str:
        url = f"{self.stack.home.cloud_url}/_localcloud/v1/logs/{self.instance()['name']}"
        return str(plain.get(url, timeout=30, trust_env=False).json()["text"])

    def client(self, token: str = "") -> httpx.Client:
        """Over HTTPS, verified with what the status tells."""
        status = self.status()
        trusted = ssl.create_default_context(cadata=status["caCertificate"])
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx.Client(
            base_url=status["endpoint"], verify=trusted, headers=headers, timeout=10, trust_env=False
        )

    def delete(self) -> None:
        self.stack.kubectl("delete", "bd", self.name, "--namespace=default", "--timeout=120s")


@pytest.fixture(scope="module")
def deploy(stack: Stack) -> Iterator[Callable[[str], Deployment]]:
    """Makes deployments that are gone when the module's tests have ended, and with them all in the cloud."""
    made: list[Deployment] = []

    def named(name: str) -> Deployment:
        made.append(Deployment(stack, name))
        return made[-1]

    yield named
    for each in made:
        each.delete()
        assert each.instances() == []
