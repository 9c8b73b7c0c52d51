"""Models that a small machine does not hold: cause and remedy are told, and what serves goes on serving.

Each test goes on where the one before ended.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dev.progress import until
from tests.e2e import package_index
from tests.e2e.watch import under_watch

MACHINE, MEMORY_MIB, DISK_GIB = "e2-micro", 1024, 10
TRIES, PAUSE_SECONDS = 3, 600
TOKEN = "a-token-of-some-length"
MUCH_MEMORY = f"much = b'x' * ({MEMORY_MIB} << 20)"
MUCH_DISK = f"file = tempfile.TemporaryFile(); os.posix_fallocate(file.fileno(), 0, {2 * DISK_GIB} << 30)"
SMALL = """
class Predictor:
    def load(self):
        pass

    def predict(self, request):
        return {"word": "small"}
"""
LARGE = SMALL.replace("pass", f"print('reading the weights', flush=True); self.{MUCH_MEMORY}")


@pytest.fixture(scope="module")
def index(stack: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where two versions of `hog` are: one wants memory to be built, one the disk."""
    root: Path = tmp_path_factory.mktemp("index")
    package_index.add_source(root, "hog", "1", f"    {MUCH_MEMORY}\n")
    package_index.add_source(root, "hog", "2", f"    import os, tempfile\n    {MUCH_DISK}\n")
    with package_index.served(root, stack.home.gateway) as address:
        yield f"--extra-index-url http://{address}"


@pytest.fixture(scope="module")
def small(deploy: Callable[[str], Any]) -> Iterator[Any]:
    made = deploy("small")
    made.apply_secret("small-own-login", {"username": "ada", "password": "lovelace-1815", "token": TOKEN})
    yield made
    made.stack.kubectl("delete", "secret", "small-own-login", "--namespace=default")


def spec(code: str, *requirements: str) -> dict[str, Any]:
    return {
        "predictor": {"inline": code},
        "requirements": list(requirements),
        "machine": {"type": MACHINE, "diskGiB": DISK_GIB},
        "auth": {"secretName": "small-own-login"},
        "readiness": {"payload": {}, "startupSeconds": 60},
    }


def failed(reason: str, *words: str) -> Callable[[dict[str, Any]], bool]:
    """Whether this failure is told, with these words."""

    def holds(status: dict[str, Any]) -> bool:
        failure = status.get("lastFailure", {})
        return failure.get("reason") == reason and all(word in failure["message"] for word in words)

    return holds


def ready(deployment: Any) -> Callable[[dict[str, Any]], bool]:
    return lambda status: bool(deployment.condition("Ready", status).get("status") == "True")


def on_vm(deployment: Any, *words: str) -> str:
    stack = deployment.stack
    return str(stack.docker("exec", f"{stack.home.network}.{deployment.instance()['name']}", *words))


def test_too_little_memory_to_install_is_told_and_tried_three_times(small: Any, index: str) -> None:
    small.apply(spec(SMALL, index, "hog==1"))
    status = small.wait(failed("OutOfMemory", MACHINE, "hog==1", "spec.machine.type"), 120)
    assert small.condition("Ready", status)["status"] == "False"
    assert small.condition("ModelServing", status)["reason"] == "OutOfMemory"
    tried = "failed: OutOfMemory: "
    until(lambda: small.console().count(tried) == TRIES, 120, small.console)
    record = on_vm(small, "docker", "exec", "budgetml", "cat", "/var/lib/budgetml/revisions.json")
    [failure] = json.loads(record)["failures"].values()
    now = float(on_vm(small, "date", "+%s"))
    assert failure["attempts"] == TRIES
    assert PAUSE_SECONDS - 60 < failure["retry_at"] - now < PAUSE_SECONDS + 2


def test_the_disk_is_as_large_as_the_spec_says_and_a_full_one_is_told(small: Any, index: str) -> None:
    size = on_vm(small, "df", "--output=size", "--block-size=1G", "/var").split()[-1]
    assert int(size) in (DISK_GIB, DISK_GIB - 1)
    small.apply(spec(SMALL, index, "hog==2"))
    status = small.wait(failed("DiskFull", "hog==2", "spec.machine.diskGiB"), 120)
    assert small.condition("ModelServing", status)["reason"] == "DiskFull"
    assert "No space left on device" in status["lastFailure"]["log"]


def test_a_model_larger_than_the_memory_is_told(small: Any) -> None:
    small.apply(spec(LARGE))
    status = small.wait(failed("OutOfMemory", MACHINE, "load", "spec.machine.type"), 120)
    assert "reading the weights" in status["lastFailure"]["log"]
    assert small.condition("Ready", status)["status"] == "False"


def test_a_model_that_fits_serves_on_the_same_vm(small: Any) -> None:
    before = small.instance()
    small.apply(spec(SMALL))
    status = small.wait(ready(small), 60)
    assert "lastFailure" not in status
    after = small.instance()
    assert (after["id"], after["lastStartTimestamp"]) == (before["id"], before["lastStartTimestamp"])


def test_where_the_kernel_has_to_choose_it_takes_the_one_that_loads(small: Any) -> None:
    with under_watch(small, TOKEN) as words:
        small.apply(spec(LARGE))
        status = small.wait(failed("OutOfMemory", "load"), 120)
        assert status["revision"]["active"] != status["revision"]["target"]
        asked = len(words)
        until(lambda: len(words) > asked, 10, "not answered any more")
    assert "RecreatedForMemory" not in small.stack.kubectl("get", "events", "--namespace=default").stdout
