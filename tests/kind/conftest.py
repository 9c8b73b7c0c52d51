"""A kind cluster for all tests of this folder, made by `make kind` and removed by `make kind-down`.

One of an earlier `make kind` in this checkout is replaced by it.
"""

import subprocess
from collections.abc import Iterator

import pytest

from dev import engine
from dev.demo import Story
from dev.docker import Docker
from dev.kind import cluster, install
from dev.kind.install import KindStack
from dev.paths import KIND, ROOT, locked


@pytest.fixture(scope="session")
def docker() -> Iterator[Docker]:
    """An engine, as it was found."""
    was_up = engine.find() is not None
    found = engine.up()
    try:
        yield found
    finally:
        if not was_up:
            engine.release()


@pytest.fixture(scope="session")
def told(docker: Docker) -> Iterator[str]:
    """What `make kind` has printed; in the end nothing of the cluster is left."""
    with locked("kind"):
        cluster.down(KIND)
        try:
            done = make("kind")
            assert done.returncode == 0, done.stdout + done.stderr
            yield done.stdout
            assert make("kind-down").returncode == 0
            assert left_of_it() == []
        finally:
            cluster.down(KIND)


def make(target: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["make", target], cwd=ROOT, capture_output=True, text=True, check=False)


def left_of_it() -> list[str]:
    """Containers, networks, volumes, files and rules of the cluster; an engine that was its alone is gone."""
    left = [str(KIND.root)] if KIND.root.exists() else []
    rules = subprocess.run(["iptables-save"], capture_output=True, text=True, check=False).stdout
    left += [line for line in rules.splitlines() if any(each in line for each in cluster.RANGES)]
    if docker := engine.find():
        names = docker("container", "ls", "--all", "--format", "{{.Names}}").splitlines()
        for kind in ("network", "volume"):
            names += docker(kind, "ls", "--format", "{{.Name}}").splitlines()
        left += [name for name in names if KIND.network in name]
    return left


@pytest.fixture(scope="session")
def running(told: str, docker: Docker) -> KindStack:
    """The stack that the story has left."""
    return install.up(KIND)


@pytest.fixture(scope="session")
def story(running: KindStack) -> Story:
    return Story(running)
