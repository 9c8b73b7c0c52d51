"""Operator, function and VM with the roles in operator/deploy/iam and credentials of their own.

The operator has a key, the function's process and the VM have what the local cloud gives them. What the VM
does is done by the server's own code, from the VM's address.
"""

from __future__ import annotations

import base64
import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from budget_operator.cloud.wiring import gateways
from budget_operator.core.gateways import Door
from budget_operator.core.names import METADATA_CONFIG, METADATA_KEY, Owner
from budget_operator.core.observed import Probe
from budget_operator.core.settings import Settings
from budget_operator.reconcile import Means, Reconciler
from budget_server.vm.artifact import Artifacts
from budget_server.vm.certificates_copy import Place
from budget_server.vm.config import BudgetConfig
from dev import plain
from dev.paths import ROOT
from dev.simulation.apiserver import ApiServer, Journal
from localcloud.accounts import new_key
from tests.simulation.roles import account, accounts, bind, bound, listed

PROJECT, BUCKET, ZONE = "p1", "budgetml-p1", "us-central1-a"
NAME = Owner("default", "default", "iris").cloud_name
#: The local cloud has neither: containers are fetched from a registry, their output is the VM's console.
NOT_SEEN = {"artifactregistry.repositories.downloadArtifacts", "logging.logEntries.create"}


class NobodyAnswers:
    """Simulated VMs serve nothing."""

    def ready(self, door: Door) -> Probe:
        return Probe(False, "connection refused")

    def many_ready(self, _: Sequence[Door]) -> Mapping[Door, Probe]:
        return {}

    def predict(self, door: Door, token: str, payload: object) -> Probe:
        return self.ready(door)


@pytest.fixture
def settings(cloud: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The operator's, whose credentials are a key; roles are bound to all three accounts."""
    key = tmp_path / "key.json"
    key.write_text(json.dumps(new_key(account("operator", PROJECT), cloud.url)))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(key))
    bind(cloud.context.iam, bound(PROJECT, BUCKET), PROJECT)
    return accounts(
        Settings(
            project=PROJECT,
            zones=(ZONE,),
            bucket=BUCKET,
            image="registry/server:1",
            api_endpoint=cloud.url,
            function_source=ROOT / "restart_function",
            function_runtime="python311",
        )
    )


class Passes:
    """The operator, as fast as it can."""

    def __init__(self, settings: Settings) -> None:
        self.kube = ApiServer(Means(cloud=gateways(settings)).wall, Journal())
        cloud = replace(gateways(settings), prober=NobodyAnswers())
        self._reconciler = Reconciler(settings, self.kube, Means(cloud))

    def until(self, holds: Callable[[], bool], seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < deadline, json.dumps(
                self.kube.objects.get(("default", "iris")), indent=1
            )
            self._reconciler.reconcile("default", "iris")


@pytest.fixture
def vm(cloud: Any) -> Callable[[], httpx.Client]:
    """Speaks to the metadata server from the VM's address."""

    def at() -> httpx.Client:
        found = instance(cloud)
        transport = httpx.HTTPTransport(local_address=found["networkInterfaces"][0]["networkIP"])
        base = f"{cloud.url}/computeMetadata/v1/instance/"
        return httpx.Client(transport=transport, base_url=base, headers={"Metadata-Flavor": "Google"})

    return at


def instance(cloud: Any) -> dict[str, Any]:
    return dict(cloud.compute("GET", f"zones/{ZONE}/instances/{NAME}").json())


def be_the_vm(metadata: httpx.Client, folder: Path) -> None:
    """Fetch the code, look for certificates, keep them twice, and say that Google takes the VM away."""
    config = BudgetConfig.model_validate_json(metadata.get(f"attributes/{METADATA_CONFIG}").text)
    key = base64.b64decode(metadata.get(f"attributes/{METADATA_KEY}").text)

    def token() -> str:
        return str(metadata.get("service-accounts/default/token").json()["access_token"])

    artifact = Artifacts(folder, token, lambda _: None, lambda: False).fetch(config, key)
    assert (artifact.code_dir / "predictor.py").is_file()
    place = Place.of(config)
    assert place.read(token()) is None
    for copy in (b"first", b"second"):
        place.write(token(), copy)
    assert place.read(token()) == b"second"
    leaving = json.loads(metadata.get(f"attributes/{METADATA_CONFIG}").text)
    answer = plain.post(
        f"{config.storage}/v1/{leaving['keepAliveTopic']}:publish",
        json={"messages": [{"data": leaving["keepAliveData"]}]},
        headers={"Authorization": f"Bearer {token()}"},
    )
    assert answer.is_success, answer.text
    stolen = f"{config.storage}/upload/storage/v1/b/{config.bucket}/o?uploadType=media&name=code/mine"
    refused = plain.post(stolen, content=b"x", headers={"Authorization": f"Bearer {token()}"})
    assert refused.status_code == 403, "code is for reading alone"


@pytest.fixture
def asked(cloud: Any) -> Iterator[Callable[[], dict[str, set[str]]]]:
    """The permissions that each account was asked for, by its short name."""

    def read() -> dict[str, set[str]]:
        found: dict[str, set[str]] = defaultdict(set)
        for entry in cloud.context.journal.entries(limit=1_000_000):
            found[entry.account.partition("@")[0]].update(entry.demanded.split())
        return found

    yield read


def test_a_whole_life_with_the_roles_alone(
    cloud: Any,
    settings: Settings,
    vm: Callable[[], httpx.Client],
    asked: Callable[[], dict[str, set[str]]],
    tmp_path: Path,
    wait_until: Callable[..., Any],
) -> None:
    passes = Passes(settings)
    passes.kube.apply("iris")
    passes.until(lambda: passes.kube.condition("iris", "KeepAliveArmed")[0] == "True", 240)
    passes.until(lambda: passes.kube.condition("iris", "InstanceRunning")[0] == "True")
    cloud.compute("POST", f"zones/{ZONE}/instances/{NAME}/stop")
    wait_until(lambda: instance(cloud)["status"] == "TERMINATED", "the VM to stop")
    cloud.control("POST", f"/tick/{next(each['name'] for each in resources(cloud) if each['kind'] == 'job')}")
    wait_until(lambda: instance(cloud)["status"] == "RUNNING", "the function to start the VM", 60)
    with vm() as metadata:
        be_the_vm(metadata, tmp_path)
    passes.kube.delete("iris")
    passes.until(lambda: not passes.kube.objects)
    assert resources(cloud) == []
    refused = [each for each in cloud.context.journal.entries(limit=1_000_000) if each.status == 403]
    assert [each.account for each in refused] == [account("vm", PROJECT)], "the one that was to be"
    used = asked()
    assert used["vm"] == listed("vm", "vm-code", "vm-state") - NOT_SEEN
    assert "compute.instances.start" in used["function-run"]
    assert used["operator"] <= listed("operator", "operator-bucket", "operator-accounts")


def resources(cloud: Any) -> list[dict[str, Any]]:
    return list(cloud.control("GET", "/resources")["resources"])
