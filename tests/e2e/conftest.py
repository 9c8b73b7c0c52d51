"""A whole stack of its own for the tests in this folder, beside a running one and gone at the end."""

import json
import os
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from dev import engine, environment, images
from dev import stack as stacks
from dev.docker import Docker
from dev.paths import E2E, locked
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


@dataclass
class Deployment:
    """One BudgetDeployment in the namespace default, as its user sees it."""

    stack: Stack
    name: str

    def apply(self, spec: dict[str, Any]) -> None:
        self.apply_object("BudgetDeployment", self.name, {"spec": spec}, "budgetml.dev/v1alpha1")

    def apply_secret(self, name: str, values: dict[str, str]) -> None:
        self.apply_object("Secret", name, {"stringData": values})

    def apply_object(self, kind: str, name: str, content: dict[str, Any], version: str = "v1") -> None:
        document = {"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": "default"}}
        self.stack.kubectl("apply", "-f", "-", input=json.dumps(document | content))

    def document(self) -> dict[str, Any]:
        return dict(self.stack.kubectl.json("get", "bd", self.name, "--namespace=default"))

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
        listed = httpx.get(url, timeout=30, trust_env=False).json()["items"]
        found = [vm for scope in listed.values() for vm in scope.get("instances", ())]
        return [vm for vm in found if vm["name"].startswith(f"budget-{self.name}-")]

    def console(self) -> str:
        url = f"{self.stack.home.cloud_url}/_localcloud/v1/logs/{self.instance()['name']}"
        return str(httpx.get(url, timeout=30, trust_env=False).json()["text"])

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
