"""Status, patch and Events from the facts of a pass."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from budget_operator.core import pause
from budget_operator.core.actions import Room
from budget_operator.core.api import Failure, Intent, Preemptions, RevisionStatus, Status
from budget_operator.core.conditions import DEPENDENCIES, Reason, Type, Verdict, merged, ready
from budget_operator.core.desired import SUSPENDED
from budget_operator.core.errors import (
    BudgetError,
    InvalidSpec,
    NameConflict,
    OwnedElsewhere,
    PermissionDenied,
    Unavailable,
)
from budget_operator.core.names import LABEL_SCHEDULE, LABEL_WANTED
from budget_operator.core.observed import InstanceStatus
from budget_operator.core.serving import Serving
from budget_operator.core.status import (
    Event,
    Facts,
    build,
    deleting,
    dump,
    elsewhere,
    events,
    merge_patch,
    read,
    state,
)
from budget_operator.core.steps import Outcome, Step
from tests.unit.budget_operator.core.conftest import Scene

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
SERVES = Serving(Verdict("True", Reason.ANSWERING), Verdict("True", Reason.VERIFIED), "rev", None, ca="PEM")
SILENT = Serving(Verdict("False", Reason.BOOTING, "boots"), Verdict("Unknown", Reason.UNKNOWN), None, None)


def facts(scene: Scene, **changes: Any) -> Facts:
    usual: dict[str, Any] = {
        "generation": 3,
        "now": NOW,
        "target": "rev",
        "login_secret": "iris-login",
        "logs": "logs",
        "ca": "PEM",
        "stall": None,
        "seen": scene.seen(),
        "outcome": Outcome({}),
        "serving": SERVES,
        "preemptions": Preemptions(),
        "timeline": (),
        "availability": None,
        "drill": None,
        "schedule_label": scene.desired.labels[LABEL_SCHEDULE],
    }
    return Facts(**{**usual, **changes})


def verdict(found: Status, kind: Type) -> tuple[str, str]:
    return next((item.status, item.reason) for item in found.conditions if item.type == kind)


def with_conditions(**statuses: str) -> Status:
    verdicts = {Type(kind): Verdict(value, "Before") for kind, value in statuses.items()}  # type: ignore[arg-type]
    return Status(conditions=merged((), verdicts, 1, NOW))


def test_all_is_well(scene: Scene) -> None:
    found = build(Status(), facts(scene))
    assert found.state == "Serving"
    assert all(verdict(found, kind)[0] == "True" for kind in (Type.READY, *DEPENDENCIES))
    assert verdict(found, Type.RECONCILING) == verdict(found, Type.STALLED) == ("False", "UpToDate")
    assert (found.endpoint, found.ip, found.zone) == ("https://10.0.0.1", "10.0.0.1", "us-central1-a")
    assert (found.provisioning, found.observed_generation) == ("Spot", 3)
    assert all(item.observed_generation == 3 for item in found.conditions)


def problem(room: Room, error: BudgetError, *, unseen: bool = False) -> Outcome:
    return Outcome({room: error}, frozenset({room}) if unseen else frozenset())


@pytest.mark.parametrize(
    ("label", "value", "status"),
    [
        (LABEL_WANTED, "stopped", "False"),
        (LABEL_WANTED, "changing", "True"),
        (LABEL_SCHEDULE, "other", "False"),
        ("team", "x", "True"),
    ],
)
@pytest.mark.parametrize("target", ["rev", None])
def test_a_vm_that_the_keep_alive_would_skip_is_not_armed(
    scene: Scene, label: str, value: str, status: str, target: str | None
) -> None:
    seen = scene.seen(instance=scene.with_instance(labels={**scene.instance.labels, label: value}))
    found = build(with_conditions(KeepAliveArmed="True"), facts(scene, seen=seen, target=target))
    assert verdict(found, Type.KEEP_ALIVE_ARMED)[0] == status
    if status == "False":
        assert verdict(found, Type.KEEP_ALIVE_ARMED)[1] == "Arming"
        assert verdict(found, Type.READY)[0] == "False"
        denied = problem(Room.INSTANCE, PermissionDenied("no setLabels"))
        found = build(Status(), facts(scene, seen=seen, outcome=denied))
        assert verdict(found, Type.KEEP_ALIVE_ARMED) == ("False", "PermissionDenied")


def test_a_suspended_deployment_says_what_is_paid_on(scene: Scene) -> None:
    labels = {**scene.instance.labels, LABEL_WANTED: "stopped"}
    off = scene.with_instance(status=InstanceStatus.TERMINATED, labels=labels, external_ip=None)
    found = build(Status(), facts(scene, seen=scene.seen(instance=off), serving=SILENT, pause=SUSPENDED))
    assert found.state == "Suspended"
    for kind in (Type.READY, Type.INSTANCE_RUNNING, Type.KEEP_ALIVE_ARMED, Type.RECONCILING):
        assert verdict(found, kind) == ("False", "Suspended")
    (told,) = [item.message for item in found.conditions if item.type == Type.INSTANCE_RUNNING]
    assert "20 GiB of disk and the address 10.0.0.1" in told
    assert verdict(found, Type.STALLED) == ("False", "UpToDate")
    assert [event.kind for event in events(Status().conditions, found.conditions)].count("Warning") == 0


def test_one_whose_budget_is_spent_says_so(scene: Scene) -> None:
    """The keep-alive goes by the limit on the VM, so the label may stay."""
    off = scene.with_instance(status=InstanceStatus.TERMINATED, external_ip=None, access_config="")
    spent = Verdict("False", Reason.BUDGET_EXCEEDED, "$15.00 for November 2026 is spent: it starts again")
    seen = scene.seen(instance=off, address=None)
    wanted = facts(scene, seen=seen, serving=SILENT, pause=pause.spent(spent), budget=spent)
    found = build(Status(), wanted)
    assert found.state == "OverBudget"
    for kind in (
        Type.READY,
        Type.INSTANCE_RUNNING,
        Type.KEEP_ALIVE_ARMED,
        Type.RECONCILING,
        Type.WITHIN_BUDGET,
    ):
        assert verdict(found, kind) == ("False", "BudgetExceeded")
    (told,) = [item.message for item in found.conditions if item.type == Type.INSTANCE_RUNNING]
    assert told == f"{spent.message}, and the VM is off; paid on: 20 GiB of disk"
    warnings = [each for each in events(Status().conditions, found.conditions) if each.kind == "Warning"]
    assert [(each.reason, spent.message in each.message) for each in warnings] == [("BudgetExceeded", True)]


def test_a_budget_that_is_only_told_of_does_not_end_ready(scene: Scene) -> None:
    spent = Verdict("False", Reason.BUDGET_EXCEEDED, "$15.00 for November 2026 is spent: the VM runs on")
    found = build(Status(), facts(scene, budget=spent))
    assert verdict(found, Type.READY) == ("True", "Serving")
    assert verdict(found, Type.WITHIN_BUDGET) == ("False", "BudgetExceeded")
    without = build(found, facts(scene))
    assert Type.WITHIN_BUDGET not in {each.type for each in without.conditions}


def test_a_suspended_deployment_that_was_never_made_pays_nothing(scene: Scene) -> None:
    seen = scene.seen(instance=None, address=None)
    found = build(Status(), facts(scene, seen=seen, serving=SILENT, pause=SUSPENDED))
    (told,) = [item.message for item in found.conditions if item.type == Type.INSTANCE_RUNNING]
    assert (found.state, told) == ("Suspended", "spec.suspend is set, and the VM is off")


@pytest.mark.parametrize("problem_or_step", [True, False])
def test_a_suspended_deployment_is_not_called_so_before_it_is_off(
    scene: Scene, problem_or_step: bool
) -> None:
    labels = {**scene.instance.labels, LABEL_WANTED: "stopped"}
    off = scene.with_instance(status=InstanceStatus.TERMINATED, labels=labels)
    outcome = problem(Room.INSTANCE, Unavailable("no stop")) if problem_or_step else Outcome({})
    if not problem_or_step:
        outcome.open[Room.INSTANCE] = Step((), Reason.STOPPING, "is stopped")
    found = build(
        Status(),
        facts(scene, seen=scene.seen(instance=off), serving=SILENT, outcome=outcome, pause=SUSPENDED),
    )
    assert found.state != "Suspended"
    assert verdict(found, Type.RECONCILING)[0] == "True"


@pytest.mark.parametrize(
    ("room", "kind"), [(Room.ARTIFACT, "ArtifactUploaded"), (Room.KEEP_ALIVE, "KeepAliveArmed")]
)
def test_a_room_that_fails_says_why(scene: Scene, room: Room, kind: str) -> None:
    found = build(Status(), facts(scene, outcome=problem(room, Unavailable("down"))))
    assert verdict(found, Type(kind)) == ("False", "CloudUnavailable")
    assert verdict(found, Type.READY)[0] == "False"
    assert verdict(found, Type.RECONCILING) == ("True", "CloudUnavailable")


@pytest.mark.parametrize(
    ("room", "kind"), [(Room.ARTIFACT, "ArtifactUploaded"), (Room.KEEP_ALIVE, "KeepAliveArmed")]
)
def test_a_room_that_could_not_be_seen_keeps_what_was_known(scene: Scene, room: Room, kind: str) -> None:
    outcome = problem(room, Unavailable("down"), unseen=True)
    assert (
        verdict(build(with_conditions(**{kind: "True"}), facts(scene, outcome=outcome)), Type(kind))[0]
        == "True"
    )
    assert verdict(build(Status(), facts(scene, outcome=outcome)), Type(kind))[0] == "Unknown"


def test_a_failing_upload_of_an_update_leaves_the_old_artifact(scene: Scene) -> None:
    outcome = problem(Room.ARTIFACT, Unavailable("down"))
    found = build(with_conditions(ArtifactUploaded="True"), facts(scene, outcome=outcome))
    assert verdict(found, Type.ARTIFACT_UPLOADED)[0] == "True"
    assert verdict(found, Type.RECONCILING) == ("True", "CloudUnavailable")
    conflict = problem(Room.ARTIFACT, NameConflict("theirs"))
    found = build(with_conditions(ArtifactUploaded="True"), facts(scene, outcome=conflict))
    assert verdict(found, Type.ARTIFACT_UPLOADED) == ("False", "NameConflict")
    assert verdict(found, Type.STALLED) == ("True", "NameConflict")


def test_an_open_step_is_the_reason(scene: Scene) -> None:
    outcome = Outcome({}, open={Room.KEEP_ALIVE: Step((), Reason.FUNCTION_DEPLOYING, "builds")})
    found = build(Status(), facts(scene, outcome=outcome))
    assert verdict(found, Type.KEEP_ALIVE_ARMED) == ("False", "FunctionDeploying")
    assert verdict(found, Type.RECONCILING) == ("True", "FunctionDeploying")
    found = build(with_conditions(KeepAliveArmed="True"), facts(scene, outcome=outcome))
    assert verdict(found, Type.KEEP_ALIVE_ARMED)[0] == "True", "an update leaves the old version at work"


def test_a_running_vm_is_running_whatever_else_fails(scene: Scene) -> None:
    found = build(Status(), facts(scene, outcome=problem(Room.INSTANCE, Unavailable("down"))))
    assert verdict(found, Type.INSTANCE_RUNNING) == ("True", "Running")


def test_a_stalled_spec_keeps_the_conditions_of_what_serves(scene: Scene) -> None:
    before = with_conditions(ArtifactUploaded="True", KeepAliveArmed="True")
    found = build(before, facts(scene, target=None, stall=InvalidSpec("spec.x: bad")))
    assert found.state == "Stalled"
    assert verdict(found, Type.STALLED) == ("True", "InvalidSpec")
    assert verdict(found, Type.READY)[0] == "True"
    assert verdict(found, Type.RECONCILING)[0] == "False"


def test_a_stalled_spec_without_a_past(scene: Scene) -> None:
    seen = scene.seen(instance=None, address=None)
    found = build(
        Status(), facts(scene, target=None, stall=InvalidSpec("bad"), seen=seen, serving=SILENT, ca="")
    )
    assert verdict(found, Type.READY) == ("False", "InvalidSpec")
    assert verdict(found, Type.INSTANCE_RUNNING) == ("False", "InvalidSpec")
    assert (found.endpoint, found.zone, found.ca_certificate) == (None, None, None)


def test_an_update_in_motion(scene: Scene) -> None:
    found = build(Status(), facts(scene, target="next"))
    assert (found.state, verdict(found, Type.RECONCILING)) == ("Updating", ("True", "Updating"))
    assert verdict(found, Type.READY)[0] == "True"
    assert found.revision == RevisionStatus(target="next", active="rev")


def test_without_a_picture_places_are_kept(scene: Scene) -> None:
    before = build(Status(), facts(scene))
    outcome = Outcome(dict.fromkeys(Room, Unavailable("down")), frozenset(Room))
    found = build(before, facts(scene, seen=None, outcome=outcome))
    assert (found.zone, found.ip, found.provisioning, found.state) == (
        "us-central1-a",
        "10.0.0.1",
        "Spot",
        "Serving",
    )
    assert verdict(found, Type.READY)[0] == "True"


INTENT = Intent(name="n", zone="us-central1-b", request_id="id")


@pytest.mark.parametrize(
    ("word", "before", "change", "instance"),
    [
        ("Pending", {}, {}, None),
        ("Provisioning", {}, {"outcome": Outcome({}, intent=INTENT)}, None),
        ("Provisioning", {}, {"outcome": Outcome({}, intent=INTENT)}, InstanceStatus.PROVISIONING),
        ("Starting", {}, {}, InstanceStatus.RUNNING),
        ("Starting", {}, {}, InstanceStatus.STAGING),
        ("Restarting", {"state": "Serving", "ip": "1"}, {}, InstanceStatus.TERMINATED),
        ("Restarting", {"state": "Restarting", "ip": "1"}, {}, InstanceStatus.RUNNING),
        ("Stalled", {}, {"stall": InvalidSpec("x")}, InstanceStatus.RUNNING),
        ("Stalled", {}, {"outcome": problem(Room.ARTIFACT, NameConflict("x"))}, None),
        (
            "Failed",
            {"state": "Starting"},
            {
                "serving": Serving(
                    Verdict("False", Reason.LOAD_FAILED),
                    Verdict("True", Reason.VERIFIED),
                    None,
                    Failure(reason="LoadFailed", message="x"),
                )
            },
            InstanceStatus.RUNNING,
        ),
    ],
)
def test_words_for_people(
    scene: Scene, word: str, before: dict[str, Any], change: dict[str, Any], instance: InstanceStatus | None
) -> None:
    vm = None if instance is None else scene.with_instance(status=instance)
    found = facts(scene, **{"serving": SILENT, "seen": scene.seen(instance=vm), **change})
    assert state(Status(**before), found) == word


def test_a_patch_says_only_what_changed() -> None:
    before = {"a": 1, "gone": 2, "same": {"x": [1]}, "deep": {"keep": 1, "drop": 2}}
    after = {"a": 2, "same": {"x": [1]}, "deep": {"keep": 1, "new": 3}, "list": [1, 2]}
    assert merge_patch(before, after) == {
        "a": 2,
        "gone": None,
        "deep": {"drop": None, "new": 3},
        "list": [1, 2],
    }
    assert merge_patch(after, after) == {}


def test_a_status_survives_its_own_dump(scene: Scene) -> None:
    found = build(Status(), facts(scene, outcome=Outcome({}, intent=INTENT)))
    assert read({"status": dump(found)}) == found
    assert dump(found)["instance"] == {"name": "n", "zone": "us-central1-b", "requestId": "id"}
    assert merge_patch(dump(found), dump(found)) == {}


@pytest.mark.parametrize("broken", [{"conditions": "x"}, {"preemptions": {"count": "many"}}])
def test_a_broken_status_counts_as_lost(broken: dict[str, Any]) -> None:
    assert read({"status": broken}) == Status()
    assert read({}) == Status()


def test_events_are_transitions() -> None:
    old = merged((), {Type.READY: Verdict("False", Reason.BOOTING)}, 1, NOW)
    new = merged(old, {Type.READY: Verdict("True", Reason.SERVING, "yes")}, 1, NOW)
    assert events(old, new) == (Event("Normal", "Serving", "Ready=True: yes"),)
    assert events(new, new) == ()
    failing = merged(new, {Type.READY: Verdict("False", Reason.LOAD_FAILED, "why")}, 1, NOW)
    assert events(new, failing) == (Event("Warning", "LoadFailed", "Ready=False: why"),)
    assert events((), old) == (), "what is not there yet is no news"


def test_deleting_tells_what_is_left() -> None:
    before = with_conditions(ModelServing="True", Ready="True")
    outcome = Outcome({}, open={Room.INSTANCE: Step((), Reason.DELETING, "the VM goes")})
    found = deleting(before, 4, outcome, NOW)
    assert (found.state, found.observed_generation) == ("Deleting", 4)
    assert verdict(found, Type.READY) == ("False", "Deleting")
    assert next(item.message for item in found.conditions if item.type == Type.READY) == "the VM goes"
    found = deleting(before, 4, problem(Room.INSTANCE, Unavailable("no answer")), NOW)
    assert verdict(found, Type.RECONCILING) == ("True", "CloudUnavailable")
    assert verdict(found, Type.STALLED) == ("False", "UpToDate")


def test_a_deletion_may_wait_for_its_owner() -> None:
    found = deleting(Status(), 4, problem(Room.INSTANCE, OwnedElsewhere("theirs")), NOW, "in vain")
    assert found.state == "Deleting"
    assert verdict(found, Type.STALLED) == ("True", "OwnedElsewhere")
    assert verdict(found, Type.RECONCILING) == ("False", "OwnedElsewhere")
    assert next(each.message for each in found.conditions if each.type == Type.STALLED) == "theirs; in vain"


def test_an_installation_of_another_cluster_stalls_and_keeps_what_is_known() -> None:
    before = with_conditions(ModelServing="True", Ready="True").model_copy(update={"ip": "10.0.0.1"})
    unknown = before.conditions[0].model_copy(update={"type": "OfALaterVersion"})
    before = before.model_copy(update={"conditions": (*before.conditions, unknown)})
    found = elsewhere(before, 4, OwnedElsewhere("theirs"), NOW)
    assert (found.state, found.observed_generation, found.ip) == ("Stalled", 4, "10.0.0.1")
    assert verdict(found, Type.READY) == ("False", "OwnedElsewhere")
    assert verdict(found, Type.STALLED) == ("True", "OwnedElsewhere")
    assert verdict(found, Type.RECONCILING) == ("False", "OwnedElsewhere")
    assert verdict(found, Type.MODEL_SERVING) == ("True", "Before")
    told = events(before.conditions, found.conditions)
    assert {(event.kind, event.reason) for event in told} == {("Warning", "OwnedElsewhere")}


def test_the_same_is_told_once() -> None:
    trouble = Verdict("False", Reason.PERMISSION_DENIED, "why")
    after = merged(
        (), {Type.INSTANCE_RUNNING: trouble, Type.RECONCILING: replace(trouble, status="True")}, 1, NOW
    )
    assert [event.message for event in events((), after)] == ["InstanceRunning=False: why"]
    alone = merged((), {Type.RECONCILING: replace(trouble, status="True")}, 1, NOW)
    assert [event.message for event in events((), alone)] == ["Reconciling=True: why"]
    still = merged(after, {Type.INSTANCE_RUNNING: replace(trouble, message="why now")}, 1, NOW)
    assert events(after, still) == ()


def test_a_cause_of_several_conditions_is_told_by_the_first() -> None:
    trouble = Verdict("False", Reason.INVALID_SPEC, "spec.requirements[0]: why")
    found: dict[Type, Verdict] = dict.fromkeys(DEPENDENCIES, trouble)
    found[Type.CERTIFICATE_VALID] = replace(trouble, reason=Reason.NOT_VERIFIED)
    found[Type.READY] = ready(found)
    found[Type.STALLED] = replace(trouble, status="True")
    assert [event.message for event in events((), merged((), found, 1, NOW))] == [
        "Ready=False: ArtifactUploaded: spec.requirements[0]: why",
        "CertificateValid=False: spec.requirements[0]: why",
    ]
