"""What happened while no operator was there, compared with the local cloud's own records."""

from datetime import datetime
from typing import Any

from dev.simulation.invariants import PREEMPTED
from dev.simulation.world import World, vm, world
from localcloud.services.compute.operations import OPERATION
from localcloud.services.compute.records import INSTANCE
from tests.simulation.acts import NAME, denied
from tests.simulation.scenes import fault, mend, up


def operations(made: World, kind: str) -> list[dict[str, Any]]:
    found = [body for _, body in made.store.list(OPERATION) if body["operationType"] == kind]
    mine = [body for body in found if body["targetLink"].endswith(vm(NAME)) and "error" not in body]
    return sorted(mine, key=lambda body: str(body["insertTime"]))


def record(made: World) -> dict[str, Any]:
    (found,) = [body["body"] for key, body in made.store.list(INSTANCE) if key.endswith(vm(NAME))]
    return dict(found)


def be_away(made: World, losses: int) -> None:
    made.operator = None
    for _ in range(losses):
        made.preempt(NAME)
        made.run(3600)
    made.restart()
    made.run(120)


def test_outages_without_an_operator_are_told_as_google_recorded_them() -> None:
    with world(kept=1) as made:
        up(made, NAME)
        be_away(made, losses=3)
        status = made.kube.status(NAME)
        boot = sum(status["boot"].values())
        told = [
            (each["cause"], each["found"], each["at"], each["downSeconds"]) for each in status["timeline"]
        ]
        taken, starts = operations(made, PREEMPTED), operations(made, "start")
        assert len(taken) == len(starts) == len(told) == 3
        for number, (gone, back) in enumerate(zip(taken, starts, strict=True)):
            cause, found, at, down = told[number]
            begun = datetime.fromisoformat(gone["insertTime"])
            assert (cause, found) == ("Preempted", "Operation")
            assert datetime.fromisoformat(at) == begun.replace(microsecond=0)
            if number == len(told) - 1:  # of which Google still shows when the VM was off
                begun = datetime.fromisoformat(record(made)["lastStopTimestamp"])
            up_again = (datetime.fromisoformat(back["endTime"]) - begun).total_seconds() + boot
            assert abs(down - up_again) <= 1
        assert status["preemptions"] == {"count": 3, "last24h": 3}
        available = status["availability"]
        downs = [down for *_, down in told]
        assert sum(day["seconds"] for day in available["days"]) == sum(downs)
        assert 90 < available["last7d"] == available["last30d"] < 100
        writes = made.kube.status_writes
        made.run(600)
        assert made.kube.status_writes == writes, "idle"


def test_what_google_does_not_list_is_seen_on_the_vm_and_explained_later() -> None:
    with world(kept=1) as made:
        up(made, NAME)
        fault(made, **denied("compute.globalOperations.list"))
        be_away(made, losses=1)
        status = made.kube.status(NAME)
        assert [(each["cause"], each["found"]) for each in status["timeline"]] == [("NotRunning", "Function")]
        down = status["timeline"][0]["downSeconds"]
        assert 0 < down < 600
        assert status["preemptions"]["count"] == 0
        mend(made)
        made.run(600)
        status = made.kube.status(NAME)
        assert status["preemptions"] == {"count": 1, "last24h": 1}
        (outage,) = status["timeline"]
        assert (outage["cause"], outage["found"], outage["downSeconds"]) == ("Preempted", "Function", down)


def test_a_day_later_none_was_in_the_last_24_hours() -> None:
    with world(kept=100) as made:
        up(made, NAME)
        made.preempt(NAME)
        made.run(1200)
        assert made.kube.status(NAME)["preemptions"] == {"count": 1, "last24h": 1}
        share = made.kube.status(NAME)["availability"]["last30d"]
        made.run(86_400 + 7200)
        status = made.kube.status(NAME)
        assert status["preemptions"] == {"count": 1, "last24h": 0}
        assert share < status["availability"]["last30d"] < 100
