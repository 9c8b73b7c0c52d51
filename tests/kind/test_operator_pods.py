"""`make kind`, and a served deployment while the operator's pods are replaced, upgraded and deleted."""

import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from dev import demo
from dev.demo import Client, Story
from dev.docker import Docker
from dev.errors import DevError
from dev.kind import cluster, install
from dev.kind.install import CLOUD, OPERATOR, SELECTOR, KindStack
from dev.paths import KIND, ROOT
from dev.progress import until

SYSTEM = OPERATOR[0]


@dataclass
class Caller:
    """Asks for predictions one after the other and keeps what went wrong."""

    client: Client
    good: int = 0
    failed: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def call(self) -> None:
        while not self.over.is_set():
            try:
                assert self.client.predict("/predict_dict")["species"] == "setosa"
                self.good += 1
            except (DevError, ValueError, KeyError, AssertionError) as error:
                self.failed.append(str(error))

    def goes_on(self, requests: int = 5) -> None:
        """Waits until so many more have been answered; none may fail meanwhile."""
        wanted = self.good + requests
        until(lambda: self.good >= wanted or bool(self.failed), 60, "no prediction is answered")
        assert not self.failed, self.failed


@pytest.fixture(scope="module")
def caller(story: Story) -> Iterator[Caller]:
    """Of a deployment that serves."""
    story.run("kubectl", "apply", "-f", "examples/iris/deployment.yaml")
    demo.wait_ready(story, "iris")
    made = Caller(demo.log_in(story, "iris"))
    thread = threading.Thread(target=made.call)
    thread.start()
    try:
        yield made
    finally:
        made.over.set()
        thread.join()
        story.stack.kubectl("delete", "-f", str(ROOT / "examples/iris/deployment.yaml"), "--timeout=120s")


@pytest.fixture
def untouched(story: Story, caller: Caller) -> Iterator[None]:
    """Whatever a test does to pods: the VM stays the same, nobody asks for another, no request is lost."""
    before, inserts, changes = story.instance("iris"), demo.inserts(story), starts_and_stops(story)
    caller.goes_on()
    yield
    caller.goes_on()
    after = story.instance("iris")
    assert (after["id"], after["lastStartTimestamp"]) == (before["id"], before["lastStartTimestamp"])
    assert demo.inserts(story) == inserts
    assert starts_and_stops(story) == changes


def starts_and_stops(story: Story) -> int:
    return sum(len(demo.posts(story.journal(), f"/{verb}")) for verb in ("start", "stop", "reset"))


def pods(running: KindStack) -> list[Any]:
    return list(running.kubectl.json("get", "pods", SYSTEM, f"--selector={SELECTOR}")["items"])


def uids(running: KindStack) -> set[str]:
    return {pod["metadata"]["uid"] for pod in pods(running)}


def test_the_story_is_the_demos_and_ends_with_its_table(told: str) -> None:
    titles = re.findall(r"^--- (\d)\. ", told, re.MULTILINE)
    assert titles == list("123456")
    for line in ("preemption to serving again", "time to Ready (cold)", "the whole story"):
        assert re.search(rf"^{re.escape(line)} +\d", told, re.MULTILINE), told
    assert "FAILED" not in told


def test_the_endpoint_is_reached_through_a_published_port(docker: Docker, caller: Caller) -> None:
    published = docker("port", KIND.node)
    for url in (KIND.tunnel_url, KIND.cloud_url):
        assert url.removeprefix("http://") in published
    assert caller.client.way == ("--proxy", KIND.tunnel_url, "--proxytunnel")
    caller.goes_on()


@pytest.mark.usefixtures("untouched")
def test_pods_that_are_deleted_are_replaced(running: KindStack) -> None:
    before = uids(running)
    running.kubectl("delete", "pods", SYSTEM, f"--selector={SELECTOR}")
    install.rolled_out(running.kubectl, *OPERATOR)
    assert not uids(running) & before


@pytest.mark.usefixtures("untouched")
def test_an_upgrade_replaces_the_pods_one_after_the_other(
    running: KindStack, docker: Docker, tmp_path: Path
) -> None:
    before = uids(running)
    name = "budgetml/operator:next"
    (tmp_path / "Dockerfile").write_text("FROM budgetml/operator:local\nLABEL next=true\n")
    docker("build", "--tag", name, tmp_path)
    cluster.bring(docker, KIND, name)
    running.kubectl("set", "image", *OPERATOR, f"operator={name}")
    install.rolled_out(running.kubectl, *OPERATOR)
    until(lambda: len(pods(running)) == install.REPLICAS, 60, "pods of before are still there")
    assert not uids(running) & before
    assert {each["spec"]["containers"][0]["image"] for each in pods(running)} == {name}
    assert not any(each["status"]["containerStatuses"][0]["restartCount"] for each in pods(running))
    docker("rmi", name)


@pytest.mark.usefixtures("untouched")
def test_a_deleted_operator_takes_up_where_it_was(running: KindStack, story: Story, caller: Caller) -> None:
    running.kubectl("delete", *OPERATOR, "--cascade=foreground", "--timeout=120s")
    assert not running.operator_lives()
    caller.goes_on()
    install.up(KIND)
    endpoint = story.deployment("iris")["status"]["endpoint"]
    patch = json.dumps({"spec": {"readiness": {"failureSeconds": 61}}})
    running.kubectl("patch", "bd", "iris", "--type=merge", f"--patch={patch}")
    until(lambda: seen(story), 120, lambda: json.dumps(story.deployment("iris"), indent=1))
    assert story.deployment("iris")["status"]["endpoint"] == endpoint


def seen(story: Story) -> bool:
    """Whether the operator has looked at the latest spec and found it Ready."""
    document = story.deployment("iris")
    ready = next(each for each in document["status"]["conditions"] if each["type"] == "Ready")
    current = document["status"]["observedGeneration"] == document["metadata"]["generation"]
    return bool(current and ready["status"] == "True")


def test_one_pod_is_active_and_the_other_waits(running: KindStack) -> None:
    lease = running.kubectl.json("get", "lease", "budget-operator", SYSTEM)
    names = [pod["metadata"]["name"] for pod in pods(running)]
    assert len(names) == install.REPLICAS
    assert any(lease["spec"]["holderIdentity"].startswith(name) for name in names)


def test_the_local_cloud_forgets_nothing_when_its_pod_is_replaced(
    running: KindStack, story: Story, caller: Caller
) -> None:
    """The way of callers from this machine leads through that pod: they are told to wait."""
    caller.over.set()
    before, vm = story.resources(), story.instance("iris")
    running.kubectl("rollout", "restart", *CLOUD)
    install.rolled_out(running.kubectl, *CLOUD)
    assert story.resources() == before
    after = story.instance("iris")
    assert (after["id"], after["lastStartTimestamp"]) == (vm["id"], vm["lastStartTimestamp"])
    assert caller.client.predict("/predict_dict")["species"] == "setosa"
