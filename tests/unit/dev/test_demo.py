"""The demo's fourth step holds only if the VM was really gone and the keep-alive brought it back."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, cast

import pytest

from dev import demo
from dev.demo import Client, Story
from dev.errors import DevError
from dev.paths import KIND, MAIN, Home
from dev.stack import Stack

VM = "budget-iris-94b8d787e1"
PATH = f"/compute/v1/projects/local-project/zones/us-central1-a/instances/{VM}"
RUNNING = {"name": VM, "status": "RUNNING", "lastStopTimestamp": "yesterday"}
RETURNED = {"name": VM, "status": "RUNNING", "lastStopTimestamp": "today"}


def call(number: int, path: str, status: int = 200) -> dict[str, Any]:
    return {
        "id": number,
        "method": "POST",
        "path": path,
        "status": status,
        "time": "2026-11-25T13:28:00.022Z",
    }


MADE = call(1, "/compute/v1/projects/local-project/zones/us-central1-a/instances?requestId=1")
EARLIER = call(2, f"{PATH}/start?requestId=2")
STARTED = call(3, f"{PATH}/start?requestId=3")


@dataclass
class Parts:
    """What the step needs of a stack, whose operator dies when it is killed, unless it is told otherwise."""

    alive: bool = True
    immortal: ClassVar[bool] = False
    home: Home = MAIN

    def kill_operator(self) -> None:
        self.alive = self.immortal

    def operator_lives(self) -> bool:
        return self.alive


@dataclass
class Told(Story):
    """A story in which the cloud shows the VM and its journal as they are given; the last stays."""

    vms: list[dict[str, Any]] = field(default_factory=list)
    journals: list[list[dict[str, Any]]] = field(default_factory=list)

    def run(self, *argv: str) -> str:
        assert argv == ("localcloud", "preempt", VM)
        return ""

    def instance(self, name: str) -> dict[str, Any]:
        return self.vms.pop(0) if len(self.vms) > 1 else self.vms[0]

    def journal(self) -> list[dict[str, Any]]:
        return self.journals.pop(0) if len(self.journals) > 1 else self.journals[0]


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bool]]:
    """What the endpoint does when it is asked; it serves when the list is at its end. No wait is long."""
    answers: list[bool] = []
    monkeypatch.setattr(demo, "serves", lambda client: answers.pop(0) if answers else True)

    def brief(holds: Callable[[], bool], seconds: float, failure: str, interval: float) -> None:
        if not any(holds() for _ in range(5)):
            raise DevError(failure)

    monkeypatch.setattr(demo, "until", brief)
    yield answers
    assert answers == []


def told(vms: list[dict[str, Any]], after: list[dict[str, Any]]) -> Told:
    before = [MADE, EARLIER]
    client = Client("https://10.202.50.10", Path("ca.pem"), "token")
    return Told(cast(Stack, Parts()), iris=client, vms=vms, journals=[before, before, before + after])


def test_a_vm_that_went_and_was_started_holds(served: list[bool]) -> None:
    served += [False, False]
    story = told([RUNNING, RUNNING, RETURNED], [STARTED])
    demo.survive(story)
    assert story.inserts == 1
    assert [figure.name for figure in story.figures] == ["preemption to serving again"]


def test_a_hiccup_of_a_vm_that_never_went_does_not_hold(served: list[bool]) -> None:
    with pytest.raises(DevError, match="not TERMINATED"):
        demo.survive(told([RUNNING], [STARTED]))


@pytest.mark.parametrize(
    "after",
    [
        [],
        [call(3, f"{PATH}/start?requestId=3", status=503)],
        [call(3, f"{PATH}/stop?requestId=3")],
        [call(3, f"{PATH}-other/start?requestId=3")],
    ],
    ids=["no call", "a refused start", "a stop", "another VM's start"],
)
def test_a_return_that_nobody_asked_for_does_not_hold(
    after: list[dict[str, Any]], served: list[bool]
) -> None:
    with pytest.raises(DevError, match="nobody has asked"):
        demo.survive(told([RUNNING, RETURNED], after))


def test_a_living_operator_does_not_hold(served: list[bool], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Parts, "immortal", True)
    with pytest.raises(DevError, match="SIGKILL"):
        demo.survive(told([RUNNING, RETURNED], [STARTED]))


def test_vms_of_a_kind_cluster_are_asked_through_the_published_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(KIND), "known_port", lambda self, name: {"tunnel": 4242}[name])
    assert Story(cast(Stack, Parts())).way == ()
    assert Story(cast(Stack, Parts(home=KIND))).way == ("--proxy", "http://127.0.0.1:4242", "--proxytunnel")
