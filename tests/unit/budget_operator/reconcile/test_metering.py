"""The ledger in the bucket and the month in the status: whole, and written when there is something to say."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from budget_operator.core import errors
from budget_operator.core.cost import ledger, marks
from budget_operator.core.gateways import Scan
from budget_operator.core.observed import PowerEvent
from budget_operator.core.prices import table
from dev.simulation.apiserver import CODE
from tests.unit.budget_operator.fakes import START, World

SPEC = {"predictor": {"inline": CODE}}
STANDARD = {"predictor": {"inline": CODE}, "machine": {"provisioning": "Standard"}}
RATES = table.shipped().rates("us-central1", "e2-medium", "Spot", 20)


def place(world: World, month: str = "2026-11") -> str:
    return ledger.object_name(world.owner("iris").cloud_name, month)


def written(world: World, month: str = "2026-11") -> list[tuple[str, str, str, bool]]:
    """What the object says: the part, from when to when in hours, and whether it goes on."""

    def hours(text: str) -> str:
        return f"{(datetime.fromisoformat(text) - START) / timedelta(hours=1):.1f}"

    found = json.loads(world.cloud.blobs[place(world, month)])["stretches"]
    return [(each["part"], hours(each["since"]), hours(each["until"]), each["open"]) for each in found]


def machine(world: World, month: str = "2026-11") -> list[tuple[str, str, bool]]:
    return [found[1:] for found in written(world, month) if found[0] == "machine"]


def writes(world: World) -> int:
    return sum(call.startswith("write ledger/") for call in world.journal.calls)


def cost(world: World) -> dict[str, Any]:
    found: dict[str, Any] = world.kube.status("iris")["cost"]
    return found


def rest(world: World, hours: float) -> None:
    """Passes that time brings."""
    until = world.clock.now + timedelta(hours=hours)
    while world.clock.now < until:
        passed = world.reconciler.reconcile("default", "iris", quiet=True)
        assert passed.after is not None
        left = (until - world.clock.now).total_seconds()
        world.clock.advance(min(passed.after, left))


def away(world: World, hours: float) -> None:
    """Nobody looks; the keep-alive does its work."""
    for _ in range(round(hours * 60)):
        world.clock.advance(60)
        world.cloud.tick()


def again(world: World) -> None:
    world.start_operator()
    world.pass_("iris")
    world.drive(lambda: world.is_ready("iris"), "iris")


def test_the_forecast_is_told_before_there_is_a_vm(world: World) -> None:
    seen: list[dict[str, Any]] = []

    def look(number: int, call: str) -> None:
        if call.startswith("insert_instance"):
            seen.append(world.kube.status("iris"))

    world.journal.fault = look
    world.up()
    assert (seen[0]["cost"]["forecast"], seen[0]["cost"]["monthToDate"]) == (18.5, 0.0)
    assert cost(world)["forecast"] == 18.5


def test_a_spec_that_cannot_work_is_told_what_it_would_cost(world: World) -> None:
    world.kube.apply("iris", {**SPEC, "requirements": ["-r x"]})
    world.pass_("iris")
    assert world.kube.status("iris")["state"] == "Stalled"
    assert cost(world)["forecast"] == 18.5


def test_a_deployment_that_comes_up_is_written_once(world: World) -> None:
    world.up()
    assert writes(world) == 1
    assert [(part, on) for part, _, _, on in written(world)] == [
        ("address", True),
        ("disk", True),
        ("machine", True),
    ]


def test_at_rest_the_ledger_is_left_alone_and_the_status_is_written_once_a_day(world: World) -> None:
    world.up()
    rest(world, 11)
    ledgers, statuses, told = writes(world), world.kube.status_writes, cost(world)
    rest(world, 0.9)
    assert (writes(world), world.kube.status_writes) == (ledgers, statuses), "until midnight"
    rest(world, 24)
    assert (writes(world), world.kube.status_writes) == (ledgers, statuses + 1)
    assert cost(world)["asOf"] == "2026-11-25T00:00:00Z"
    rates = RATES
    assert rates is not None
    assert cost(world)["monthToDate"] == pytest.approx(12 * rates.running, abs=0.011)
    assert told["monthToDate"] == 0.0


def test_a_preemption_is_two_writes(world: World) -> None:
    world.up()
    rest(world, 2)
    world.cloud.preempt(world.owner("iris").cloud_name)
    rest(world, 1)
    assert [on for _, _, on in machine(world)] == [False, True]
    assert writes(world) == 3
    assert world.cloud.histories_read <= 1, "while it was at rest nobody looked for up to an hour"


def test_what_happened_while_the_operator_was_off_is_metered(world: World) -> None:
    world.up()
    name = world.owner("iris").cloud_name
    away(world, 4)
    for _ in range(3):
        world.cloud.preempt(name)
        world.clock.advance(3600)
        world.cloud.tick()
        away(world, 4)
    again(world)
    assert machine(world) == [("0.0", "4.0", False)] + [
        (f"{start:.1f}", f"{start + 4:.1f}", False) for start in (5, 10)
    ] + [("15.0", machine(world)[-1][1], True)]
    assert world.cloud.histories_read == 1
    rates = RATES
    assert rates is not None
    assert cost(world)["asOf"].startswith("2026-11-25T03:00:")
    assert cost(world)["monthToDate"] == pytest.approx(12 * rates.running + 3 * rates.stopped, abs=0.011)


def test_what_google_has_forgotten_was_noted_by_the_vm(world: World) -> None:
    world.kube.apply("iris", SPEC)
    world.clock.advance(8 * 24 * 3600)  # into the next month, which is longer than Google remembers
    world.drive(lambda: world.is_ready("iris"), "iris")
    [vm] = world.cloud.vms.values()
    came, lines = world.clock.now, []
    for round_ in range(2):
        away(world, 100)
        world.cloud.preempt(vm.name)
        lines += [f"{vm.id} on {int(came.timestamp()) + round_ * 200 * 3600}"]
        lines += [f"{vm.id} off {int(world.clock.now.timestamp())}"]
        world.clock.advance(100 * 3600)
        world.cloud.tick()
    away(world, 24)
    world.cloud.blobs[marks.object_name(vm.name)] = "\n".join(lines).encode()
    known = world.cloud.powered[vm.id]
    world.cloud.powered[vm.id] = [each for each in known if each.at > came + timedelta(hours=350)]
    again(world)
    assert [(f"{float(until) - float(since):.0f}", on) for since, until, on in machine(world, "2026-12")] == [
        ("100", False),
        ("100", False),
        ("24", True),
    ]


def test_a_restored_backup_without_status_knows_what_was_spent(world: World) -> None:
    world.up()
    rest(world, 30)
    told = cost(world)
    found = world.kube.objects["default", "iris"]
    found.pop("status")
    world.kube._touch(found)
    again(world)
    assert cost(world) == told


def test_another_vm_takes_over_in_the_ledger(world: World) -> None:
    world.up()
    rest(world, 5)
    world.kube.apply("iris", STANDARD)
    world.drive(lambda: world.is_ready("iris"), "iris")
    assert [on for _, _, on in machine(world)] == [False, True]
    document = json.loads(world.cloud.blobs[place(world)])
    whats = [each["what"] for each in document["stretches"] if each["part"] == "machine"]
    assert whats == ["e2-medium Spot in us-central1", "e2-medium Standard in us-central1"]
    assert cost(world)["savedVersusOnDemand"] == 0.0


def test_a_new_month_has_its_own_object(world: World) -> None:
    world.up()
    rest(world, 7 * 24)
    assert machine(world, "2026-12") == [("156.0", machine(world, "2026-12")[0][1], True)]
    assert writes(world) == 2
    rates = RATES
    assert rates is not None
    assert cost(world)["asOf"] == "2026-12-01T00:00:00Z"
    assert cost(world)["monthToDate"] == 0.0
    rest(world, 24)
    assert cost(world)["monthToDate"] == pytest.approx(24 * rates.running, abs=0.011)


def test_a_month_that_ended_while_the_operator_was_off_is_closed(world: World) -> None:
    world.up()
    away(world, 100)
    world.cloud.preempt(world.owner("iris").cloud_name)
    world.clock.advance(3600)
    away(world, 72)
    again(world)
    assert machine(world) == [("0.0", "100.0", False), ("101.0", "156.0", True)]
    assert [found[0] for found in machine(world, "2026-12")] == ["156.0"]


def test_somebody_who_wrote_meanwhile_is_not_written_over(world: World) -> None:
    world.up()
    rest(world, 1)
    document = json.loads(world.cloud.blobs[place(world)])
    foreign = {**document["stretches"][-1], "of": "another", "open": False}
    document["stretches"].append(foreign)
    world.cloud.blobs[place(world)] = json.dumps(document).encode()
    world.cloud.generations[place(world)] += 1000
    world.cloud.preempt(world.owner("iris").cloud_name)
    rest(world, 1)
    found = json.loads(world.cloud.blobs[place(world)])["stretches"]
    assert foreign in found
    assert [each["open"] for each in found if each["part"] == "machine" and each["of"] != "another"] == [
        False,
        True,
    ]


@pytest.mark.parametrize("failing", ["bucket", "operations"])
def test_what_fails_is_tried_again_until_it_is_written(world: World, failing: str) -> None:
    world.up()
    rest(world, 1)
    away(world, 3)
    world.cloud.preempt(world.owner("iris").cloud_name)
    away(world, 3)
    mend = _break(world, failing)
    again(world)
    rest(world, 0.5)
    assert [on for _, _, on in machine(world)] == [True], "as it was"
    mend()
    rest(world, 0.1)
    assert [on for _, _, on in machine(world)] == [False, True]


def _break(world: World, what: str) -> Callable[[], None]:
    cloud = world.cloud
    if what == "bucket":
        cloud.refuse["write"] = errors.Unavailable("the bucket is not there")
        return cloud.refuse.clear
    whole = cloud.power_events

    def silent(instance_id: str) -> Scan[PowerEvent]:
        return Scan((), frozenset({"zones/us-central1-b"}))

    cloud.power_events = silent  # type: ignore[method-assign]
    return lambda: setattr(cloud, "power_events", whole)


def test_the_ledger_goes_with_the_deployment(world: World) -> None:
    world.up()
    assert place(world) in world.cloud.blobs
    world.kube.delete("iris")
    world.drive(lambda: world.is_gone("iris"), "iris")
    assert world.cloud.empty
    assert world.cloud.blobs == {}


def test_a_price_that_is_not_known_gives_no_number(world: World) -> None:
    world.kube.apply("iris", {**SPEC, "machine": {"type": "c3-standard-4"}})
    world.drive(lambda: world.is_ready("iris"), "iris")
    rest(world, 2)
    assert {"forecast", "monthToDate", "hourly", "parts"} & cost(world).keys() == set()
    assert "c3-standard-4 Spot" in cost(world)["note"]


def test_another_cluster_s_ledger_is_left_alone(world: World) -> None:
    """Nothing is written for an installation that is not held."""
    world.up()
    before = writes(world)
    assert world.cloud.the_owner is not None
    claim = json.loads(world.cloud.the_owner.data)
    world.cloud.the_owner = replace(
        world.cloud.the_owner, data=json.dumps({**claim, "cluster": "another"}).encode()
    )
    world.cloud.cached = None
    world.cloud.preempt(world.owner("iris").cloud_name)
    for _ in range(3):
        world.pass_("iris")
        world.clock.advance(40)
    assert world.kube.condition("iris", "Stalled")[1] == "OwnedElsewhere"
    assert writes(world) == before
