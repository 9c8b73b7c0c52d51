"""The local cloud, killed again and again in the middle of whatever it does: nothing is lost or half made."""

import contextlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from dev.conformance import bodies
from dev.conformance.bodies import PROJECT, REGION, ZONE
from dev.conformance.server import until
from dev.paths import VENV_BIN
from localcloud.ports import free_port

KILLS = 12
#: Long enough that many a kill meets an instance between two states.
DURATIONS = ("provisioning=0.1", "staging=0.1", "operation=0.05", "stop_spot=0.2", "watch=0.05")
INSTANCES = f"/compute/v1/projects/{PROJECT}/zones/{ZONE}/instances"
DISKS = f"/compute/v1/projects/{PROJECT}/zones/{ZONE}/disks"
ADDRESSES = f"/compute/v1/projects/{PROJECT}/regions/{REGION}/addresses"
OPERATIONS = f"/compute/v1/projects/{PROJECT}/aggregated/operations"
SETTLED = ("RUNNING", "TERMINATED")


class Victim:
    """A local cloud as a process of its own."""

    def __init__(self, home: Path) -> None:
        self._port = free_port()
        self._home = home
        self._process: subprocess.Popen[bytes] | None = None
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self._port}", timeout=10, trust_env=False)

    def start(self) -> None:
        argv = [str(VENV_BIN / "localcloud"), "serve", f"--home={self._home}", "--backend=simulated"]
        argv += [f"--listen=127.0.0.1:{self._port}", *(f"--duration={each}" for each in DURATIONS)]
        log = (self._home.parent / "log").open("ab")
        with log:
            self._process = subprocess.Popen(argv, stdout=log, stderr=log)
        until(self._answers, "the local cloud", 30)

    def _answers(self) -> bool:
        try:
            return self.http.get("/_localcloud/v1/health").is_success
        except httpx.TransportError:
            return False

    def kill(self) -> None:
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def items(self, path: str) -> dict[str, dict[str, Any]]:
        return {each["name"]: each for each in self.http.get(path).json()["items"]}


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[Victim]:
    made = Victim(tmp_path / "home")
    made.start()
    yield made
    made.kill()


class User:
    """Makes random changes and remembers which ones were promised."""

    def __init__(self, victim: Victim, seed: int) -> None:
        self._victim = victim
        self._random = random.Random(seed)
        self._numbers = iter(range(10_000))
        self.instances: set[str] = set()
        self.objects: dict[str, bytes] = {}
        self.gone: set[str] = set()

    def work(self, seconds: float) -> None:
        """Until the time is over."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._random.choice((self._insert, self._upload, self._turn, self._turn, self._delete))()

    def _insert(self) -> None:
        name = f"vm-{next(self._numbers)}"
        if self._victim.http.post(INSTANCES, json=bodies.spot_instance(name)).is_success:
            self.instances.add(name)

    def _upload(self) -> None:
        name, content = f"o{next(self._numbers)}", self._random.randbytes(2000)
        asked = {"uploadType": "media", "name": name}
        answer = self._victim.http.post("/upload/storage/v1/b/kept/o", params=asked, content=content)
        if answer.is_success:
            self.objects[name] = content

    def _turn(self) -> None:
        if self.instances:
            verb = self._random.choice(("stop", "start", "reset", "simulateMaintenanceEvent"))
            self._victim.http.post(f"{INSTANCES}/{self._random.choice(sorted(self.instances))}/{verb}")

    def _delete(self) -> None:
        if len(self.instances) > 5:
            name = self._random.choice(sorted(self.instances))
            self.instances.discard(name)
            self.gone.add(name)
            with contextlib.suppress(httpx.TransportError):
                self._victim.http.delete(f"{INSTANCES}/{name}")


def test_nothing_is_lost_and_nothing_is_half_made(victim: Victim) -> None:
    victim.http.post("/storage/v1/b", params={"project": PROJECT}, json={"name": "kept"})
    user = User(victim, 1)
    for _ in range(KILLS):
        with contextlib.suppress(httpx.TransportError):
            user.work(0.6)
        victim.kill()
        victim.start()
        settled(victim)
        whole(victim, user)


def settled(victim: Victim) -> None:
    """Every instance has come to a state that lasts, and every operation has ended."""

    def is_settled() -> bool:
        states = {each["status"] for each in victim.items(INSTANCES).values()}
        scopes = victim.http.get(OPERATIONS).json()["items"].values()
        ended = {each["status"] for scope in scopes for each in scope.get("operations", ())}
        return states <= set(SETTLED) and ended <= {"DONE"}

    until(is_settled, "everything to settle", 30)


def whole(victim: Victim, user: User) -> None:
    """What was promised is there; what is there is complete."""
    instances, disks = victim.items(INSTANCES), victim.items(DISKS)
    assert user.instances <= set(instances)
    assert set(instances) == set(disks), "each has its disk, and no disk is left over"
    for name, instance in instances.items():
        assert [link.rpartition("/")[2] for link in disks[name]["users"]] == [name]
        access = instance["networkInterfaces"][0]["accessConfigs"][0]
        assert ("natIP" in access) == (instance["status"] == "RUNNING")
    running = [each for each in instances.values() if each["status"] == "RUNNING"]
    given = [each["networkInterfaces"][0]["accessConfigs"][0]["natIP"] for each in running]
    assert len(given) == len(set(given)), "no address is given twice"
    for name, content in user.objects.items():
        answer = victim.http.get(f"/download/storage/v1/b/kept/o/{name}", params={"alt": "media"})
        assert answer.content == content
