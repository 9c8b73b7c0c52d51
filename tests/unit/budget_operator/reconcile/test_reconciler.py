"""Whole passes against a cloud and an API server in memory: never two, never lost, always converging."""

import functools
import itertools
import json
from collections.abc import Callable, Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Literal

import pytest

from budget_operator.core import errors
from budget_operator.core.api import FINALIZER
from budget_operator.core.artifact import objects_prefix
from budget_operator.core.names import LABEL_DISK, LABEL_SCHEDULE, LABEL_WANTED, METADATA_CONFIG, METADATA_KEY
from budget_operator.core.observed import Bucket, CertificateReport, Contents, Disk, InstanceStatus, Topic
from budget_operator.reconcile.reconciler import Reconciler, load_parts
from dev.simulation.apiserver import CODE, Crash
from tests.unit.budget_operator.fakes import OPERATION_SECONDS, SETTINGS, World

CONDITIONS = (
    "Ready",
    "ArtifactUploaded",
    "KeepAliveArmed",
    "InstanceRunning",
    "ModelServing",
    "CertificateValid",
)
BUNDLE = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
CREATES = ("create_", "insert_", "reserve_", "upload")


def spec(**changes: Any) -> dict[str, Any]:
    return {"predictor": {"inline": CODE}, **changes}


def config(world: World, name: str = "iris") -> dict[str, Any]:
    vm = world.vm(name)
    assert vm is not None
    found: dict[str, Any] = json.loads(vm.metadata[METADATA_CONFIG])
    return found


def told_by(error: errors.BudgetError) -> str:
    """The condition."""
    return "Stalled" if error.stalls else "Reconciling"


# --- up ---


def test_apply_becomes_ready_with_everything_in_place(world: World) -> None:
    seconds = world.up()
    status, vm = world.kube.status("iris"), world.vm("iris")
    assert seconds < 30
    assert vm is not None
    assert [world.kube.condition("iris", kind)[0] for kind in CONDITIONS] == ["True"] * 6
    assert status["state"] == "Serving"
    assert status["endpoint"] == f"https://{vm.external_ip}"
    assert status["revision"] == {"target": config(world)["revision"], "active": config(world)["revision"]}
    assert status["loginSecret"] == "iris-login"
    assert status["caCertificate"] == world.cloud.ca(vm)
    assert status["boot"] == {"engine": 1.0, "load": 2.0}
    assert status["logs"] == f"logs {vm.name} proj us-central1-a"
    assert "instance" not in status, "the intent is spent"
    assert vm.labels[LABEL_WANTED] == "running"
    assert set(config(world)) >= {"image", "bundle", "bundleSha256", "sealed", "sealedSha256", "apiEndpoint"}
    assert {config(world)["bundle"], config(world)["sealed"]} <= set(world.cloud.blobs)
    assert (world.cloud.the_job, world.cloud.the_function) != (None, None)


@pytest.mark.parametrize("calls", range(2, 9))
def test_who_may_not_act_any_more_changes_nothing_in_the_cloud(world: World, calls: int) -> None:
    """A process that was halted finds that out in the middle of a pass, before whichever call comes next."""

    def fence() -> None:
        if len(world.journal.calls) >= calls:
            raise Crash

    world.fence = fence
    world.start_operator()
    world.kube.apply("iris", spec())
    with pytest.raises(Crash):
        for _ in range(20):
            world.reconciler.reconcile("default", "iris")
            world.clock.advance(2)
    # These name the version that they replace: a second writer makes them fail.
    guarded = ("add_finalizer", "patch_status", "ensure_secret", "event", "write owner")
    assert [call for call in world.journal.calls[calls:] if not call.startswith(guarded)] == []


@pytest.mark.parametrize("policy", ["Delete", "Retain"])
@pytest.mark.parametrize("calls", range(18))
def test_who_may_not_act_any_more_removes_nothing(world: World, calls: int, policy: str) -> None:
    """Least of all the key, which may be that of a successor by now."""
    world.up(spec=spec(deletionPolicy=policy))
    last = len(world.journal.calls) + calls

    def fence() -> None:
        if len(world.journal.calls) >= last:
            raise Crash

    world.fence = fence
    world.start_operator()
    world.kube.delete("iris")
    with suppress(Crash):
        while not world.is_gone("iris"):
            world.reconciler.reconcile("default", "iris")
            world.clock.advance(2)
    guarded = ("patch_status", "event", "write owner")
    assert [call for call in world.journal.calls[last:] if not call.startswith(guarded)] == []


def test_the_finalizer_is_the_first_change(world: World) -> None:
    world.up()
    assert world.journal.calls[0] == "add_finalizer"


def test_the_intent_is_in_the_status_when_the_insert_is_made(world: World) -> None:
    seen: list[dict[str, Any]] = []

    def look(number: int, call: str) -> None:
        if call.startswith("insert_instance"):
            seen.append(world.kube.status("iris").get("instance", {}))

    world.journal.fault = look
    world.up()
    assert [intent["zone"] for intent in seen] == ["us-central1-a"]
    assert seen[0]["requestId"]
    assert "operation" not in seen[0]


def test_nothing_is_written_while_nothing_changes(world: World) -> None:
    world.up()
    writes, calls = world.kube.status_writes, len(world.journal.calls)
    for _ in range(20):
        after = world.pass_("iris")
        assert after is not None
        world.clock.advance(after)
    assert (world.kube.status_writes, len(world.journal.calls)) == (writes, calls)


def test_a_ready_endpoint_is_asked_once_a_minute_and_its_report_left_alone(world: World) -> None:
    world.up()
    requests, reports = world.cloud.requests, world.cloud.reports_read
    begun = world.clock.now
    while (world.clock.now - begun).total_seconds() < 600:
        world.clock.advance(world.pass_("iris") or 0)
    assert 9 <= world.cloud.requests - requests <= 11
    assert world.cloud.reports_read == reports


def test_the_payload_is_predicted_on_the_transition_only(world: World) -> None:
    world.up(spec=spec(readiness={"payload": {"x": [1]}}))
    assert world.cloud.payloads == [{"x": [1]}]
    world.clock.advance(120)
    world.pass_("iris")
    assert len(world.cloud.payloads) == 1


def test_the_payload_is_predicted_again_after_another_boot(world: World) -> None:
    """Though it may have been down for so short that Ready never said so; and without its login's Secret."""
    login = {"username": b"ada", "password": b"secret-of-ada", "token": b"t" * 40}
    world.kube.secrets["default", "own"] = login
    world.up(spec=spec(readiness={"payload": {"x": [1]}}, auth={"secretName": "own"}))
    del world.kube.secrets["default", "own"]
    world.clock.advance(world.pass_("iris") or 0)
    world.cloud.preempt(world.owner("iris").cloud_name)
    world.drive(lambda: world.kube.condition("iris", "Ready")[0] == "False", "iris")
    world.drive(lambda: world.kube.condition("iris", "Ready")[0] == "True", "iris")
    assert world.cloud.payloads == [{"x": [1]}] * 2


def test_a_failing_prediction_is_not_ready(world: World) -> None:
    world.cloud.predictions_fail = True
    world.kube.apply("iris", spec(readiness={"payload": {"x": 1}}))
    world.drive(lambda: world.kube.condition("iris", "ModelServing")[1] == "ReadinessFailed", "iris")
    assert world.kube.condition("iris", "Ready")[0] == "False"
    world.cloud.predictions_fail = False
    world.drive(lambda: world.is_ready("iris"), "iris")


# --- what cannot work ---


@pytest.mark.parametrize(
    ("bad", "reason", "word"),
    [
        ({"predictor": {"inline": "def broken(:\n"}}, "InvalidSpec", "spec.predictor.inline"),
        ({"predictor": {"inline": CODE + "return 1\n"}}, "InvalidSpec", "spec.predictor.inline"),
        ({"predictor": {"inline": "x = 1\n"}}, "InvalidSpec", "spec.predictor.entrypoint"),
        ({"predictor": {"inline": CODE, "configMap": {"name": "c"}}}, "InvalidSpec", "spec.predictor"),
        (spec(requirements=["not a requirement"]), "InvalidSpec", "spec.requirements[0]"),
        (spec(requirements=["numpy", "-r other.txt"]), "InvalidSpec", "spec.requirements[1]"),
        (spec(placement={"zones": ["nowhere"]}), "InvalidSpec", "spec.placement.zones.0"),
        (spec(surprise=1), "InvalidSpec", "spec.surprise"),
        ({"predictor": {"configMap": {"name": "code"}}}, "ReferenceMissing", "spec.predictor.configMap.name"),
        (spec(auth={"secretName": "auth"}), "ReferenceMissing", "spec.auth.secretName"),
        (
            spec(env=[{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]),
            "ReferenceMissing",
            "spec.env[0].valueFrom.secretKeyRef.name",
        ),
    ],
)
def test_what_cannot_work_stalls_before_anything_is_paid_for(
    world: World, bad: dict[str, Any], reason: str, word: str
) -> None:
    world.kube.apply("iris", bad)
    after = world.pass_("iris")
    assert world.kube.condition("iris", "Stalled")[:2] == ("True", reason)
    assert word in world.kube.condition("iris", "Stalled")[2]
    assert world.kube.status("iris")["state"] == "Stalled"
    assert world.kube.condition("iris", "Ready")[0] == "False"
    assert [call for call in world.journal.calls if call.startswith(CREATES)] == []
    assert after is not None
    assert 5 <= after <= 30
    ((kind, why, told),) = world.kube.events
    assert (kind, why) == ("Warning", reason)
    assert word in told


@pytest.mark.parametrize(
    ("absent", "message"),
    [
        ("e2-medium", "spec.machine.type: us-central1-a, us-central1-b does not offer e2-medium"),
        (
            "us-central1-b/e2-medium",
            "spec.machine.type: us-central1-b does not offer e2-medium; us-central1-a would",
        ),
        ("us-central1-b", "spec.placement.zones: there is no zone us-central1-b"),
    ],
)
def test_what_google_does_not_have_stalls_before_anything_is_paid_for(
    world: World, absent: str, message: str
) -> None:
    world.cloud.absent = {absent}
    world.kube.apply("iris", spec(placement={"zones": ["us-central1-a", "us-central1-b"]}))
    begun = world.clock.now
    while (world.clock.now - begun).total_seconds() < 240:
        world.clock.advance(world.pass_("iris") or 0)
    stalled = world.kube.condition("iris", "Stalled")
    assert stalled[:2] == ("True", "InvalidSpec")
    assert stalled[2].startswith(message)
    assert world.kube.condition("iris", "Ready")[0] == "False"
    assert set(world.journal.calls) == {"add_finalizer", "patch_status"}
    assert world.cloud.offers_read <= 4, "an absence is remembered"
    world.cloud.absent = set()
    world.drive(lambda: world.is_ready("iris"), "iris", seconds=400)


def test_offers_are_looked_up_once_for_all(world: World) -> None:
    world.up()
    world.up("rose")
    for _ in range(20):
        world.clock.advance(world.pass_("iris") or 0)
    assert world.cloud.offers_read == 2, "one for each zone"


def test_nothing_is_made_while_offers_cannot_be_looked_up(world: World) -> None:
    world.cloud.offers_down = errors.PermissionDenied("no compute.machineTypes.get")
    world.kube.apply("iris")
    for _ in range(10):
        world.clock.advance(world.pass_("iris") or 0)
    assert [call for call in world.journal.calls if call.startswith(CREATES)] == []
    assert world.kube.condition("iris", "Stalled")[:2] == ("True", "PermissionDenied")
    world.cloud.offers_down = None
    world.drive(lambda: world.is_ready("iris"), "iris", seconds=400)


def test_a_vm_that_is_as_it_should_be_needs_no_look_up(world: World) -> None:
    world.up()
    world.cloud.offers_down = errors.Unavailable("no catalog")
    world.start_operator()
    world.kube.apply("iris", {"predictor": {"inline": CODE + "# two\n"}})
    world.drive(lambda: world.is_ready("iris"), "iris")


def test_a_new_spec_is_picked_up_at_once(world: World) -> None:
    world.kube.apply("iris", {"predictor": {"inline": "oops("}})
    world.pass_("iris")
    world.kube.apply("iris")
    world.drive(lambda: world.is_ready("iris"), "iris")
    assert world.kube.condition("iris", "Stalled")[0] == "False"


def test_a_missing_reference_is_picked_up_when_it_appears(world: World) -> None:
    world.kube.apply("iris", {"predictor": {"configMap": {"name": "code"}}})
    world.pass_("iris")
    world.kube.config_maps["default", "code"] = {"predictor.py": CODE.encode()}
    world.drive(lambda: world.is_ready("iris"), "iris", seconds=60)


def test_a_lost_secret_stalls_and_the_server_serves_on(world: World) -> None:
    login = {"username": b"u", "password": b"p", "token": b"t"}
    world.kube.secrets["default", "auth"] = dict(login)
    world.up(spec=spec(auth={"secretName": "auth"}))
    del world.kube.secrets["default", "auth"]
    world.drive(lambda: world.kube.condition("iris", "Stalled")[0] == "True", "iris", seconds=60)
    assert world.kube.condition("iris", "Ready")[0] == "True"
    world.cloud.preempt(world.owner("iris").cloud_name)
    world.drive(lambda: world.kube.condition("iris", "Ready")[0] == "False", "iris", seconds=60)
    world.drive(lambda: world.kube.condition("iris", "Ready")[0] == "True", "iris", seconds=120)
    world.kube.secrets["default", "auth"] = dict(login)
    world.drive(lambda: world.kube.condition("iris", "Stalled")[0] == "False", "iris", seconds=60)
    assert world.is_ready("iris")
    assert world.journal.count("insert_instance") == 1


def test_a_rotated_secret_reaches_the_same_vm(world: World) -> None:
    world.kube.secrets["default", "auth"] = {"username": b"u", "password": b"old", "token": b"t"}
    world.up(spec=spec(auth={"secretName": "auth"}))
    old = config(world)["revision"]
    world.kube.secrets["default", "auth"]["password"] = b"new"
    took = world.drive(
        lambda: world.kube.status("iris")["revision"]["active"] not in (None, old), "iris", seconds=120
    )
    assert took < 60
    assert world.kube.condition("iris", "Ready")[0] == "True"
    assert world.journal.count("insert_instance") == 1


def test_no_secret_is_in_status_or_events(world: World) -> None:
    world.up()
    login = world.kube.secrets["default", "iris-login"]
    told = json.dumps(world.kube.status("iris")) + json.dumps(world.kube.events)
    assert not [key for key in ("password", "token") if login[key].decode() in told]
    vm = world.vm("iris")
    assert vm is not None
    assert vm.metadata[METADATA_KEY] not in told


# --- revisions and failures of the model ---


def test_a_new_revision_is_rolled_out_while_the_old_one_serves(world: World) -> None:
    world.up()
    old = config(world)["revision"]
    world.kube.apply("iris", {"predictor": {"inline": CODE + "# two\n"}})
    states: set[str] = set()

    def done() -> bool:
        states.add(world.kube.condition("iris", "Ready")[0])
        return world.is_ready("iris")

    world.drive(done, "iris")
    status = world.kube.status("iris")
    assert states == {"True"}, "the endpoint served all the time"
    assert status["revision"]["active"] == status["revision"]["target"] != old
    assert world.journal.count("insert_instance") == 1
    assert world.journal.count("stop_instance") == 0


def test_old_objects_go_once_the_new_revision_serves(world: World) -> None:
    world.up()
    old = config(world)["bundle"]
    world.kube.apply("iris", {"predictor": {"inline": CODE + "# two\n"}})
    world.drive(lambda: world.is_ready("iris") and old not in world.cloud.blobs, "iris")
    assert config(world)["bundle"] in world.cloud.blobs


def test_a_failing_model_is_told_with_its_log(world: World) -> None:
    world.cloud.guest_failure = {"reason": "LoadFailed", "message": "no such file", "log": "Traceback…" * 600}
    world.kube.apply("iris")
    world.drive(lambda: world.kube.condition("iris", "ModelServing")[1] == "LoadFailed", "iris")
    status = world.kube.status("iris")
    assert status["state"] == "Failed"
    assert status["lastFailure"]["reason"] == "LoadFailed"
    assert len(status["lastFailure"]["log"].encode()) <= 4096
    assert world.kube.condition("iris", "Ready")[0] == "False"
    world.cloud.guest_failure = {}
    world.drive(lambda: world.is_ready("iris"), "iris")
    assert "lastFailure" not in world.kube.status("iris")


def test_a_vm_that_finds_another_content_has_its_objects_looked_at_at_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And then no more often than all others."""
    world.up()
    bundle: str = config(world)["bundle"]
    lists: list[str] = []
    objects = world.cloud.objects

    def listed(prefix: str) -> Contents:
        lists.append(prefix)
        return objects(prefix)

    monkeypatch.setattr(world.cloud, "objects", listed)
    content = world.cloud.blobs[bundle]
    world.pass_("iris")  # has the list for all, if it is due
    world.cloud.silent = True
    world.cloud.guest_failure = {"reason": "ArtifactInvalid", "message": f"{bundle} has another sha256"}
    own = objects_prefix(world.owner("iris").cloud_name)
    world.drive(lambda: world.kube.condition("iris", "ModelServing")[1] == "ArtifactInvalid", "iris")
    world.cloud.blobs[bundle] = b"another"
    assert own not in lists
    assert world.drive(lambda: world.cloud.blobs[bundle] == content, "iris") <= 6
    with pytest.raises(AssertionError, match="not reached"):
        world.drive(lambda: lists.count(own) > 1, "iris")


def test_a_failing_update_leaves_the_old_revision_ready(world: World) -> None:
    world.up()
    old = config(world)["revision"]
    world.cloud.guest_failure = {"reason": "RequirementsFailed", "message": "no such package"}
    world.kube.apply("iris", spec(requirements=["nothing==1"]))
    world.drive(
        lambda: world.kube.condition("iris", "Reconciling")[:2] == ("True", "RequirementsFailed"), "iris"
    )
    status = world.kube.status("iris")
    assert world.kube.condition("iris", "Ready")[0] == "True"
    assert status["revision"]["active"] == old != status["revision"]["target"]
    assert status["lastFailure"]["reason"] == "RequirementsFailed"


def test_a_ready_endpoint_may_fail_for_failure_seconds(world: World) -> None:
    world.up(spec=spec(readiness={"failureSeconds": 40}))
    world.cloud.silent = True
    world.clock.advance(60)
    took = world.drive(lambda: world.kube.condition("iris", "Ready")[0] == "False", "iris")
    assert 40 <= took <= 60
    assert world.kube.condition("iris", "ModelServing")[1] == "NotAnswering"
    world.cloud.silent = False
    world.drive(lambda: world.is_ready("iris"), "iris")


def test_a_short_failure_is_not_told(world: World) -> None:
    world.up()
    writes = world.kube.status_writes
    world.cloud.silent = True
    world.clock.advance(60)
    world.pass_("iris")
    world.clock.advance(20)
    world.pass_("iris")
    world.cloud.silent = False
    world.clock.advance(5)
    world.pass_("iris")
    assert world.kube.status_writes == writes


# --- preemption ---


def test_a_preempted_vm_is_started_and_counted_once(world: World) -> None:
    world.up()
    world.cloud.preempt(world.owner("iris").cloud_name)
    world.drive(lambda: world.kube.status("iris")["state"] == "Restarting", "iris", seconds=60)
    assert world.kube.condition("iris", "Ready")[0] == "False"
    world.drive(lambda: world.is_ready("iris"), "iris")
    status = world.kube.status("iris")
    assert status["preemptions"] == {"count": 1, "last24h": 1}
    (outage,) = status["timeline"]
    assert (outage["cause"], outage["found"], outage["zone"]) == ("Preempted", "Operation", "us-central1-a")
    down = outage["downSeconds"]
    assert 0 < down < 60
    assert status["availability"]["days"] == [{"date": outage["at"][:10], "seconds": down}]
    assert status["availability"]["last7d"] == status["availability"]["last30d"] < 100
    assert [reason for _, reason, _ in world.kube.events].count("Preempted") == 1
    assert world.journal.count("insert_instance") == 1


def test_preemptions_while_the_operator_was_off_are_counted_once_each(world: World) -> None:
    world.up()
    for _ in range(7):
        world.clock.advance(60)
        world.cloud.preempt(world.owner("iris").cloud_name)
        world.cloud.tick()
        world.clock.advance(60)
    for _ in range(3):
        world.start_operator()
        world.drive(lambda: world.is_ready("iris"), "iris")
        world.pass_("iris")
    status = world.kube.status("iris")
    assert status["preemptions"] == {"count": 7, "last24h": 7}
    downs = [each["downSeconds"] for each in status["timeline"]]
    assert len(downs) == 7
    # Google's start of the VM, which the fake function asks for at once, and the boot as the VM told it.
    assert all(abs(down - OPERATION_SECONDS - 3) <= 1 for down in downs)
    assert [day["seconds"] for day in status["availability"]["days"]] == [sum(downs)]
    assert world.journal.count("insert_instance") == 1


def test_preemptions_of_a_predecessor_are_not_counted(world: World) -> None:
    world.up()
    world.cloud.preempt(world.owner("iris").cloud_name)
    world.kube.delete("iris")
    world.drive(lambda: world.is_gone("iris"), "iris")
    world.clock.advance(10)
    world.kube.collect_garbage()
    world.up()
    assert world.kube.status("iris")["preemptions"]["count"] == 0


def test_a_vm_that_is_preempted_while_it_boots_is_started_with_growing_pauses(world: World) -> None:
    """Case O-10: from the sixth boot it becomes Ready by itself; its zone is never taken for sold out."""
    world.up()
    name = world.owner("iris").cloud_name
    starts: list[datetime] = []

    def note(number: int, call: str) -> None:
        if call.startswith("start_instance"):
            starts.append(world.clock.now)

    def reached(number: int) -> bool:
        return len(starts) == number

    world.journal.fault = note
    world.cloud.preempt(name)
    world.drive(lambda: world.kube.condition("iris", "ModelServing")[0] == "False", "iris")
    downs = []
    for number in range(1, 6):
        world.drive(functools.partial(reached, number), "iris")
        world.clock.advance(2)
        world.start_operator()
        world.cloud.preempt(name)
        downs.append(world.clock.now)
    world.drive(lambda: world.is_ready("iris"), "iris")
    pauses = [(start - down).total_seconds() for down, start in zip(downs, starts[1:], strict=True)]
    assert all(
        wanted <= pause <= wanted + 31 for wanted, pause in zip((10, 20, 40, 80, 160), pauses, strict=True)
    )
    assert pauses == sorted(pauses)
    assert world.kube.status("iris")["preemptions"]["count"] == 6
    told = [message for _, reason, message in world.kube.events if reason == "Preempted"]
    assert "before it served" not in told[0]
    assert ["before it served: " + words in text for words, text in zip("1234", told[1:], strict=False)] == [
        True
    ] * 4
    assert told[5].endswith("before it served: 5 or more in a row")
    assert "CapacityExhausted" not in {reason for _, reason, _ in world.kube.events}
    assert world.journal.count("insert_instance") == 1


def test_a_start_that_a_preemption_ended_leaves_the_zone_to_others(world: World) -> None:
    world.up()
    name = world.owner("iris").cloud_name
    world.cloud.preempt(name)
    world.drive(lambda: bool(world.journal.count("start_instance")), "iris")
    world.clock.advance(2)
    world.cloud.preempt(name)
    world.drive(lambda: world.is_ready("iris"), "iris")
    world.up("rose")
    assert world.kube.status("rose")["zone"] == "us-central1-a"


# --- capacity ---


def test_a_stock_out_moves_on_to_the_next_zone(world: World) -> None:
    world.cloud.sold_out = {"us-central1-a"}
    world.up()
    assert world.kube.status("iris")["zone"] == "us-central1-b"
    assert [call.split()[1] for call in world.journal.calls if call.startswith("insert_instance")] == [
        "us-central1-a",
        "us-central1-b",
    ]


def test_all_zones_sold_out_is_told_and_waited_for(world: World) -> None:
    world.cloud.sold_out = {"us-central1-a", "us-central1-b"}
    world.kube.apply("iris")
    world.drive(lambda: "us-central1-a, us-central1-b" in world.kube.condition("iris", "Ready")[2], "iris")
    assert world.kube.condition("iris", "InstanceRunning")[:2] == ("False", "CapacityExhausted")
    assert world.kube.condition("iris", "Reconciling")[:2] == ("True", "CapacityExhausted")
    begun, inserts = world.clock.now, world.journal.count("insert_instance")
    while (world.clock.now - begun).total_seconds() < 1700:
        world.clock.advance(world.pass_("iris") or 0)
    assert world.journal.count("insert_instance") == inserts, "sold out zones are remembered"
    world.cloud.sold_out = set()
    world.drive(lambda: world.is_ready("iris"), "iris")
    assert world.kube.status("iris")["zone"] == "us-central1-a", "the preferred one first"


def test_a_sold_out_zone_is_remembered_for_others(world: World) -> None:
    world.cloud.sold_out = {"us-central1-a"}
    world.up()
    world.up("rose")
    assert world.journal.count("insert_instance us-central1-a") == 1


def test_a_start_that_finds_no_room_anywhere_is_repeated_slowly(world: World) -> None:
    world.up()
    world.cloud.sold_out = {"us-central1-a", "us-central1-b"}
    world.cloud.preempt(world.owner("iris").cloud_name)
    world.drive(lambda: world.kube.condition("iris", "InstanceRunning")[1] == "CapacityExhausted", "iris")
    begun, starts = world.clock.now, world.journal.count("start_instance")
    while (world.clock.now - begun).total_seconds() < 300:
        world.clock.advance(world.pass_("iris") or 0)
    assert 5 <= world.journal.count("start_instance") - starts <= 11
    world.cloud.sold_out = set()
    world.drive(lambda: world.is_ready("iris"), "iris")
    assert world.journal.count("insert_instance") == 2, "the other zone was asked once"
    assert world.kube.status("iris")["zone"] == "us-central1-a"


# --- a VM that somebody suspends ---


def test_a_suspended_vm_comes_back(world: World) -> None:
    world.up()
    world.cloud.suspend(world.owner("iris").cloud_name)
    world.drive(lambda: world.kube.condition("iris", "InstanceRunning")[0] == "False", "iris", seconds=60)
    assert world.kube.condition("iris", "InstanceRunning")[1] == "Resuming"
    world.drive(lambda: world.is_ready("iris"), "iris", seconds=60)
    assert world.journal.count("resume_instance") == 1
    assert world.journal.count("start_instance") == world.journal.count("stop_instance") == 0


def test_a_suspended_vm_in_a_zone_that_is_sold_out_is_tried_again(world: World) -> None:
    world.up()
    vm = world.vm("iris")
    assert vm is not None
    world.cloud.sold_out = {vm.zone}
    world.cloud.suspend(vm.name)
    sold_out = ("False", "CapacityExhausted")
    world.drive(lambda: world.kube.condition("iris", "InstanceRunning")[:2] == sold_out, "iris", seconds=60)
    world.cloud.sold_out = set()
    world.drive(lambda: world.is_ready("iris"), "iris", seconds=120)


def test_a_suspended_vm_gets_another_machine_type(world: World) -> None:
    world.up()
    world.cloud.suspend(world.owner("iris").cloud_name)
    world.kube.apply("iris", spec(machine={"type": "e2-standard-2"}))
    world.drive(lambda: world.is_ready("iris"), "iris", seconds=300)
    vm = world.vm("iris")
    assert vm is not None
    assert vm.machine_type == "e2-standard-2"
    assert world.journal.count("insert_instance") == 1


def test_a_suspended_vm_is_replaced(world: World) -> None:
    world.up()
    world.cloud.suspend(world.owner("iris").cloud_name)
    world.kube.apply("iris", spec(machine={"provisioning": "Standard"}))
    world.drive(lambda: world.is_ready("iris"), "iris", seconds=300)
    assert world.journal.count("delete_instance") == 1


# --- changes of the machine ---


def test_a_machine_type_is_changed_in_place(world: World) -> None:
    world.up()
    world.kube.apply("iris", spec(machine={"type": "e2-standard-2"}))
    world.drive(lambda: world.is_ready("iris"), "iris")
    vm = world.vm("iris")
    assert vm is not None
    assert vm.machine_type == "e2-standard-2"
    assert world.journal.count("insert_instance") == 1


def test_the_keep_alive_does_not_start_a_vm_whose_type_changes(world: World) -> None:
    world.up()
    world.kube.apply("iris", spec(machine={"type": "e2-standard-2"}))

    def ready() -> bool:
        world.cloud.tick()
        return world.is_ready("iris")

    world.drive(ready, "iris")
    vm = world.vm("iris")
    assert vm is not None
    assert (vm.machine_type, vm.labels[LABEL_WANTED]) == ("e2-standard-2", "running")
    assert world.journal.count("stop_instance") == 1
    assert world.journal.count("start_instance") == 1


def test_a_vm_that_was_started_during_the_change_of_its_type_is_stopped_again(world: World) -> None:
    """The tick had read the label before it was changed."""
    world.up()

    def race(number: int, call: str) -> None:
        if call.startswith("set_machine_type"):
            world.journal.fault = lambda number, call: None
            vm = world.vm("iris")
            assert vm is not None
            world.cloud.start_instance(vm.zone, vm.name, "the tick's")

    world.journal.fault = race
    world.kube.apply("iris", spec(machine={"type": "e2-standard-2"}))
    world.drive(lambda: world.is_ready("iris"), "iris")
    vm = world.vm("iris")
    assert vm is not None
    assert (vm.machine_type, vm.labels[LABEL_WANTED]) == ("e2-standard-2", "running")
    assert world.kube.condition("iris", "Stalled")[0] == "False"


@pytest.mark.parametrize("error", [errors.OperationFailed("odd"), errors.PermissionDenied("no")])
def test_a_change_of_type_that_waiting_does_not_help_ends_with_the_old_one_running(
    world: World, error: errors.BudgetError
) -> None:
    world.up()
    world.cloud.refuse["set_machine_type"] = error
    world.kube.apply("iris", spec(machine={"type": "e2-standard-2"}))
    world.drive(lambda: bool(world.journal.count("set_machine_type")), "iris")
    world.drive(lambda: world.kube.condition("iris", "Ready")[0] == "True", "iris", seconds=120)
    vm = world.vm("iris")
    assert vm is not None
    assert (vm.machine_type, vm.labels[LABEL_WANTED]) == ("e2-medium", "running")
    assert world.kube.condition("iris", told_by(error))[:2] == ("True", error.reason)


def test_a_machine_type_that_does_not_exist_stops_nothing(world: World) -> None:
    world.up()
    world.cloud.absent = {"e2-gigantic"}
    world.kube.apply("iris", spec(machine={"type": "e2-gigantic"}))
    for _ in range(3):
        world.drive(lambda: world.kube.condition("iris", "Stalled")[0] == "True", "iris")
        world.start_operator()
        world.clock.advance(world.pass_("iris") or 0)
    assert world.kube.condition("iris", "Ready")[0] == "True"
    assert world.journal.count("stop_instance") == 0
    world.kube.apply("iris")
    world.drive(lambda: world.is_ready("iris"), "iris")


def test_a_refused_machine_type_lets_the_old_one_run_on(world: World) -> None:
    world.up()
    world.cloud.refuse["set_machine_type"] = errors.InvalidSpec("no such machine type")
    world.kube.apply("iris", spec(machine={"type": "e2-gigantic"}))
    world.drive(
        lambda: (
            world.kube.condition("iris", "Stalled")[0] == "True"
            and world.kube.condition("iris", "Ready")[0] == "True"
        ),
        "iris",
    )
    assert "no such machine type" in world.kube.condition("iris", "Stalled")[2]
    stops = world.journal.count("stop_instance")
    for _ in range(10):
        world.clock.advance(world.pass_("iris") or 0)
    assert world.journal.count("stop_instance") == stops == 1


def test_a_refused_machine_type_is_tried_again_when_the_vm_is_off_anyway(world: World) -> None:
    """Nothing is switched off for it; after a day that, too."""
    world.up()
    world.cloud.refuse["set_machine_type"] = errors.PermissionDenied("no right to")
    world.kube.apply("iris", spec(machine={"type": "e2-small"}))
    world.drive(lambda: world.kube.condition("iris", "Stalled")[0] == "True", "iris")
    world.drive(lambda: world.kube.condition("iris", "Ready")[0] == "True", "iris")
    assert "when the VM is off" in world.kube.condition("iris", "Stalled")[2]
    del world.cloud.refuse["set_machine_type"]
    until(world, timedelta(hours=1))
    assert world.journal.count("stop_instance") == 1, "it runs on"
    world.cloud.preempt(world.owner("iris").cloud_name)
    world.drive(lambda: world.kube.condition("iris", "Stalled")[0] == "False", "iris")
    vm = world.vm("iris")
    assert vm is not None
    assert vm.machine_type == "e2-small"
    world.drive(lambda: world.is_ready("iris"), "iris")


def test_a_refused_machine_type_is_tried_again_after_a_day(world: World) -> None:
    world.up()
    world.cloud.refuse["set_machine_type"] = errors.QuotaExceeded("too many")
    world.kube.apply("iris", spec(machine={"type": "e2-small"}))
    until(world, timedelta(hours=20))
    assert world.journal.count("stop_instance") == 1
    until(world, timedelta(hours=20))
    assert world.journal.count("stop_instance") == 2
    del world.cloud.refuse["set_machine_type"]
    until(world, timedelta(hours=25))
    assert world.is_ready("iris")
    assert world.journal.count("stop_instance") == 3


def until(world: World, much: timedelta) -> None:
    """Pass after pass, for so long, of which most are left out; the keep-alive ticks as well."""
    end = world.clock.now + much
    while world.clock.now < end:
        world.cloud.tick()
        world.clock.advance(max(300.0, world.pass_("iris") or 0))


def test_a_disk_that_is_in_the_next_vms_way_goes(world: World) -> None:
    """Somebody has deleted the VM and kept its disk."""
    world.up()
    leave_disk(world, world.owner("iris").labels)
    world.drive(lambda: world.vm("iris") is not None and world.is_ready("iris"), "iris")
    assert world.journal.count("delete_disk") == 1
    assert world.cloud.disks_left == {}


@pytest.mark.parametrize(
    ("labels", "users", "words"),
    [({}, (), "without the labels"), (None, ("another",), "is attached to another")],
)
def test_a_disk_of_somebody_else_stays(
    world: World, labels: dict[str, str] | None, users: tuple[str, ...], words: str
) -> None:
    world.up()
    leave_disk(world, world.owner("iris").labels if labels is None else labels, users)
    world.drive(lambda: world.kube.condition("iris", "InstanceRunning")[1] == "NameConflict", "iris")
    assert words in world.kube.condition("iris", "Stalled")[2]
    assert world.journal.count("delete_disk") == 0
    world.cloud.disks_left.clear()
    world.drive(lambda: world.is_ready("iris"), "iris")


def test_a_disk_that_outlived_its_vm_goes_with_the_deployment(world: World) -> None:
    world.up()
    leave_disk(world, world.owner("iris").labels)
    world.kube.delete("iris")
    world.drive(lambda: world.is_gone("iris"), "iris")
    assert world.cloud.disks_left == {}


def leave_disk(world: World, labels: Mapping[str, str], users: tuple[str, ...] = ()) -> None:
    (key,) = world.cloud.vms
    del world.cloud.vms[key]
    world.cloud.disks_left[key] = Disk(key[1], key[0], "7", "pd-balanced", 20, labels, users)


def grown(world: World) -> None:
    """The disk has 40 GiB, and the VM has booted since, which is the one it was."""
    vm = world.vm("iris")
    assert vm is not None
    assert (vm.disk_gib, vm.labels[LABEL_DISK], vm.labels[LABEL_WANTED]) == (40, "40", "running")
    assert world.journal.count("insert_instance") == 1


@pytest.mark.parametrize("also", [{}, {"type": "e2-standard-2"}])
def test_a_disk_grows_in_place_and_the_vm_boots_once_for_it(world: World, also: dict[str, Any]) -> None:
    world.up()
    world.kube.apply("iris", spec(machine={"diskGiB": 40, **also}))

    def ready() -> bool:
        world.cloud.tick()
        return world.is_ready("iris")

    world.drive(ready, "iris")
    grown(world)
    calls = ("resize_disk", "stop_instance", "start_instance")
    assert [world.journal.count(call) for call in calls] == [1, 1, 1]


@pytest.mark.parametrize("away", ["preempt", "suspend"])
def test_the_disk_of_a_vm_that_does_not_run_grows_too(world: World, away: str) -> None:
    world.up()
    getattr(world.cloud, away)(world.owner("iris").cloud_name)
    world.kube.apply("iris", spec(machine={"diskGiB": 40}))
    world.drive(lambda: world.is_ready("iris"), "iris")
    grown(world)
    assert world.journal.count("stop_instance") == (away == "suspend"), "a preempted one boots anyway"


@pytest.mark.parametrize("error", [errors.PermissionDenied("no"), errors.QuotaExceeded("no")])
def test_a_refused_growth_stops_nothing(world: World, error: errors.BudgetError) -> None:
    world.up()
    world.cloud.refuse["resize_disk"] = error
    world.kube.apply("iris", spec(machine={"diskGiB": 40}))
    told = ("True", error.reason)
    world.drive(lambda: world.kube.condition("iris", told_by(error))[:2] == told, "iris")
    world.cloud.preempt(world.owner("iris").cloud_name)
    world.drive(lambda: world.kube.condition("iris", "Ready")[0] == "True", "iris", seconds=120)
    assert world.journal.count("stop_instance") == 0
    assert world.kube.condition("iris", told_by(error))[:2] == told
    world.cloud.refuse.clear()
    world.drive(lambda: world.kube.condition("iris", told_by(error))[:2] != told, "iris")
    world.drive(lambda: world.is_ready("iris"), "iris")
    grown(world)


def test_a_disk_that_is_larger_than_wanted_serves_on(world: World) -> None:
    """Somebody resized it, or the object was deleted with Retain and came back with a smaller disk."""
    world.up(spec=spec(machine={"diskGiB": 40}))
    world.kube.apply("iris", spec(machine={"diskGiB": 30}))
    world.drive(lambda: world.kube.condition("iris", "Stalled")[:2] == ("True", "InvalidSpec"), "iris")
    assert world.kube.condition("iris", "Ready")[0] == "True"
    assert "set 40" in world.kube.condition("iris", "Stalled")[2]
    revision = world.kube.status("iris")["revision"]["target"]
    world.kube.apply("iris", spec(machine={"diskGiB": 30}, requirements=["numpy"]))
    world.drive(lambda: world.kube.status("iris")["revision"]["active"] != revision, "iris")
    world.kube.apply("iris", spec(machine={"diskGiB": 40}, requirements=["numpy"]))
    world.drive(lambda: world.is_ready("iris"), "iris")
    grown(world)
    assert world.journal.count("stop_instance") == world.journal.count("resize_disk") == 0


def test_what_cannot_be_changed_in_place_is_made_again_behind_the_same_address(world: World) -> None:
    world.up()
    ip = world.kube.status("iris")["ip"]
    world.kube.apply("iris", spec(machine={"provisioning": "Standard"}))
    world.drive(lambda: world.is_ready("iris"), "iris")
    vm = world.vm("iris")
    assert vm is not None
    assert (world.kube.status("iris")["ip"], vm.external_ip) == (ip, ip)
    assert world.journal.count("reserve_address") == 1
    assert world.kube.status("iris")["caCertificate"] == world.cloud.ca(vm), "a new disk has a new authority"


def test_a_vm_outside_the_placement_stays_until_its_zone_is_sold_out(world: World) -> None:
    world.up()
    world.kube.apply("iris", spec(placement={"zones": ["us-central1-f"]}))
    world.drive(lambda: world.is_ready("iris"), "iris")
    assert world.kube.status("iris")["zone"] == "us-central1-a"
    world.cloud.sold_out = {"us-central1-a"}
    world.cloud.preempt(world.owner("iris").cloud_name)
    world.drive(lambda: world.kube.condition("iris", "Ready")[0] == "False", "iris")
    world.drive(lambda: world.is_ready("iris"), "iris")
    assert world.kube.status("iris")["zone"] == "us-central1-f"
    assert world.journal.count("reserve_address") == 1


def test_labels_that_somebody_changed_are_put_back(world: World) -> None:
    world.up()
    key, vm = next(iter(world.cloud.vms.items()))
    world.cloud.vms[key] = replace(vm, labels={**vm.labels, LABEL_WANTED: "stopped"})
    world.drive(lambda: world.cloud.vms[key].labels[LABEL_WANTED] == "running", "iris")


def test_a_second_vm_is_removed_and_the_running_one_kept(world: World) -> None:
    world.up()
    world.journal.check = lambda: None
    _, vm = next(iter(world.cloud.vms.items()))
    extra = replace(vm, zone="us-central1-b", id="999", status=InstanceStatus.TERMINATED)
    world.cloud.vms["us-central1-b", vm.name] = extra
    world.drive(lambda: len(world.cloud.vms) == 1, "iris")
    assert next(iter(world.cloud.vms)) == ("us-central1-a", vm.name)


# --- strangers ---


def test_a_stranger_under_our_name_is_left_alone(world: World) -> None:
    world.up("other")
    name = world.owner("iris").cloud_name
    vm = world.vm("other")
    assert vm is not None
    stranger = replace(vm, name=name, zone="us-central1-b", id="77", labels={}, metadata={})
    world.cloud.vms["us-central1-b", name] = stranger
    calls = len(world.journal.calls)
    world.kube.apply("iris")
    world.drive(lambda: world.kube.condition("iris", "Stalled")[:2] == ("True", "NameConflict"), "iris")
    for _ in range(5):
        world.clock.advance(world.pass_("iris") or 0)
    world.kube.delete("iris")
    world.drive(lambda: world.is_gone("iris"), "iris")
    assert world.cloud.vms["us-central1-b", name] == stranger
    touching = ("insert_instance", "reserve", "start", "stop", "delete_instance", "set_")
    assert [call for call in world.journal.calls[calls:] if call.startswith(touching)] == []


def test_a_strangers_bucket_is_left_alone(world: World) -> None:
    world.cloud.the_bucket = Bucket("bucket", {"team": "a"})
    world.cloud.blobs["theirs"] = b"x"
    world.kube.apply("iris")
    world.drive(lambda: world.kube.condition("iris", "Stalled")[:2] == ("True", "NameConflict"), "iris")
    assert "BUDGET_BUCKET" in world.kube.condition("iris", "Stalled")[2]
    world.kube.delete("iris")
    world.drive(lambda: world.is_gone("iris"), "iris")
    assert world.cloud.the_bucket == Bucket("bucket", {"team": "a"})
    assert set(world.cloud.blobs) == {"theirs"}
    assert world.journal.count("insert_instance") == 0, "no VM whose code lies nowhere"


def test_a_strangers_topic_keeps_only_the_keep_alive_from_its_end(world: World) -> None:
    world.cloud.the_topic = Topic(world.shared.keep_alive, {})
    world.kube.apply("iris")
    world.drive(lambda: world.kube.condition("iris", "ModelServing")[0] == "True", "iris")
    assert world.kube.condition("iris", "KeepAliveArmed")[:2] == ("False", "NameConflict")
    assert world.kube.condition("iris", "Ready")[0] == "False"
    world.kube.delete("iris")
    world.drive(lambda: world.is_gone("iris"), "iris")
    assert world.cloud.the_topic is not None
    world.cloud.the_topic = None
    assert world.cloud.empty


# --- parts of the cloud that fail ---


def test_a_scheduler_outage_does_not_stop_the_vm(world: World) -> None:
    down = errors.Unavailable("Scheduler is down")
    world.cloud.refuse["create_job"] = down
    world.kube.apply("iris")
    world.drive(lambda: world.kube.condition("iris", "ModelServing")[0] == "True", "iris")
    assert world.kube.condition("iris", "KeepAliveArmed") == ("False", "CloudUnavailable", down.sentence)
    assert world.kube.condition("iris", "Ready")[0] == "False"
    del world.cloud.refuse["create_job"]
    world.drive(lambda: world.is_ready("iris"), "iris")


@pytest.mark.parametrize("part", ["topic", "job", "function", "bucket", "firewall"])
def test_a_part_that_cannot_be_seen_changes_nothing_that_works(world: World, part: str) -> None:
    world.up()
    world.cloud.down[part] = errors.Unavailable(f"no {part}")
    calls = len(world.journal.calls)
    begun = world.clock.now
    while (world.clock.now - begun).total_seconds() < 300:
        world.clock.advance(world.pass_("iris") or 0)
    assert world.kube.condition("iris", "Ready")[0] == "True"
    assert world.kube.condition("iris", "Reconciling")[:2] == ("True", "CloudUnavailable")
    assert [call for call in world.journal.calls[calls:] if call != "patch_status"] == []
    world.cloud.down.clear()
    world.drive(lambda: world.is_ready("iris"), "iris", seconds=400)


def test_without_any_picture_nothing_is_made_and_the_endpoint_is_still_asked(world: World) -> None:
    world.up()
    world.cloud.down["all"] = errors.Unavailable("no network")
    world.clock.advance(60)
    requests = world.cloud.requests
    world.pass_("iris")
    assert world.cloud.requests > requests
    assert world.kube.condition("iris", "Ready")[0] == "True"
    world.kube.apply("rose")
    calls = len(world.journal.calls)
    for _ in range(5):
        world.clock.advance(world.pass_("rose") or 0)
    assert [call for call in world.journal.calls[calls:] if call.startswith(CREATES)] == []
    assert world.kube.condition("rose", "Reconciling")[1] == "CloudUnavailable"
    world.cloud.down.clear()
    world.drive(lambda: world.is_ready("rose"), "rose", seconds=400)


def test_an_outage_is_retried_with_growing_pauses_and_a_new_spec_at_once(world: World) -> None:
    world.cloud.refuse["create_bucket"] = errors.Unavailable("down")
    world.kube.apply("iris")
    begun, times = world.clock.now, []
    world.journal.fault = lambda number, call: (
        times.append((world.clock.now - begun).total_seconds()) if call == "create_bucket" else None
    )
    passes = 0
    while (world.clock.now - begun).total_seconds() < 1500:
        world.clock.advance(world.pass_("iris") or 0)
        passes += 1
    assert passes < 150, "an outage is no reason to hurry"
    pauses = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert pauses == sorted(pauses)
    assert pauses[0] <= 5
    assert 256 <= pauses[-1] <= 330
    del world.cloud.refuse["create_bucket"]
    world.kube.apply("iris", {"predictor": {"inline": CODE + "# changed\n"}})
    world.pass_("iris")
    assert world.cloud.the_bucket is not None


STALE = errors.PreconditionFailed("the fingerprint is stale")
QUIET = [("set_metadata", {"predictor": {"inline": CODE + "# two\n"}}), ("set_labels", spec())]


def put_out_of_order(world: World, change: dict[str, Any]) -> tuple[str, str]:
    """A new revision, or a label that somebody changed: what is mended in passing."""
    world.kube.apply("iris", change)
    key, vm = next(iter(world.cloud.vms.items()))
    if change == spec():
        world.cloud.vms[key] = replace(vm, labels={**vm.labels, LABEL_SCHEDULE: "other"})
    return key


@pytest.mark.parametrize(("call", "change"), QUIET)
def test_what_is_mended_in_passing_backs_off_and_says_so(
    world: World, call: str, change: dict[str, Any]
) -> None:
    world.up()
    put_out_of_order(world, change)
    world.cloud.refuse[call] = STALE
    begun, calls = world.clock.now, world.journal.count(call)
    while (world.clock.now - begun).total_seconds() < 600:
        world.clock.advance(world.pass_("iris") or 0)
    assert world.journal.count(call) - calls < 15
    assert world.kube.condition("iris", "Reconciling") == ("True", "PreconditionFailed", STALE.sentence)
    world.cloud.refuse.clear()
    world.drive(lambda: world.is_ready("iris"), "iris")


def test_an_operation_that_keeps_failing_backs_off(world: World) -> None:
    world.up()
    put_out_of_order(world, QUIET[0][1])
    begin = world.cloud._begin

    def failing(scope: str, request_id: str, *args: Any, **more: Any) -> Any:
        return begin(scope, request_id, error="INTERNAL_ERROR")

    world.cloud.set_metadata = lambda zone, name, changes, request_id: world.cloud._mutate(  # type: ignore[method-assign]
        "set_metadata", request_id, lambda: failing(f"zones/{zone}", request_id)
    )
    begun, calls = world.clock.now, world.journal.count("set_metadata")
    while (world.clock.now - begun).total_seconds() < 600:
        world.clock.advance(world.pass_("iris") or 0)
    assert world.journal.count("set_metadata") - calls < 15


@pytest.mark.parametrize(("call", "change"), QUIET)
def test_what_cannot_be_mended_in_passing_does_not_keep_the_vm_down(
    world: World, call: str, change: dict[str, Any]
) -> None:
    world.up()
    put_out_of_order(world, change)
    world.cloud.refuse[call] = errors.PermissionDenied(f"no {call}")
    for _ in range(20):
        world.clock.advance(world.pass_("iris") or 0)
    world.cloud.preempt(world.owner("iris").cloud_name)
    world.drive(lambda: world.kube.condition("iris", "ModelServing")[0] == "False", "iris", seconds=60)
    world.drive(lambda: world.kube.condition("iris", "ModelServing")[0] == "True", "iris", seconds=60)


def test_a_zone_that_does_not_answer_is_not_taken_for_empty(world: World) -> None:
    world.up()
    world.cloud.unknown = {"zones/us-central1-a"}
    inserts = world.journal.count("insert_instance")
    for _ in range(10):
        world.clock.advance(world.pass_("iris") or 0)
    assert world.journal.count("insert_instance") == inserts
    assert world.kube.condition("iris", "InstanceRunning")[0] == "True", "what was known stays"
    assert world.kube.condition("iris", "Ready")[0] == "True", "the endpoint was asked"


def test_a_failed_build_is_told_and_made_again(world: World) -> None:
    world.cloud.failing_builds = 2
    world.kube.apply("iris")
    world.drive(lambda: world.kube.condition("iris", "KeepAliveArmed")[1] == "OperationFailed", "iris")
    assert "the build broke" in world.kube.condition("iris", "KeepAliveArmed")[2]
    world.drive(lambda: world.is_ready("iris"), "iris")
    assert world.journal.count("create_function") == 3


def test_a_new_version_of_the_function_leaves_ready_alone(world: World) -> None:
    world.up()
    function = world.cloud.the_function
    assert function is not None
    world.cloud.the_function = replace(function, source_object="function/old.zip")
    states: set[str] = set()

    def updated() -> bool:
        states.add(world.kube.condition("iris", "Ready")[0])
        found = world.cloud.the_function
        return found is not None and found.source_object == function.source_object and world.is_ready("iris")

    world.clock.advance(10)
    world.drive(updated, "iris")
    assert states == {"True"}
    assert world.journal.count("update_function") == 1


def test_changed_settings_reach_the_function(world: World) -> None:
    world.up()
    world.settings = replace(
        world.settings,
        function_runtime="python313",
        function_service_account="run@p",
        build_service_account="build@p",
        trigger_service_account="trigger@p",
    )
    world.reconciler.common = replace(world.reconciler.common, settings=world.settings)

    def done() -> bool:
        found = world.cloud.the_function
        return (
            found is not None
            and found.runtime == "python313"
            and (found.service_account, found.build_service_account) == ("run@p", "build@p")
            and found.trigger_service_account == "trigger@p"
            and world.is_ready("iris")
        )

    world.drive(done, "iris")
    calls = len(world.journal.calls)
    for _ in range(10):
        world.clock.advance(world.pass_("iris") or 0)
    assert len(world.journal.calls) == calls


def test_a_firewall_rule_that_somebody_changed_is_made_again(world: World) -> None:
    world.up()
    firewall = world.cloud.the_firewall
    assert firewall is not None
    world.cloud.the_firewall = replace(firewall, allowed=("tcp:22",))
    world.drive(lambda: world.cloud.the_firewall == firewall, "iris")
    world.drive(lambda: world.is_ready("iris"), "iris")


def test_another_network_is_told_and_the_vm_kept_alive(world: World) -> None:
    world.up()
    world.settings = replace(world.settings, network="global/networks/other")
    world.start_operator()
    world.drive(lambda: "BUDGET_NETWORK" in world.kube.condition("iris", "Stalled")[2], "iris")
    world.cloud.preempt(world.owner("iris").cloud_name)
    world.drive(lambda: world.kube.condition("iris", "Ready")[0] == "False", "iris")
    world.drive(lambda: world.kube.condition("iris", "Ready")[0] == "True", "iris")
    assert world.journal.count("delete_") == 0


def test_an_unexpected_exception_is_told_as_an_internal_error(world: World) -> None:
    world.journal.fault = lambda number, call: (
        ("before", ZeroDivisionError("secret detail")) if call == "create_topic" else None
    )
    world.kube.apply("iris")
    world.drive(lambda: world.kube.condition("iris", "KeepAliveArmed")[1] == "InternalError", "iris")
    assert "secret detail" not in world.kube.condition("iris", "KeepAliveArmed")[2]
    world.journal.fault = lambda number, call: None
    world.drive(lambda: world.is_ready("iris"), "iris")


def test_a_stale_document_ends_the_pass_before_the_insert(world: World) -> None:
    def edit(number: int, call: str) -> None:
        if call == "patch_status" and not world.cloud.vms and world.cloud.ips:
            world.journal.fault = lambda number, call: None
            world.kube.apply("iris", spec(machine={"type": "e2-standard-2"}))

    world.journal.fault = edit
    world.kube.apply("iris")
    world.drive(lambda: world.is_ready("iris"), "iris")
    vm = world.vm("iris")
    assert vm is not None
    assert vm.machine_type == "e2-standard-2"
    assert world.journal.count("insert_instance") == 1


# --- memory, backups and keys ---


def test_a_restored_backup_adopts_what_is_there(world: World) -> None:
    world.up()
    calls = len(world.journal.calls)
    old = world.kube.objects.pop(("default", "iris"))
    world.kube.apply("iris", old["spec"])
    world.kube.secret_owners.clear()
    world.start_operator()
    world.drive(lambda: world.is_ready("iris"), "iris")
    again = [call for call in world.journal.calls[calls:] if call.startswith((*CREATES, "set_", "start"))]
    assert again == []


def test_a_backup_whose_login_is_collected_serves_on_with_the_same(world: World) -> None:
    """Kubernetes deletes what was restored with the uid of an owner that is no more."""
    world.up()
    (before,) = world.cloud.vms.values()
    login, revision = world.kube.secrets["default", "iris-login"], world.kube.status("iris")["revision"]
    old = world.kube.objects.pop(("default", "iris"))
    world.kube.apply("iris", old["spec"])
    world.start_operator()
    for _ in range(10):
        world.clock.advance(world.pass_("iris") or 0)
    world.kube.collect_garbage()
    world.drive(lambda: world.is_ready("iris"), "iris")
    (after,) = world.cloud.vms.values()
    assert (after.id, after.status) == (before.id, before.status)
    assert world.kube.secrets["default", "iris-login"] == login
    assert world.kube.status("iris")["revision"] == revision
    assert not [call for call in world.journal.calls if call.startswith(("stop_", "start_", "delete_inst"))]


def test_a_login_that_is_deleted_on_purpose_is_a_new_one(world: World) -> None:
    world.up()
    before = world.kube.secrets.pop(("default", "iris-login"))
    world.drive(lambda: ("default", "iris-login") in world.kube.secrets, "iris")
    assert world.kube.secrets["default", "iris-login"]["token"] != before["token"]


@pytest.mark.parametrize("part", ["zone", "bucket"])
def test_a_lost_login_waits_while_the_former_cannot_be_seen(
    world: World, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    world.up()
    login = world.kube.secrets.pop(("default", "iris-login"))
    spec = world.kube.objects.pop(("default", "iris"))["spec"]
    world.kube.apply("iris", spec)
    world.kube.secret_owners.clear()

    def refuse(_: str) -> None:
        raise errors.Unavailable("no objects")

    with monkeypatch.context() as patch:
        if part == "bucket":
            patch.setattr(world.cloud, "read", refuse)
        world.cloud.unknown = {"zones/us-central1-a"} if part == "zone" else set()
        world.cloud.forget()
        for _ in range(3):
            world.clock.advance(world.pass_("iris") or 0)
        assert ("default", "iris-login") not in world.kube.secrets
        assert world.kube.condition("iris", "Reconciling")[1] == "CloudUnavailable"
    world.cloud.unknown = set()
    world.drive(lambda: world.is_ready("iris"), "iris")
    assert world.kube.secrets["default", "iris-login"] == login


def test_a_vm_whose_login_does_not_open_gets_a_new_one(world: World) -> None:
    world.up()
    old = world.kube.secrets.pop(("default", "iris-login"))
    spec = world.kube.objects.pop(("default", "iris"))["spec"]
    for name in world.cloud.blobs:
        world.cloud.blobs[name] = b"not what was sealed"
    world.kube.apply("iris", spec)
    world.kube.secret_owners.clear()
    world.drive(lambda: world.is_ready("iris"), "iris")
    assert world.kube.secrets["default", "iris-login"] != old


def test_a_lost_key_is_adopted_from_the_vm(world: World) -> None:
    world.up()
    vm = world.vm("iris")
    assert vm is not None
    name = f"{world.owner('iris').cloud_name}-key"
    key = world.kube.secrets.pop((SETTINGS.system_namespace, name))
    world.clock.advance(30)
    world.pass_("iris")
    assert world.kube.secrets[SETTINGS.system_namespace, name] == key


def test_a_lost_key_waits_while_the_vm_cannot_be_seen(world: World) -> None:
    world.up()
    name = f"{world.owner('iris').cloud_name}-key"
    key = world.kube.secrets.pop((SETTINGS.system_namespace, name))
    world.cloud.unknown = {"zones/us-central1-a"}
    world.cloud.forget()
    for _ in range(3):
        world.clock.advance(world.pass_("iris") or 0)
    assert (SETTINGS.system_namespace, name) not in world.kube.secrets
    world.cloud.unknown = set()
    world.drive(lambda: (SETTINGS.system_namespace, name) in world.kube.secrets, "iris")
    assert world.kube.secrets[SETTINGS.system_namespace, name] == key


def test_a_vm_deleted_by_hand_is_made_again(world: World) -> None:
    world.up()
    world.cloud.vms.clear()
    world.drive(lambda: world.kube.condition("iris", "Ready")[0] == "False", "iris")
    world.drive(lambda: world.is_ready("iris"), "iris")
    assert world.journal.count("insert_instance") == 2
    assert world.journal.count("reserve_address") == 1


# --- deletion ---


def test_delete_leaves_nothing(world: World) -> None:
    world.up()
    world.kube.delete("iris")
    assert world.pass_("iris") is not None
    assert world.kube.status("iris")["state"] == "Deleting"
    world.drive(lambda: world.is_gone("iris"), "iris")
    assert world.cloud.empty
    assert not [name for _, name in world.kube.secrets if name.endswith("-key")]
    assert world.pass_("iris") is None


def test_what_never_became_anything_is_deleted_at_once(world: World) -> None:
    world.kube.apply("iris", {"predictor": {"inline": "oops("}})
    world.pass_("iris")
    world.kube.delete("iris")
    world.drive(lambda: world.is_gone("iris"), "iris", seconds=10)


def test_neighbours_keep_what_is_shared(world: World) -> None:
    world.up("iris")
    world.up("rose")
    world.kube.delete("iris")
    world.drive(lambda: world.is_gone("iris"), "iris")
    assert None not in (world.cloud.the_job, world.cloud.the_topic, world.cloud.the_function)
    assert None not in (world.cloud.the_bucket, world.cloud.the_firewall)
    assert not [name for name in world.cloud.blobs if world.owner("iris").cloud_name in name]
    assert world.is_ready("rose")
    world.pass_("rose")
    assert world.is_ready("rose")
    world.kube.delete("rose")
    world.drive(lambda: world.is_gone("rose"), "rose")
    assert world.cloud.empty


def test_the_last_of_several_deletions_removes_what_is_shared(world: World) -> None:
    names = ("a", "b", "c")
    for name in names:
        world.up(name)
    for name in names:
        world.kube.delete(name)
    world.drive(lambda: world.is_gone(*names), *names)
    assert world.cloud.empty


def test_what_was_retained_a_moment_ago_is_not_missed_in_an_old_picture(world: World) -> None:
    world.up()
    picture = replace(world.cloud.snapshot(), instances=(), addresses=(), taken_at=world.clock.now)
    world.up("rose", {"predictor": {"inline": CODE}, "deletionPolicy": "Retain"})
    world.kube.delete("rose")
    world.drive(lambda: world.is_gone("rose"), "rose")
    world.cloud.cached = replace(picture, taken_at=world.clock.now)
    world.clock.advance(1)
    world.kube.delete("iris")
    world.drive(lambda: world.is_gone("iris"), "iris")
    assert [vm.name for vm in world.cloud.vms.values()] == [world.owner("rose").cloud_name]
    assert world.cloud.the_job is not None
    assert world.journal.count("delete_job") == 0


@dataclass
class Sharing:
    """Stands in for the reconciler's lock; `entered` happens just before somebody is alone."""

    held: bool = False
    entered: Callable[[], object] = lambda: None

    def alone(self) -> "Sharing":
        return self

    def together(self) -> nullcontext[None]:
        return nullcontext()

    def __enter__(self) -> None:
        self.entered()
        self.held = True

    def __exit__(self, *error: object) -> None:
        self.held = False


def shared_by(world: World) -> Sharing:
    sharing: Any = Sharing()
    world.reconciler.common = replace(world.reconciler.common, sharing=sharing)
    found: Sharing = sharing
    return found


def test_a_deletion_holds_up_nobody_who_stays(world: World) -> None:
    world.up("iris")
    world.up("rose")
    prefix = objects_prefix(world.owner("iris").cloud_name)
    world.cloud.blobs |= {f"{prefix}{number:012}/bundle.zip": b"" for number in range(50)}
    sharing, held, free = shared_by(world), set[str](), set[str]()
    calls = world.journal.calls
    world.journal.check = lambda: (held if sharing.held else free).add(calls[-1].split()[0])
    world.kube.delete("iris")
    world.drive(lambda: world.is_gone("iris"), "iris")
    assert held == {"delete_secret", "remove_finalizer"}
    assert free == {"delete_instance", "release_address", "delete_object", "patch_status"}


def test_a_deletion_takes_what_the_vm_wrote_and_nothing_of_others(world: World) -> None:
    world.up("iris")
    world.up("rose")
    own, other = (f"state/{world.owner(name).cloud_name}/log-tail" for name in ("iris", "rose"))
    world.cloud.blobs |= {own: b"bye", other: b"bye"}
    world.kube.delete("iris")
    world.drive(lambda: world.is_gone("iris"), "iris")
    assert own not in world.cloud.blobs
    assert other in world.cloud.blobs


def test_of_two_that_go_at_once_one_takes_what_is_shared(world: World) -> None:
    """Each takes the other for the one that stays, until it has the lock."""
    world.up("iris")
    world.up("rose")
    world.kube.delete("iris")
    world.kube.delete("rose")
    sharing = shared_by(world)

    def other() -> None:
        sharing.entered = lambda: None
        world.drive(lambda: world.is_gone("rose"), "rose")

    sharing.entered = other
    world.drive(lambda: world.is_gone("iris", "rose"), "iris")
    assert world.cloud.empty


def test_what_is_applied_meanwhile_keeps_what_is_shared(world: World) -> None:
    world.up("iris")
    world.kube.delete("iris")
    sharing = shared_by(world)
    sharing.entered = lambda: world.kube.apply("rose")
    world.drive(lambda: world.is_gone("iris"), "iris")
    assert None not in (world.cloud.the_job, world.cloud.the_topic, world.cloud.the_function)
    assert None not in (world.cloud.the_bucket, world.cloud.the_firewall)


def test_deletion_waits_for_what_cannot_be_seen(world: World) -> None:
    world.up()
    world.kube.delete("iris")
    world.cloud.unknown = {"zones/us-central1-a"}
    for _ in range(20):
        world.clock.advance(world.pass_("iris") or 0)
    assert not world.is_gone("iris")
    assert FINALIZER in world.kube.objects["default", "iris"]["metadata"]["finalizers"]
    assert "us-central1-a" in world.kube.condition("iris", "Ready")[2]
    world.cloud.unknown = set()
    world.drive(lambda: world.is_gone("iris"), "iris")
    assert world.cloud.empty


def test_a_scheduler_outage_does_not_keep_the_vm(world: World) -> None:
    world.up()
    world.cloud.refuse["delete_job"] = errors.Unavailable("Scheduler is down")
    world.kube.delete("iris")
    world.drive(lambda: not world.cloud.vms and not world.cloud.ips, "iris")
    assert not world.is_gone("iris")
    assert "Scheduler is down" in world.kube.condition("iris", "Reconciling")[2]
    world.cloud.refuse.clear()
    world.drive(lambda: world.is_gone("iris"), "iris")
    assert world.cloud.empty


def test_a_bucket_with_things_of_others_stays(world: World) -> None:
    world.up()
    world.cloud.blobs["notes.txt"] = b"mine"
    world.kube.delete("iris")
    world.drive(lambda: world.is_gone("iris"), "iris")
    assert set(world.cloud.blobs) == {"notes.txt"}


def test_an_insert_that_was_never_confirmed_is_waited_for(world: World) -> None:
    """The request may still be on its way when the deletion looks for the VM."""

    def lost(number: int, call: str) -> tuple[Literal["before"], BaseException] | None:
        return ("before", Crash()) if call.startswith("insert_instance") else None

    world.journal.fault = lost
    world.kube.apply("iris")
    world.drive(lambda: bool(world.crashes), "iris")
    world.journal.fault = lambda number, call: None
    assert world.kube.status("iris")["instance"]["zone"] == "us-central1-a"
    world.kube.delete("iris")
    begun = world.clock.now
    world.drive(lambda: world.is_gone("iris"), "iris")
    assert (world.clock.now - begun).total_seconds() >= 30
    assert world.cloud.empty


# --- crashes ---


def life(world: World) -> None:
    """Apply, change, preempt, delete; all must come to the same end whatever happens in between."""
    world.cloud.lag_seconds = 3.0
    world.kube.apply("iris")
    world.drive(lambda: world.is_ready("iris"), "iris")
    assert len(world.cloud.vms) == 1
    assert len(world.cloud.ips) == 1
    world.kube.apply("iris", {"predictor": {"inline": CODE + "# two\n"}, "machine": {"type": "e2-small"}})
    world.drive(lambda: world.is_ready("iris"), "iris")
    world.cloud.preempt(world.owner("iris").cloud_name)
    world.drive(lambda: world.kube.status("iris")["preemptions"]["count"] == 1, "iris")
    world.drive(lambda: world.is_ready("iris"), "iris")
    status = world.kube.status("iris")
    assert len(world.cloud.vms) == len(world.cloud.ips) == 1
    assert status["revision"]["active"] == config(world)["revision"]
    assert status["preemptions"]["count"] == 1
    assert next(iter(world.cloud.vms.values())).machine_type == "e2-small"
    assert next(iter(world.cloud.vms.values())).labels[LABEL_WANTED] == "running"
    assert world.journal.count("insert_instance") <= 2
    world.kube.delete("iris")
    world.drive(lambda: world.is_gone("iris"), "iris")
    assert world.cloud.empty


def calls_of_a_life() -> int:
    world = World()
    life(world)
    return len(world.journal.calls)


CALLS = calls_of_a_life()


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("k", range(CALLS))
def test_the_end_is_the_same_wherever_the_operator_dies(
    world: World, k: int, when: Literal["before", "after"]
) -> None:
    world.journal.fault = lambda number, call: (when, Crash()) if number == k else None
    life(world)
    assert world.crashes == 1


@pytest.mark.parametrize("k", range(CALLS))
def test_the_end_is_the_same_whichever_answer_is_lost(world: World, k: int) -> None:
    lost = errors.Unavailable("no answer")
    world.journal.fault = lambda number, call: ("after", lost) if number == k else None
    life(world)


@pytest.mark.parametrize("step", [2, 3, 5])
def test_the_end_is_the_same_under_many_crashes(world: World, step: int) -> None:
    world.journal.fault = lambda number, call: ("after", Crash()) if number % step == 0 else None
    life(world)


def test_the_boot_scripts_are_read_once(world: World, tmp_path: Any) -> None:
    (tmp_path / "main.py").write_text("def restart(): ...")
    (tmp_path / "requirements.txt").write_text("x")
    (tmp_path / "notes.md").write_text("x")
    parts = load_parts(replace(SETTINGS, function_source=tmp_path))
    assert parts.startup_script.startswith("#!")
    assert set(parts.function_files) == {"main.py", "requirements.txt"}
    assert isinstance(world.reconciler, Reconciler)


# --- certificates ---


def acme(world: World) -> None:
    tls = {"mode": "Acme", "directory": "https://ca.test/dir", "caBundle": BUNDLE}
    world.kube.apply("iris", spec(endpoint={"host": "Model.Test.", "tls": tls}))


def test_an_acme_endpoint_is_ready_once_the_vm_has_its_certificate(world: World) -> None:
    acme(world)
    world.drive(lambda: world.kube.condition("iris", "CertificateValid")[0] == "False", "iris")
    (vm,) = world.cloud.vms.values()
    record = f"model.test does not resolve yet; create an A record model.test -> {vm.external_ip}"
    told = CertificateReport("model.test", "NameNotResolved", record)
    world.cloud.certificates[vm.id] = told
    world.drive(lambda: world.kube.condition("iris", "CertificateValid")[1] == "NameNotResolved", "iris")
    assert record in world.kube.condition("iris", "Ready")[2]
    world.cloud.certificates[vm.id] = replace(told, reason="RateLimited", message="slow down", retry_at=2e9)
    world.drive(lambda: world.kube.condition("iris", "CertificateValid")[1] == "RateLimited", "iris")
    assert "slow down; tried again at 2033-05-18T03:33:20Z" in world.kube.condition("iris", "Ready")[2]
    world.cloud.certificates[vm.id] = CertificateReport("model.test", "Issued", "")
    world.drive(lambda: world.kube.condition("iris", "Ready")[0] == "True", "iris")
    status = world.kube.status("iris")
    assert (status["endpoint"], status["caCertificate"]) == ("https://model.test", BUNDLE)


def test_another_mode_rolls_out_nothing_and_is_verified_before_it_is_ready(world: World) -> None:
    world.up("iris")
    before = world.kube.status("iris")["revision"]
    world.kube.apply("iris", spec(endpoint={"tls": {"mode": "Off"}}))
    world.drive(lambda: world.kube.condition("iris", "CertificateValid")[1] == "TLSOff", "iris")
    world.drive(lambda: world.kube.condition("iris", "Ready")[0] == "True", "iris")
    status = world.kube.status("iris")
    (vm,) = world.cloud.vms.values()
    assert status["endpoint"] == f"http://{vm.external_ip}"
    assert status["revision"] == before
    assert "caCertificate" not in status
