"""Killed after each write to the store that a change of an instance makes, one by one, and started again."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from dev.conformance import bodies
from dev.conformance.bodies import PROJECT, ZONE
from dev.conformance.server import until
from localcloud.app import build_context, create_app
from localcloud.operations import Interrupted
from localcloud.settings import Durations, Settings
from localcloud.store import Store

ZONAL = f"/compute/v1/projects/{PROJECT}/zones/{ZONE}"
VM = f"{ZONAL}/instances/vm"
SOLD_OUT = {"kind": "stock-out", "zone": ZONE, "when": "operation"}


class MortalStore(Store):
    """Tasks cannot write any more after `left` transactions, if that is not negative."""

    left = -1

    @contextmanager
    def transaction(self) -> Iterator[None]:
        with super().transaction():
            counts = self._depth == 1 and threading.current_thread().name.startswith("compute.task")
            if counts and self.left == 0:
                raise Interrupted
            yield
            self.left -= counts


class Idle:
    """In the background, and does nothing there."""

    def start(self) -> None: ...

    def stop(self) -> None: ...


@dataclass(frozen=True)
class Change:
    """What is done before, and then; what must have come of it, and whether it fails."""

    before: tuple[str, ...]
    verb: str
    status: str
    sold_out: bool = False
    action: str = "STOP"


CHANGES = [
    Change((), "insert", "RUNNING"),
    Change((), "insert", "GONE", sold_out=True),
    Change(("insert",), "stop", "TERMINATED"),
    Change(("insert", "stop"), "start", "RUNNING"),
    Change(("insert", "stop"), "start", "TERMINATED", sold_out=True),
    Change(("insert",), "reset", "RUNNING"),
    Change(("insert",), "suspend", "SUSPENDED"),
    Change(("insert", "suspend"), "resume", "RUNNING"),
    Change(("insert", "suspend"), "resume", "SUSPENDED", sold_out=True),
    Change(("insert",), "delete", "GONE"),
    Change(("insert",), "simulateMaintenanceEvent", "TERMINATED"),
    Change(("insert",), "simulateMaintenanceEvent", "GONE", action="DELETE"),
]


class Life:
    """One run of the local cloud on a home, from its start to its end."""

    def __init__(self, home: Path, change: Change) -> None:
        self._change = change
        self.context = build_context(Settings(home, durations=Durations(0, 0, 0, 0, 0, 0, 0.01)))
        self.http = TestClient(create_app(self.context))
        assert isinstance(self.context.store, MortalStore)
        self.store = self.context.store

    def ask(self, verb: str) -> Any:
        if verb == "delete":
            return self.http.delete(VM)
        if verb != "insert":
            return self.http.post(f"{VM}/{verb}")
        body = bodies.spot_instance("vm")
        body["scheduling"]["instanceTerminationAction"] = self._change.action
        return self.http.post(f"{ZONAL}/instances", json=body)

    def is_idle(self) -> bool:
        return not self.store.list("compute.task")

    def errors(self) -> list[str]:
        """The last operation's."""
        *_, last = self.http.get(f"{ZONAL}/operations").json()["items"]
        return [each["code"] for each in last.get("error", {}).get("errors", ())]

    def status(self) -> str:
        return str(self.http.get(VM).json().get("status", "GONE"))


@pytest.fixture(autouse=True)
def mortal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("localcloud.app.Store", MortalStore)
    monkeypatch.setattr("localcloud.app.Resolver", lambda *_: Idle())  # it takes half a second to stop
    monkeypatch.setattr(threading, "excepthook", lambda _: None)


@pytest.mark.parametrize("change", CHANGES, ids=lambda each: f"{each.verb}-{each.status}")
def test_a_change_that_was_killed_ends_as_if_nothing_had_been(change: Change, tmp_path: Path) -> None:
    kills = 0
    while killed(tmp_path / str(kills), change, kills):
        whole(tmp_path / str(kills), change)
        kills += 1
    assert kills > 2


def killed(home: Path, change: Change, writes: int) -> bool:
    """False if it came to its end before it had written so often."""
    life = Life(home, change)
    with life.http:
        for verb in change.before:
            life.ask(verb).raise_for_status()
            until(life.is_idle, verb)
        if change.sold_out:
            life.http.post("/_localcloud/v1/faults", json=SOLD_OUT).raise_for_status()
        life.store.left = writes
        life.ask(change.verb).raise_for_status()
        until(lambda: life.store.left == 0 or life.is_idle(), change.verb)
        return not life.is_idle()


def whole(home: Path, change: Change) -> None:
    """The next life brings it to its end."""
    life = Life(home, change)
    with life.http:
        until(life.is_idle, "everything to end")
        assert life.status() == change.status
        assert bool(life.errors()) == change.sold_out
        kept = life.store.list("compute.disk"), life.store.list("vm.simulated")
        assert [len(each) for each in kept] == ([0, 0] if change.status == "GONE" else [1, 1])
