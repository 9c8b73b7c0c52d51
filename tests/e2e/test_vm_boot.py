"""A VM of the local cloud from the real startup script to a verified HTTPS answer, and through its bad days.

No operator here: the instance is made through the Compute API, and its bundle by hand after the contract
that the operator keeps. So a fault of the boot shows as one.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import ssl
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from dev import images, plain
from dev.paths import ROOT
from dev.stack import Stack

NAME = "budget-boot-0123456789"
REVISION = "0123456789ab"
KEY = bytes(range(32))
BOOT = ROOT / "operator" / "budget_operator" / "boot"
PREDICTOR = """
class Predictor:
    def load(self):
        self.kinds = ("setosa", "versicolor", "virginica")

    def predict(self, request):
        return {"kind": self.kinds[int(request.payload["petal"] > 2) + int(request.payload["petal"] > 5)]}
"""
#: The first is in no registry, the second is pushed by a test.
UNPULLABLE, OTHER = (f"{images.server_image().rpartition(':')[0]}:{tag}" for tag in ("never", "boot-test"))
LOGIN = {"username": "ada", "password": "lovelace-1815", "token": "a-token-of-some-length"}


class Vm:
    """One instance with its address and bucket, driven through the APIs as any client would."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.api = httpx.Client(base_url=stack.home.cloud_url, timeout=30)
        self.region = "/compute/v1/projects/boot-test/regions/us-central1"
        self.instances = "/compute/v1/projects/boot-test/zones/us-central1-a/instances"
        self.url = f"{self.instances}/{NAME}"
        self.ip = ""

    def call(self, method: str, path: str, **given: Any) -> dict[str, Any]:
        answer = self.api.request(method, path, **given)
        answer.raise_for_status()
        return dict(answer.json()) if answer.content else {}

    def done(self, method: str, path: str, **given: Any) -> None:
        operation = self.call(method, path, **given)
        url = operation["selfLink"]
        finished = wait(lambda: (seen := self.call("GET", url))["status"] == "DONE" and seen, 90, url)
        assert "error" not in finished, finished

    def make(self) -> None:
        self.call("POST", "/storage/v1/b?project=boot-test", json={"name": "boot-test"})
        self.done("POST", f"{self.region}/addresses", json={"name": NAME})
        self.ip = self.call("GET", f"{self.region}/addresses/{NAME}")["address"]
        self.done("POST", self.instances, json=instance(self.ip, self.metadata(bundle(), sealed())))

    def metadata(self, *objects: bytes) -> dict[str, str]:
        config: dict[str, Any] = {"version": 1, "image": images.server_image(), "deployment": NAME}
        config |= {"revision": REVISION, "bucket": "boot-test", "apiEndpoint": self.stack.home.cloud_url}
        for kind, file, content in zip(
            ("bundle", "sealed"), ("bundle.zip", "secrets.sealed"), objects, strict=True
        ):
            name = f"code/{NAME}/{REVISION}/{file}"
            upload = {"uploadType": "media", "name": name}
            self.call("POST", "/upload/storage/v1/b/boot-test/o", params=upload, content=content)
            config |= {kind: name, f"{kind}Sha256": hashlib.sha256(content).hexdigest()}
        return {
            "startup-script": (BOOT / "startup.sh").read_text(),
            "shutdown-script": (BOOT / "shutdown.sh").read_text(),
            "enable-guest-attributes": "TRUE",
            "budget-key": base64.b64encode(KEY).decode(),
            "budget-config": json.dumps(config, separators=(",", ":")),
        }

    def set_image(self, image: str) -> None:
        metadata = self.call("GET", self.url)["metadata"]
        for item in metadata["items"]:
            if item["key"] == "budget-config":
                config = json.loads(item["value"]) | {"image": image}
                item["value"] = json.dumps(config, separators=(",", ":"))
        self.done("POST", f"{self.url}/setMetadata", json=metadata)

    def guest(self, key: str) -> str | None:
        answer = self.api.get(f"{self.url}/getGuestAttributes", params={"queryPath": "budgetml/"})
        items = answer.json().get("queryValue", {}).get("items", []) if answer.is_success else []
        return next((item["value"] for item in items if item["key"] == key), None)

    def host(self) -> dict[str, Any]:
        """What the host script told last."""
        return dict(json.loads(self.guest("host") or "{}"))

    def wait_runs(self, image: str) -> None:
        """Until the host tells that this image runs, and no trouble."""
        well = {"image": image, "reason": "", "message": ""}
        wait(
            lambda: well.items() <= self.host().items(), 60, lambda: f"{self.guest('host')}\n{self.console()}"
        )

    def status(self) -> str:
        return str(self.call("GET", self.url)["status"])

    def console(self) -> str:
        return str(self.call("GET", f"{self.url}/serialPort")["contents"])

    def shell(self, command: str) -> str:
        """Inside the VM, as its root."""
        (container,) = self.stack.docker.ids("container", f"localcloud.vm={NAME}")
        return self.stack.docker.run("exec", container, "bash", "-c", command).stdout.strip()

    def https(self) -> httpx.Client:
        trusted = ssl.create_default_context(cadata=self.guest("ca"))
        return httpx.Client(base_url=f"https://{self.ip}", verify=trusted, timeout=10)

    def ready(self) -> bool:
        if not self.guest("ca"):
            return False
        try:
            with self.https() as client:
                return client.get("/healthz/ready").status_code == 200
        except httpx.TransportError:
            return False

    def wait_ready(self) -> float:
        started = time.monotonic()
        wait(self.ready, 120, lambda: f"{NAME} does not serve; its console:\n{self.console()}")
        return time.monotonic() - started

    def remove(self) -> None:
        self.done("DELETE", self.url)
        self.done("DELETE", f"{self.region}/addresses/{NAME}")
        for item in self.call("GET", "/storage/v1/b/boot-test/o")["items"]:
            self.call("DELETE", f"/storage/v1/b/boot-test/o/{quote(item['name'], safe='')}")
        self.call("DELETE", "/storage/v1/b/boot-test")


def wait(condition: Callable[[], Any], seconds: float, failure: Callable[[], str] | str) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, failure if isinstance(failure, str) else failure()
        time.sleep(0.1)
    return found


def instance(ip: str, metadata: dict[str, str]) -> dict[str, Any]:
    disk = {"sourceImage": "projects/cos-cloud/global/images/family/cos-stable", "diskSizeGb": "20"}
    access = {"name": "External NAT", "type": "ONE_TO_ONE_NAT", "natIP": ip}
    return {
        "name": NAME,
        "machineType": "zones/us-central1-a/machineTypes/e2-medium",
        "disks": [{"boot": True, "autoDelete": True, "initializeParams": disk}],
        "networkInterfaces": [{"network": "global/networks/default", "accessConfigs": [access]}],
        "metadata": {"items": [{"key": key, "value": value} for key, value in metadata.items()]},
        "serviceAccounts": [
            {"email": "default", "scopes": ["https://www.googleapis.com/auth/cloud-platform"]}
        ],
        "scheduling": {
            "provisioningModel": "SPOT",
            "instanceTerminationAction": "STOP",
            "automaticRestart": False,
            "onHostMaintenance": "TERMINATE",
        },
    }


def bundle() -> bytes:
    manifest = {"version": 1, "deployment": "default/boot", "entrypoint": "predictor:Predictor"}
    manifest |= {"requirements": [], "readiness": {"payload": None, "startupSeconds": 120}}
    manifest |= {"server": {"workers": 1, "threads": 4}, "tokenTTLSeconds": 3600}
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("manifest.json", json.dumps(manifest))
        archive.writestr("code/predictor.py", PREDICTOR)
    return file.getvalue()


def sealed() -> bytes:
    key = HKDF(SHA256(), 32, None, b"budgetml/seal/v1").derive(KEY)
    secrets = json.dumps(LOGIN | {"env": {}}).encode()
    nonce = bytes(12)
    return nonce + AESGCM(key).encrypt(nonce, secrets, f"{NAME}/{REVISION}".encode())


@pytest.fixture(scope="module")
def vm(stack: Stack) -> Iterator[Vm]:
    machine = Vm(stack)
    started = time.monotonic()
    machine.make()
    try:
        machine.wait_ready()
        print(f"cold boot: insert to ready {time.monotonic() - started:.1f} s, {machine.guest('state')}")
        yield machine
    finally:
        machine.remove()


def test_it_answers_over_verified_https_after_a_login(vm: Vm) -> None:
    with vm.https() as client:
        assert client.get("/healthz/live").status_code == 200
        body = {"payload": {"petal": 5.5}}
        assert client.post("/predict_dict", json=body).status_code == 401
        login = {"username": LOGIN["username"], "password": LOGIN["password"]}
        token = client.post("/token", data=login).json()["access_token"]
        answer = client.post("/predict_dict", json=body, headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 200, answer.text
    assert answer.json() == {"kind": "virginica"}


def test_nobody_is_trusted_without_the_root_it_published(vm: Vm) -> None:
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get(f"https://{vm.ip}/healthz/live")


def test_plain_http_leads_to_https(vm: Vm) -> None:
    answer = plain.get(f"http://{vm.ip}/predict?x=1")
    assert answer.status_code in (301, 308)
    assert answer.headers["location"] == f"https://{vm.ip}/predict?x=1"


def test_it_tells_how_long_each_part_of_the_boot_took(vm: Vm) -> None:
    # told a moment after the first answer
    wait(lambda: '"workers"' in (vm.guest("state") or ""), 60, lambda: str(vm.guest("state")))
    state = json.loads(vm.guest("state") or "{}")
    (worker,) = state["workers"]
    assert "gunicorn" in vm.shell(f"docker exec budgetml cat /proc/{worker['pid']}/cmdline | tr '\\0' ' '")
    assert worker["rssMiB"] > 10
    assert state["memory"]["availableMiB"] < state["memory"]["totalMiB"]
    assert state["active"] == state["target"] == REVISION
    assert state["boot"].keys() >= {"engine", "pull", "artifact", "environment", "load", "frontDoor"}
    vm.wait_runs(images.server_image())


@pytest.mark.parametrize(
    ("command", "seen", "reason"),
    [
        ("touch /usr/x 2>&1", "Read-only file system", "the root cannot be written to"),
        ("touch /etc/x && echo yes", "yes", "/etc can, until the next boot"),
        ("touch /var/lib/x && echo yes", "yes", "/var keeps state"),
        (
            "printf '#!/bin/bash\necho ran' >/var/x; chmod +x /var/x; /var/x 2>&1",
            "Permission denied",
            "no exec",
        ),
        ("command -v python3 perl awk jq apt-get || echo none", "none", "a script must not count on them"),
        ("command -v docker iptables curl sed | wc -l", "4", "these are there"),
        ("iptables -S INPUT | head -n 1", "-P INPUT DROP", "the host firewall is closed"),
        ("iptables -S INPUT | grep -c -- '--dport 443 '", "1", "opened once, however often the script ran"),
        ("iptables -t mangle -S | grep -c 169.254.0.0/16", "4", "link-local stays inside"),
        ("docker inspect -f '{{.HostConfig.ReadonlyRootfs}} {{.HostConfig.Init}}' budgetml", "true true", ""),
        (
            "docker inspect -f '{{.HostConfig.RestartPolicy.Name}}' budgetml",
            "no",
            "the loop is the restarter",
        ),
        ("docker ps -q | wc -l", "1", "one container"),
        ("docker inspect budgetml | grep -c docker.sock", "0", "the engine is out of the container's reach"),
    ],
)
def test_it_is_like_container_optimized_os(vm: Vm, command: str, seen: str, reason: str) -> None:
    assert re.fullmatch(f"(.*: )?{re.escape(seen)}", vm.shell(command)), reason


def test_a_closed_port_drops_what_comes_in(vm: Vm) -> None:
    vm.shell(
        "setsid bash -c 'docker run -d --rm --name probe --network host --entrypoint python3 "
        f"{images.server_image()} -m http.server 8123' >/dev/null 2>&1"
    )
    listening = "curl -fs -o /dev/null http://127.0.0.1:8123/ && echo yes"
    wait(lambda: vm.shell(listening) == "yes", 20, "the probe does not listen")
    with pytest.raises(httpx.ConnectTimeout):
        plain.get(f"http://{vm.ip}:8123/", timeout=httpx.Timeout(1))
    vm.shell("docker rm -f probe")


def test_a_container_that_dies_comes_back(vm: Vm) -> None:
    vm.shell("docker kill budgetml")
    wait(lambda: "the container ended (exit code 137); again in 1 s" in vm.console(), 20, vm.console)
    vm.wait_ready()


def test_an_image_that_cannot_be_pulled_is_told_and_changes_nothing(vm: Vm) -> None:
    container = vm.shell("docker inspect -f '{{.Id}}' budgetml")
    vm.set_image(UNPULLABLE)
    wait(lambda: vm.host()["reason"] == "ImagePullFailed", 30, vm.console)
    assert vm.host()["image"] == images.server_image()
    assert UNPULLABLE in vm.host()["message"]
    assert vm.ready()
    vm.set_image(images.server_image())
    vm.wait_runs(images.server_image())
    assert vm.shell("docker inspect -f '{{.Id}}' budgetml") == container


def test_another_image_takes_over_and_the_old_one_leaves_the_disk(vm: Vm) -> None:
    vm.shell(
        f"docker commit --change 'LABEL budget.test=other' budgetml {OTHER} && "
        f"docker push --quiet {OTHER} && docker image rm {OTHER}"
    )
    vm.set_image(OTHER)
    vm.wait_runs(OTHER)
    vm.wait_ready()
    assert vm.shell("docker inspect -f '{{.Config.Image}}' budgetml") == OTHER
    replaced = vm.host()["replaced"]
    assert replaced["image"] == OTHER
    assert 0 < replaced["downSeconds"] < 30
    assert f"nobody was answered for {replaced['downSeconds']:.2f} s" in vm.console()
    print(f"another image: nobody was answered for {replaced['downSeconds']} s")
    there = "docker image ls --format '{{.Repository}}:{{.Tag}}'"
    wait(lambda: vm.shell(there) == OTHER, 30, lambda: f"{vm.shell(there)}\n{vm.console()}")


def test_at_a_boot_the_last_image_that_ran_stands_in_for_one_that_cannot_be_pulled(vm: Vm) -> None:
    vm.done("POST", f"{vm.url}/stop")
    vm.set_image(UNPULLABLE)
    vm.done("POST", f"{vm.url}/start")
    vm.wait_ready()
    assert f"going back to {OTHER}" in vm.console().rpartition("vm-init: boot")[2]
    wait(lambda: vm.host()["image"] == OTHER and vm.host()["reason"], 30, lambda: f"{vm.guest('host')}")
    assert vm.host()["reason"] == "ImagePullFailed"
    assert UNPULLABLE in vm.host()["message"]
    vm.set_image(images.server_image())
    vm.wait_runs(images.server_image())
    vm.wait_ready()


def test_stop_runs_the_shutdown_script_and_start_serves_again(vm: Vm) -> None:
    root = vm.guest("ca")
    vm.done("POST", f"{vm.url}/stop")
    assert vm.status() == "TERMINATED"
    console = vm.console()
    assert "shutdown-script ended with 0" in console.rpartition("vm-init: boot")[2]
    assert console.rstrip().endswith("vm-init: off"), "the guest was killed, not shut down"
    started = time.monotonic()
    vm.done("POST", f"{vm.url}/start")
    vm.wait_ready()
    print(f"warm boot: start to ready {time.monotonic() - started:.1f} s")
    assert vm.guest("ca") == root, "the volume was kept: clients still trust it"


def test_it_comes_back_after_the_power_is_cut(vm: Vm) -> None:
    before = vm.console()
    vm.done("POST", f"{vm.url}/reset")
    vm.wait_ready()  # the reset is over when the power is back, and what the guest does then takes its time
    since = vm.console().removeprefix(before)
    assert since.count("vm-init: boot") == 1
    assert "soft-off" not in since


def test_a_registry_that_is_away_does_not_stop_a_warm_boot(vm: Vm) -> None:
    docker, home = vm.stack.docker, vm.stack.home
    docker("stop", f"{home.network}-registry")
    try:
        vm.done("POST", f"{vm.url}/reset")
        vm.wait_ready()
        assert "using the one on this disk" in vm.console().rpartition("vm-init: boot")[2]
    finally:
        docker("start", f"{home.network}-registry")


def test_deleting_it_takes_container_and_disk_along(vm: Vm, stack: Stack) -> None:
    volumes = stack.docker("volume", "ls", "--quiet").split()
    other = Path(vm.url).with_name("budget-boot-2")
    body = instance("", {}) | {"name": other.name}
    body["networkInterfaces"][0]["accessConfigs"] = []
    vm.done("POST", vm.instances, json=body)
    assert len(stack.docker("volume", "ls", "--quiet").split()) == len(volumes) + 2
    vm.done("DELETE", str(other))
    assert stack.docker.ids("container", f"localcloud.vm={other.name}") == []
    assert sorted(stack.docker("volume", "ls", "--quiet").split()) == sorted(volumes)
