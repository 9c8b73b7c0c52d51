"""How long an instance stays in each state: what lets time pass turns the clock, and is written down."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from dev.conformance.bodies import spot_instance
from dev.conformance.server import until
from localcloud.app import create_app, ground
from localcloud.clock import ManualClock, parse_rfc3339
from localcloud.operations import Tasks
from localcloud.services.compute.records import Records
from localcloud.settings import Durations, Settings

PROJECT = "/compute/v1/projects/p1/"
ZONE = f"{PROJECT}zones/us-central1-a"
VM = f"{ZONE}/instances/vm1"
GIVEN = Durations(provisioning=8, staging=20, operation=2, notice=120)
SPOT = {"provisioningModel": "SPOT"}
OLD_SPOT = {"preemptible": True}
STANDARD = {"provisioningModel": "STANDARD"}
NOTICE = SPOT | {"preemptionNoticeDuration": {"seconds": "120"}}


class World:
    def __init__(self, home: Path) -> None:
        self.clock = ManualClock()
        self.context = ground(Settings(home, durations=GIVEN), self.clock)
        self.http = TestClient(create_app(self.context))
        self.lived: dict[str, float] = {}
        """Seconds in each state, in the order of the states."""

    def passes(self, seconds: float) -> None:
        record = Records(self.context.store).get(VM.removeprefix("/compute/v1/"))
        status = "" if record is None else record.status
        self.lived[status] = self.lived.get(status, 0) + seconds
        self.clock.advance(seconds)

    def post(self, path: str, body: Any = None) -> float:
        """Call, and wait until it is done; returns the seconds from its beginning to its end."""
        answer = self.http.post(path, json=body)
        assert answer.status_code == 200, answer.text
        assert answer.json()["status"] == "PENDING"
        operation = f"{ZONE}/operations/{answer.json()['name']}"
        done = until(lambda: self.finished(operation), "the operation")
        assert "error" not in done
        begun, ended = (parse_rfc3339(done[name]) for name in ("insertTime", "endTime"))
        return (ended - begun).total_seconds()

    def finished(self, operation: str) -> Any:
        found = self.http.get(operation).json()
        return found if found["status"] == "DONE" else None


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    made = World(tmp_path)
    monkeypatch.setattr(Tasks, "sleep", lambda _, seconds: made.passes(seconds))
    monkeypatch.setattr(made.context.vms, "stop", lambda _, timeout_s: made.passes(timeout_s))
    with made.http:
        yield made


@pytest.mark.parametrize(("scheduling", "grace"), [(SPOT, 30), (OLD_SPOT, 30), (STANDARD, 120)])
def test_each_state_lasts_as_long_as_it_should(world: World, scheduling: Any, grace: float) -> None:
    assert world.post(f"{ZONE}/instances", spot_instance("vm1", scheduling=scheduling)) == 28
    assert world.post(f"{VM}/stop") == grace
    assert world.http.get(VM).json()["status"] == "TERMINATED"
    small = {"machineType": "zones/us-central1-a/machineTypes/e2-small"}
    assert world.post(f"{VM}/setMachineType", small) == 2
    expected = {"PROVISIONING": 8, "STAGING": 20, "STOPPING": grace, "TERMINATED": 2}
    assert list(world.lived.items()) == list(expected.items())


@pytest.mark.parametrize(("scheduling", "notice"), [(NOTICE, 120), (SPOT, 0)])
def test_a_preemption_is_a_notice_a_soft_off_and_an_end(world: World, scheduling: Any, notice: float) -> None:
    world.post(f"{ZONE}/instances", spot_instance("vm1", scheduling=scheduling))
    world.lived.clear()
    assert world.http.post("/_localcloud/v1/preempt/vm1").status_code == 200
    until(lambda: world.http.get(VM).json()["status"] == "TERMINATED", "the end")
    expected = {"RUNNING": notice, "STOPPING": 30} if notice else {"STOPPING": 30}
    assert world.lived == pytest.approx(expected)
