"""A VM that Google takes away, from outside: the keep-alive is told, its last words are kept."""

import signal
import subprocess
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from budget_operator.core.cost import marks
from budget_operator.core.observed import PowerKind
from dev import environment, plain
from dev.paths import VENV_BIN
from dev.progress import until

PREDICTOR = """
class Predictor:
    def load(self):
        print("the last words of this model")

    def predict(self, request):
        return 1
"""
BOOT_SECONDS = 31
TOKEN = "a-token-of-some-length"


@pytest.fixture(scope="module")
def taken(deploy: Callable[[str], Any]) -> Any:
    made = deploy("taken")
    made.apply_secret("taken-login", {"username": "ada", "password": "lovelace-1815", "token": TOKEN})
    made.apply({"predictor": {"inline": PREDICTOR}, "auth": {"secretName": "taken-login"}})
    made.wait(lambda status: made.condition("Ready", status).get("status") == "True", 120)
    return made


def answers(client: httpx.Client) -> bool:
    try:
        return client.post("/predict_dict", json={"payload": {}}).status_code == 200
    except httpx.TransportError:
        return False


def test_a_vm_that_is_taken_away_is_started_without_operator_and_without_a_tick(
    taken: Any, tmp_path: Path
) -> None:
    """Its own message at the soft-off is all there is: the Scheduler job is paused, the operator is dead."""
    cloud, before = taken.stack.home.cloud_url, taken.instance()
    jobs = f"{cloud}/v1/projects/{environment.PROJECT}/locations/us-central1/jobs"
    (job,) = plain.get(jobs, trust_env=False).json()["jobs"]
    taken.stack.operator.kill()
    followed = tmp_path / "followed"
    with followed.open("w") as output:
        # the command in the status, and on
        argv = [str(VENV_BIN / taken.status()["logs"].split()[0]), *taken.status()["logs"].split()[1:], "-f"]
        follower = subprocess.Popen(argv, stdout=output, env={"LOCALCLOUD_URL": cloud})
    plain.post(f"{cloud}/v1/{job['name']}:pause", json={}, trust_env=False).raise_for_status()
    try:
        with taken.client(TOKEN) as client:
            # one that goes down right after its start is left to the next tick
            until(lambda: up_seconds(before) > BOOT_SECONDS, 60, "the VM is not up for long enough", 1)
            assert answers(client)
            url = f"{cloud}/_localcloud/v1/preempt/{before['name']}"
            plain.post(url, trust_env=False, timeout=30).raise_for_status()
            until(lambda: stopped(taken, before), 60, "the VM was not taken away")
            until(lambda: answers(client), 60, lambda: f"nothing serves again\n{taken.console()}")
        assert "told the keep-alive that Google takes this VM away" in taken.console()
        until(lambda: "Application startup complete" in second_boot(followed), 20, followed.read_text)
    finally:
        follower.send_signal(signal.SIGINT)
        follower.wait(10)
        plain.post(f"{cloud}/v1/{job['name']}:resume", json={}, trust_env=False).raise_for_status()
        taken.stack.start_operator()
    assert [vm["id"] for vm in taken.instances()] == [before["id"]]
    assert followed.read_text().count("the last words of this model") == 2, "one line for each boot"


def kept(deployment: Any, name: str) -> str:
    """What its VM has put into the bucket."""
    cloud, vm = deployment.stack.home.cloud_url, deployment.instance()["name"]
    url = f"{cloud}/storage/v1/b/{environment.BUCKET}/o/state%2F{vm}%2F{name}"
    return plain.get(url, params={"alt": "media"}, trust_env=False).raise_for_status().text


def test_when_it_was_on_is_in_the_bucket(taken: Any) -> None:
    """Two boots, and the end of the first one; for whoever meters it after Google has forgotten."""
    until(lambda: len(kept(taken, "power").splitlines()) == 3, 20, lambda: kept(taken, "power"))
    notes = marks.read(kept(taken, "power").encode(), taken.instance()["id"])
    assert [note.kind for note in notes] == [PowerKind.ON, PowerKind.OFF, PowerKind.ON]
    assert [note.at for note in notes] == sorted(note.at for note in notes)
    started = datetime.fromisoformat(taken.instance()["lastStartTimestamp"])
    assert abs(notes[-1].at - started) < timedelta(seconds=30)


def test_the_end_of_its_log_is_in_the_bucket(taken: Any) -> None:
    text = kept(taken, "log-tail")
    assert "the last words of this model" in text
    assert "stopping: requests under way get their time" in text


def up_seconds(vm: dict[str, Any]) -> float:
    return time.time() - datetime.fromisoformat(vm["lastStartTimestamp"]).timestamp()


def second_boot(followed: Path) -> str:
    """What somebody who follows the log has seen of it."""
    return followed.read_text().partition("vm-init: off")[2]


def stopped(deployment: Any, before: dict[str, Any]) -> bool:
    return bool(deployment.instance().get("lastStopTimestamp") != before.get("lastStopTimestamp"))
