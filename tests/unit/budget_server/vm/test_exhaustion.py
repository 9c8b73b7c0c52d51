"""Want of memory and full disks: how they are counted, told apart, and survived by what serves.

Kills are the kernel's own, in a memory cgroup; full disks are a small file system or `/dev/full`.
"""

import contextlib
import errno
import hashlib
import os
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from uv import find_uv_bin

from budget_server.vm import environment, requirements
from budget_server.vm.artifact import Artifact
from budget_server.vm.config import BudgetConfig, Manifest, Secrets
from budget_server.vm.environment import Environments
from budget_server.vm.errors import (
    ArtifactInvalid,
    Died,
    DiedServing,
    DiskFull,
    InstallKilled,
    LoadFailed,
    OutOfMemory,
    ReadinessFailed,
    RequirementsFailed,
    Unanswered,
)
from budget_server.vm.exhaustion import KillWatch, read_kills, requirement_at_work, told_apart
from budget_server.vm.process import Identity, members

CGROUPS = Path("/sys/fs/cgroup")
R1, R2, R3 = "a" * 12, "b" * 12, "c" * 12
UV_KILLED = """Using Python 3.11.7 environment at: v
Resolved 1 package in 1ms
   Building hog @ file:///code/hog
error: Failed to build `hog @ file:///code/hog`
  cause: The build backend returned an error
  cause: Call to `backend.build_wheel` failed (signal: 9 (SIGKILL))"""
UV_FULL = """Prepared 1 package in 11ms
error: Failed to install: big-1-py3-none-any.whl (big==1 (from file:///code/big-1-py3-none-any.whl))
  cause: failed to copy file from /a to /b: No space left on device (os error 28)"""
UV_FULL_CACHE = """error: Failed to read `big @ file:///code/big-1-py3-none-any.whl`
  cause: failed to write to file `/cache/big.bin`: No space left on device (os error 28)"""
UV_SILENT = """   Building quick==1
      Built quick==1
Downloading small (1.0MiB)
Downloading torch (847.2MiB)
 Downloaded small"""


def file(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


V1 = "9:memory:/docker/x\n1:cpu:/docker/x\n0::/docker/x\n"


@pytest.mark.parametrize(
    ("cgroup", "path", "text"),
    [
        ("0::/\n", "sys/fs/cgroup/memory.events", "low 0\noom 9\noom_kill 7\n"),
        ("0::/docker/x\n", "sys/fs/cgroup/docker/x/memory.events", "oom_kill 7\n"),
        (V1, "sys/fs/cgroup/memory/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 7\n"),
        (V1, "sys/fs/cgroup/memory/docker/x/memory.oom_control", "oom_kill 7\n"),
        (V1, "proc/other", ""),
        ("0::/\n", "sys/fs/cgroup/memory.events", "low 0\n"),
    ],
    ids=["v2", "v2 of the host", "v1", "v1 of the host", "no cgroup", "an old kernel"],
)
def test_the_nearest_count_of_kills_is_read(tmp_path: Path, cgroup: str, path: str, text: str) -> None:
    file(tmp_path, "proc/self/cgroup", cgroup)
    file(tmp_path, "proc/vmstat", "nr_free_pages 5\noom_kill 3\n")
    file(tmp_path, path, text)
    assert read_kills(tmp_path) == (7 if "oom_kill 7" in text else 3)


def test_nothing_to_read_is_no_kill(tmp_path: Path) -> None:
    assert read_kills(tmp_path) == 0
    assert read_kills() >= 0


def test_a_kill_from_before_the_watch_does_not_count() -> None:
    counts = [4]
    watch = KillWatch.begin(lambda: counts[0])
    assert not watch.killed()
    counts[0] = 5
    assert watch.killed()


MEMORY, DISK = "spec.machine.type", "spec.machine.diskGiB"


@pytest.mark.parametrize(
    ("error", "killed", "kind", "culprit", "field"),
    [
        (RequirementsFailed("m", UV_KILLED), True, OutOfMemory, "installation of hog @ file", MEMORY),
        (InstallKilled("m", UV_SILENT), True, OutOfMemory, "installation of torch: the kernel", MEMORY),
        (InstallKilled("m", ""), True, OutOfMemory, "installation of the requirements", MEMORY),
        (RequirementsFailed("m", "   MemoryError"), False, OutOfMemory, "could not be given", MEMORY),
        (RequirementsFailed("m", UV_FULL), False, DiskFull, "installation of big==1. ", DISK),
        (RequirementsFailed("m", UV_FULL_CACHE), False, DiskFull, "installation of big @ file", DISK),
        (Died("the process ended"), True, OutOfMemory, "during load: the kernel killed it", MEMORY),
        (OutOfMemory("C could not be loaded: MemoryError"), False, OutOfMemory, "during load", MEMORY),
        (DiskFull("C could not be loaded: OSError"), False, DiskFull, "during load", DISK),
        (LoadFailed("A process in the pool was terminated abruptly"), True, OutOfMemory, "load", MEMORY),
        (Unanswered("disconnected"), True, OutOfMemory, "during predict, asked", MEMORY),
        (ReadinessFailed("500", "Traceback\nMemoryError"), False, OutOfMemory, "during predict", MEMORY),
        (DiedServing("ended"), True, OutOfMemory, "during predict, or load", MEMORY),
        (OSError(errno.ENOSPC, "No space left"), False, DiskFull, "preparation of the revision", DISK),
        (OSError(errno.ENOMEM, "fork"), False, OutOfMemory, "preparation of the revision", MEMORY),
    ],
)
def test_exhaustion_is_told_with_culprit_and_field(
    error: Exception, killed: bool, kind: type[Exception], culprit: str, field: str
) -> None:
    told = told_apart(error, killed, "e2-micro")
    assert told
    assert type(told) is kind
    assert culprit in told.message
    assert f"in {field}" in told.message
    assert ("on e2-micro" in told.message) is (kind is OutOfMemory)
    assert told.log == getattr(error, "log", "")


@pytest.mark.parametrize(
    ("error", "killed"),
    [
        (RequirementsFailed("m", UV_KILLED), False),  # by somebody else, not for want of memory
        (Died("the process ended"), False),  # a crash in native code
        (Unanswered("disconnected"), False),
        (RequirementsFailed("conflict", "error: No solution found"), True),  # another program was taken
        (LoadFailed("C could not be loaded: ImportError: x"), True),
        (LoadFailed("ImportError", "MemoryError was caught\nImportError: x"), False),
        (ArtifactInvalid("hash"), True),
        (ValueError("x"), True),
        (FileNotFoundError(errno.ENOENT, "x"), False),
    ],
)
def test_ordinary_failures_stay_what_they_are(error: Exception, killed: bool) -> None:
    assert told_apart(error, killed, "e2-micro") is None


def test_without_a_word_from_uv_nobody_is_accused() -> None:
    assert requirement_at_work("Resolved 1 package in 1ms") == ""


# With the kernel.


@dataclass
class Group:
    """A memory cgroup of our own."""

    path: Path
    root: Path  # looks like the root directory of a process in it

    def kills(self) -> int:
        return read_kills(self.root)

    @property
    def command(self) -> tuple[str, ...]:
        """Put before a command that is to run in it."""
        return ("/bin/sh", "-c", f'echo $$ >"{self.path}/cgroup.procs"; exec "$@"', "sh")

    def clear(self) -> None:
        deadline = time.monotonic() + 20
        while self.path.exists():
            for pid in (self.path / "cgroup.procs").read_text().split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), 9)
            with contextlib.suppress(OSError):
                self.path.rmdir()
            assert time.monotonic() < deadline, "the cgroup is still in use"
            time.sleep(0.02)


@pytest.fixture
def group(tmp_path: Path) -> Iterator[Callable[[int], Group]]:
    """Makes a cgroup with so many MiB."""
    if os.geteuid() != 0:
        pytest.skip("a cgroup can only be made by root")
    made: list[Group] = []
    old = (CGROUPS / "memory").is_dir()

    def make(mebibytes: int) -> Group:
        name = f"budget-test-{uuid.uuid4().hex[:8]}"
        path = (CGROUPS / "memory" if old else CGROUPS) / name
        path.mkdir()
        root = tmp_path / name
        file(root, "proc/self/cgroup", f"4:memory:/{name}\n" if old else f"0::/{name}\n")
        (root / "sys/fs").mkdir(parents=True)
        (root / "sys/fs/cgroup").symlink_to(CGROUPS)
        made.append(Group(path, root))
        limit = path / ("memory.limit_in_bytes" if old else "memory.max")
        limit.write_text(str(mebibytes << 20))
        return made[-1]

    yield make
    for each in made:
        each.clear()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 32 MiB."""
    if os.geteuid() != 0:
        pytest.skip("a file system can only be mounted by root")
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(place)], check=True)
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


BACKEND = """
import os
def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
{body}
"""
PROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "hog"
version = "1"
"""
TAKE_MEMORY = "    x = bytearray(600 << 20)"
TAKE_DISK = """
    import tempfile
    with tempfile.NamedTemporaryFile(delete=False) as big:
        for _ in range(64): big.write(bytes(1 << 20))
"""


def hog(code: Path, body: str) -> Artifact:
    """A revision whose one requirement does this while it is built."""
    file(code, "hog/pyproject.toml", PROJECT)
    file(code, "hog/backend.py", BACKEND.format(body=body))
    names = {"image": "i", "deployment": "d", "bucket": "b", "bundle": "x", "sealed": "y"}
    digest = hashlib.sha256(b"").hexdigest()
    config = BudgetConfig.model_validate(
        {**names, "revision": R1, "bundleSha256": digest, "sealedSha256": digest}
    )
    manifest = Manifest.model_validate(
        {"version": 1, "deployment": "t/d", "entrypoint": "m:C", "requirements": ["./hog"]}
    )
    return Artifact(config, manifest, Secrets(username="u", password="hunter22", token="t0ken"), code)


@pytest.fixture
def environments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], Environments]:
    """On this disk; the server needs nothing, so that no index is asked."""
    monkeypatch.setattr(requirements, "server_requirements", tuple)

    def make(disk: Path) -> Environments:
        for name in ("environments", "cache", "tmp"):
            (disk / name).mkdir(parents=True)
        return Environments(disk / "environments", disk / "cache", (), Identity())

    return make


def test_an_install_that_the_kernel_kills(
    group: Callable[[int], Group],
    environments: Callable[[Path], Environments],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small = group(256)
    uv = tmp_path / "uv"
    inside = small.command[2].replace('"$@"', f'"{find_uv_bin()}" "$@"')
    uv.write_text(f"#!/bin/sh\n{inside}\n")
    uv.chmod(0o755)
    monkeypatch.setattr(environment, "find_uv_bin", lambda: str(uv))
    watch = KillWatch.begin(small.kills)
    with pytest.raises(RequirementsFailed) as raised:
        made = environments(tmp_path / "disk")
        made.provide(hog(tmp_path / "code", TAKE_MEMORY), {"PATH": "/usr/bin:/bin"}, lambda: False)
    assert watch.killed()
    told = told_apart(raised.value, watch.killed(), "e2-micro")
    assert isinstance(told, OutOfMemory)
    assert "on e2-micro during the installation of hog" in told.message
    assert "SIGKILL" in told.log


def test_an_install_is_what_the_kernel_ends_first(
    environments: Callable[[Path], Environments], tmp_path: Path
) -> None:
    body = "    raise ValueError('score ' + open('/proc/self/oom_score_adj').read())"
    made = environments(tmp_path / "disk")
    with pytest.raises(RequirementsFailed) as raised:
        made.provide(hog(tmp_path / "code", body), {"PATH": "/usr/bin:/bin"}, lambda: False)
    assert "score 1000" in raised.value.log


def test_an_install_that_fills_the_disk(
    small_disk: Path, environments: Callable[[Path], Environments], tmp_path: Path
) -> None:
    made = environments(small_disk)
    env = {"PATH": "/usr/bin:/bin", "TMPDIR": str(small_disk / "tmp")}
    with pytest.raises(RequirementsFailed) as raised:
        made.provide(hog(tmp_path / "code", TAKE_DISK), env, lambda: False)
    told = told_apart(raised.value, False, "e2-micro")
    assert isinstance(told, DiskFull)
    assert "during the installation of hog" in told.message
    assert "No space left on device" in told.log


@pytest.mark.parametrize(
    ("body", "reason"),
    [("    raise MemoryError", "OutOfMemory"), ("    open('/dev/full', 'w').write('x' * 99999)", "DiskFull")],
)
def test_a_requirement_names_itself_in_the_state(
    world: Any, vm: Any, monkeypatch: pytest.MonkeyPatch, body: str, reason: str
) -> None:
    monkeypatch.setenv("UV_OFFLINE", "1")
    dynamic = PROJECT.replace('version = "1"', 'dynamic = ["version"]')
    code = {"hog/pyproject.toml": dynamic, "hog/backend.py": BACKEND.format(body=body)}
    world.publish(R1, code, {"requirements": ["./hog"]})
    vm.boot()
    failure = world.await_state(phase="failed")["failure"]
    assert failure["reason"] == reason, failure
    assert "during the installation of hog" in failure["message"]
    assert "hog/backend.py" in failure["log"]


def load(body: str) -> dict[str, str]:
    return {
        "predictor.py": f"class Predictor:\n    def load(self):{body}\n    def predict(self, r): return 1\n"
    }


def test_a_load_that_the_kernel_kills_leaves_the_old_revision_serving(
    group: Callable[[int], Group], world: Any, vm: Any, predictor: Callable[[str], dict[str, str]]
) -> None:
    small = group(500)
    vm.within = small.command
    world.attributes["machine-type"] = "projects/1/machineTypes/e2-micro"
    world.publish(R1, predictor("one"))
    vm.boot()
    with vm.client() as client:
        world.await_state(active=R1)
        answers: list[int] = []
        enough = threading.Event()

        def call() -> None:
            while not enough.is_set():
                answers.append(vm.predict(client).status_code)

        caller = threading.Thread(target=call)
        caller.start()
        master = vm.children("gunicorn")[0]
        serving = members(master)
        world.publish(R2, load(' print("about to take much"); self.x = bytearray(600 << 20)'))
        state = world.await_state(phase="serving", target=R2)
        enough.set()
        caller.join()
        failure = state["failure"]
        assert (failure["reason"], failure["revision"], state["active"]) == ("OutOfMemory", R2, R1)
        assert "Out of memory on e2-micro during load: the kernel killed it" in failure["message"]
        assert "in spec.machine.type" in failure["message"]
        assert "about to take much" in failure["log"]
        assert small.kills() >= 1, "its master may be taken as well"
        assert len(serving) == 2, "master and worker"
        assert members(master) == serving
        assert set(answers) == {200}
        print(f"{len(answers)} answers while the other revision was killed")
        # a new revision is tried at once
        world.publish(R3, predictor("three"))
        assert world.await_state(phase="serving", active=R3)["failure"] is None


def test_a_worker_killed_in_predict_is_told_and_replaced(
    group: Callable[[int], Group], world: Any, vm: Any, until: Callable[..., Any]
) -> None:
    small = group(500)
    vm.within = small.command
    greedy = """
class Predictor:
    def load(self): pass
    def predict(self, request): return len(bytearray(request.payload["x"] << 20))
"""
    world.publish(R1, {"predictor.py": greedy})
    vm.boot()
    with vm.client() as client:
        world.await_state(active=R1)
        assert vm.predict(client, 1).status_code == 200
        assert vm.predict(client, 600).status_code >= 500
        failure = until(lambda: world.state["failure"])
        assert (failure["reason"], failure["revision"]) == ("OutOfMemory", R1)
        assert "predict" in failure["message"]
        until(lambda: vm.predict(client, 1).status_code == 200)


def test_a_load_that_fills_the_disk_leaves_the_old_revision_serving(
    small_disk: Path,
    world: Any,
    vm: Any,
    predictor: Callable[[str], dict[str, str]],
    until: Callable[..., Any],
) -> None:
    vm.disk = small_disk / "disk"
    vm.output = small_disk.parent / "output"
    world.publish(R1, predictor("one"))
    vm.boot()
    with vm.client() as client:
        world.await_state(active=R1)
        world.publish(R2, load(TAKE_DISK.replace("\n    ", "\n        ")))
        state = world.await_state(phase="serving", target=R2)
        failure = state["failure"]
        assert (failure["reason"], failure["revision"], state["active"]) == ("DiskFull", R2, R1)
        assert "during load" in failure["message"]
        assert "No space left on device" in failure["log"]
        assert vm.predict(client).json()["says"] == "one"
        until(lambda: _free(small_disk) > 16 << 20)
        world.publish(R3, predictor("three"))
        assert world.await_state(phase="serving", active=R3)["failure"] is None


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (" raise MemoryError", "OutOfMemory"),
        (' open("/dev/full", "w").write("x" * 99999)', "DiskFull"),
        (" import os; os.abort()", "LoadFailed"),
        (" import os; os.kill(os.getpid(), 9)", "LoadFailed"),
    ],
)
def test_what_load_itself_met(world: Any, vm: Any, body: str, reason: str) -> None:
    world.publish(R1, load(body))
    vm.boot()
    state = world.await_state(phase="failed")
    assert state["failure"]["reason"] == reason


def test_another_machine_ends_the_pause(
    world: Any, vm: Any, predictor: Callable[[str], dict[str, str]]
) -> None:
    body = """
        import os
        if not os.path.exists(os.environ["HOME"] + "/big"): raise MemoryError"""
    world.attributes["machine-type"] = "projects/1/machineTypes/e2-micro"
    world.publish(R1, predictor("one"))
    vm.boot()
    world.await_state(active=R1)
    world.publish(R2, load(body), {"readiness": {"payload": None, "startupSeconds": 30}})
    assert world.await_state(phase="serving", target=R2)["failure"]["reason"] == "OutOfMemory"
    (vm.disk / "home" / "big").touch()
    vm.shut_down()
    world.attributes["machine-type"] = "projects/1/machineTypes/e2-medium"
    world.states.clear()
    vm.boot()
    state = world.await_state(seconds=20, phase="serving", active=R2)  # not after the minute's pause
    assert state["failure"] is None


def _free(path: Path) -> int:
    disk = os.statvfs(path)
    return disk.f_bavail * disk.f_frsize
