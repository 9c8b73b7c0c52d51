"""Each check, alone: what it sees and the step that mends it."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from budget_operator.core import actions
from budget_operator.core.actions import Room
from budget_operator.core.api import Intent
from budget_operator.core.artifact import Copy
from budget_operator.core.checks.network import needed_region
from budget_operator.core.conditions import Reason
from budget_operator.core.desired import WANTED_RUNNING, Pause
from budget_operator.core.errors import (
    BudgetError,
    CapacityExhausted,
    InvalidSpec,
    NameConflict,
    PermissionDenied,
    Unavailable,
)
from budget_operator.core.names import LABEL_DISK, LABEL_WANTED, METADATA_CONFIG, METADATA_LIMIT
from budget_operator.core.observed import (
    Address,
    Bucket,
    Content,
    Instance,
    InstanceStatus,
    Listed,
    OperationRef,
    OperationState,
)
from budget_operator.core.plan import plan
from budget_operator.core.steps import OBJECTS_AT_ONCE, Plan, Situation, Step
from tests.unit.budget_operator.core.conftest import OWNER, SHARED, Scene, make_desired

LATER = datetime(2026, 11, 24, 13, tzinfo=UTC)
ZONE_A, ZONE_B = "us-central1-a", "us-central1-b"
OPERATION = OperationRef("op", f"zones/{ZONE_A}")


def steps(situation: Situation, room: Room) -> list[Step]:
    return [step for where, step in plan(situation).steps if where is room]


def only(situation: Situation, room: Room) -> Step:
    found = steps(situation, room)
    assert len(found) == 1, found
    return found[0]


def problem(situation: Situation, room: Room) -> BudgetError:
    return plan(situation).problems[room]


def test_nothing_is_done_where_all_is_in_order(scene: Scene) -> None:
    assert plan(scene.situation()) == Plan((), {}, frozenset())


# --- artifact ---


def test_a_missing_bucket_is_made_with_our_label(scene: Scene) -> None:
    step = only(scene.situation(inventory=scene.with_inventory(bucket=None)), Room.ARTIFACT)
    assert step.actions == (actions.CreateBucket("us-central1", SHARED.labels),)
    assert step.reason == Reason.UPLOADING


def test_a_bucket_of_somebody_else_is_a_conflict(scene: Scene) -> None:
    inventory = scene.with_inventory(bucket=Bucket("bucket", {"team": "a"}))
    assert isinstance(problem(scene.situation(inventory=inventory), Room.ARTIFACT), NameConflict)


def test_only_missing_objects_are_uploaded(scene: Scene) -> None:
    bundle, sealed = scene.desired.artifact.blobs
    step = only(scene.situation(objects={bundle.name: bundle.content}), Room.ARTIFACT)
    assert step.actions == (actions.Upload(sealed),)
    assert step.completes


@pytest.mark.parametrize("change", [{"size": 0}, {"crc32c": "AAAAAA=="}])
def test_an_object_that_was_written_over_is_uploaded_again(scene: Scene, change: dict[str, Any]) -> None:
    """Until it is, nobody is told that it is there."""
    bundle, _ = scene.desired.artifact.blobs
    held = {**scene.contents, bundle.name: replace(bundle.content, **change)}
    step = only(scene.situation(objects=held), Room.ARTIFACT)
    assert (step.actions, step.reason) == ((actions.Upload(bundle),), Reason.UPLOADING)
    stale = scene.with_instance(metadata={})
    assert steps(scene.situation(objects=scene.contents, instance=stale), Room.INSTANCE) != []
    assert steps(scene.situation(objects=held, instance=stale), Room.INSTANCE) == []
    step = only(scene.situation(objects=held, instance=None), Room.INSTANCE)
    assert step.message == "the VM waits until its code is uploaded"


def test_a_checksum_that_is_not_told_is_none_that_differs(scene: Scene) -> None:
    """As in a bucket with a key of the project's own, which would else be written to for ever."""
    held = {name: replace(content, crc32c="") for name, content in scene.contents.items()}
    assert plan(scene.situation(objects=held)) == Plan((), {}, frozenset())


def test_a_copy_that_was_written_over_is_copied_again(scene: Scene) -> None:
    copies = tuple(Copy(f"code/{each}", "models", Listed(each, 1, 5, f"crc-{each}")) for each in "abc")
    desired = replace(scene.desired, artifact=replace(scene.desired.artifact, copies=copies))
    held = {**scene.contents, "code/a": Content(5, "crc-a"), "code/b": Content(5, "another")}
    step = only(scene.situation(desired=desired, objects=held), Room.ARTIFACT)
    assert step.actions == tuple(map(actions.Copy, copies[1:]))


def test_objects_that_could_not_be_listed_are_unseen(scene: Scene) -> None:
    found = plan(scene.situation(objects=None, problems={Room.ARTIFACT: Unavailable("no list")}))
    assert found.unseen == {Room.ARTIFACT}
    assert (
        steps(scene.situation(objects=None, problems={Room.ARTIFACT: Unavailable("x")}), Room.ARTIFACT) == []
    )


def test_old_revisions_go_once_the_new_one_serves(scene: Scene) -> None:
    old = f"code/{OWNER.cloud_name}/000000000000/bundle.zip"
    held = {**scene.contents, old: Content(1, "")}
    step = only(scene.situation(objects=held), Room.ARTIFACT)
    assert step.actions == (actions.DeleteObject(old),)
    assert not step.reason, "the condition stays True"
    assert steps(scene.situation(objects=held, settled=False), Room.ARTIFACT) == []
    many = {f"code/{OWNER.cloud_name}/{number:012}/bundle.zip": Content(1, "") for number in range(100)}
    step = only(scene.situation(objects=held | many), Room.ARTIFACT)
    assert len(step.actions) == OBJECTS_AT_ONCE, "others wait for their turn"


# --- keep-alive ---


def test_topic_job_and_function_are_made_together(scene: Scene) -> None:
    inventory = scene.with_inventory(topic=None, job=None, function=None)
    found = steps(scene.situation(inventory=inventory), Room.KEEP_ALIVE)
    wanted = scene.desired.keep_alive
    assert [action for step in found for action in step.actions] == [
        actions.CreateTopic(SHARED.keep_alive, SHARED.labels),
        actions.CreateJob(wanted.job),
        actions.Upload(wanted.source),
        actions.CreateFunction(wanted.function),
    ]


def test_the_function_waits_for_the_bucket(scene: Scene) -> None:
    inventory = scene.with_inventory(function=None, bucket=None)
    step = only(scene.situation(inventory=inventory), Room.KEEP_ALIVE)
    assert step.actions == ()
    assert step.reason == Reason.ARMING


@pytest.mark.parametrize(
    "change",
    [{"schedule": "0 * * * *"}, {"time_zone": "UTC"}, {"topic": "x"}, {"data": b"{}"}, {"state": "PAUSED"}],
)
def test_a_job_that_differs_is_updated(scene: Scene, change: dict[str, Any]) -> None:
    assert scene.inventory.job is not None
    inventory = scene.with_inventory(job=replace(scene.inventory.job, **change))
    step = only(scene.situation(inventory=inventory), Room.KEEP_ALIVE)
    assert step.actions == (actions.UpdateJob(scene.desired.keep_alive.job),)


@pytest.mark.parametrize(
    "change",
    [
        {"source_object": "function/old.zip"},
        {"environment": {}},
        {"runtime": "python311"},
        {"as_made": False},
    ],
)
def test_a_function_that_differs_is_updated(scene: Scene, change: dict[str, Any]) -> None:
    assert scene.inventory.function is not None
    inventory = scene.with_inventory(function=replace(scene.inventory.function, **change))
    step = only(scene.situation(inventory=inventory), Room.KEEP_ALIVE)
    wanted = scene.desired.keep_alive
    assert step.actions == (actions.Upload(wanted.source), actions.UpdateFunction(wanted.function))


@pytest.mark.parametrize(
    ("account", "kind"),
    [
        ("service_account", actions.UpdateFunction),
        ("build_service_account", actions.UpdateFunction),
        ("trigger_service_account", actions.DeleteFunction),
    ],
)
def test_a_function_gets_the_accounts_of_the_settings(
    scene: Scene, account: str, kind: type[actions.Action]
) -> None:
    wanted = scene.desired.keep_alive
    request = replace(wanted.function, **{account: "new@p"})  # type: ignore[arg-type]
    desired = replace(scene.desired, keep_alive=replace(wanted, function=request))
    assert scene.inventory.function is not None
    found = only(scene.situation(desired=desired), Room.KEEP_ALIVE).actions
    assert type(found[-1]) is kind
    held = replace(scene.inventory.function, **{account: "new@p"})  # type: ignore[arg-type]
    inventory = scene.with_inventory(function=held)
    assert steps(scene.situation(desired=desired, inventory=inventory), Room.KEEP_ALIVE) == []


@pytest.mark.parametrize("state", ["DEPLOYING", "DELETING", "UNKNOWN"])
def test_a_function_in_motion_is_waited_for(scene: Scene, state: str) -> None:
    assert scene.inventory.function is not None
    inventory = scene.with_inventory(function=replace(scene.inventory.function, state=state))
    step = only(scene.situation(inventory=inventory), Room.KEEP_ALIVE)
    assert (step.actions, step.reason) == ((), Reason.FUNCTION_DEPLOYING)
    assert state in step.message


def test_a_failed_function_is_removed_with_pauses(scene: Scene) -> None:
    assert scene.inventory.function is not None
    broken = replace(scene.inventory.function, state="FAILED", message="build broke")
    step = only(scene.situation(inventory=scene.with_inventory(function=broken)), Room.KEEP_ALIVE)
    assert step.actions == (actions.DeleteFunction(broken.name),)
    assert step.failure is not None
    assert "build broke" in step.failure.message


def test_a_function_on_another_topic_is_made_again(scene: Scene) -> None:
    assert scene.inventory.function is not None
    other = replace(scene.inventory.function, topic="other")
    step = only(scene.situation(inventory=scene.with_inventory(function=other)), Room.KEEP_ALIVE)
    assert step.actions == (actions.DeleteFunction(other.name),)


@pytest.mark.parametrize("part", ["topic", "function"])
def test_strangers_with_labels_are_conflicts(scene: Scene, part: str) -> None:
    stranger = replace(getattr(scene.inventory, part), labels={})
    found = problem(scene.situation(inventory=scene.with_inventory(**{part: stranger})), Room.KEEP_ALIVE)
    assert isinstance(found, NameConflict)


@pytest.mark.parametrize(("part", "room"), [("job", Room.KEEP_ALIVE), ("firewall", Room.INSTANCE)])
def test_strangers_with_descriptions_are_conflicts(scene: Scene, part: str, room: Room) -> None:
    stranger = replace(getattr(scene.inventory, part), description="mine")
    found = problem(scene.situation(inventory=scene.with_inventory(**{part: stranger})), room)
    assert isinstance(found, NameConflict)


@pytest.mark.parametrize(
    ("word", "room"),
    [
        ("bucket", Room.ARTIFACT),
        ("topic", Room.KEEP_ALIVE),
        ("job", Room.KEEP_ALIVE),
        ("function", Room.KEEP_ALIVE),
        ("firewall", Room.INSTANCE),
    ],
)
def test_what_did_not_answer_is_unseen_and_closes_its_room_alone(scene: Scene, word: str, room: Room) -> None:
    error = PermissionDenied(f"no {word}")
    inventory = scene.with_inventory(**{word: None}, unknown=frozenset({word}), problems={word: error})
    found = plan(scene.situation(inventory=inventory))
    assert found == Plan((), {room: error}, frozenset({room}))


# --- the VM ---


def test_a_vm_is_made_in_the_first_zone(scene: Scene) -> None:
    step = only(scene.situation(instance=None), Room.INSTANCE)
    (insert,) = step.actions
    assert isinstance(insert, actions.InsertInstance)
    assert insert.intent == Intent(name=OWNER.cloud_name, zone=ZONE_A, request_id="new-id")
    assert insert.request == scene.desired.instance_request(ZONE_A, "10.0.0.1")
    assert insert.request.network_tag == SHARED.network_tag


def test_a_sold_out_zone_is_passed_over(scene: Scene) -> None:
    step = only(scene.situation(instance=None, sold_out={ZONE_A: LATER}), Room.INSTANCE)
    (insert,) = step.actions
    assert isinstance(insert, actions.InsertInstance)
    assert insert.intent.zone == ZONE_B


def test_all_zones_sold_out(scene: Scene) -> None:
    situation = scene.situation(instance=None, sold_out={ZONE_A: LATER, ZONE_B: LATER})
    assert isinstance(problem(situation, Room.INSTANCE), CapacityExhausted)


def test_an_unresolved_intent_is_repeated_word_for_word(scene: Scene) -> None:
    intent = Intent(name=OWNER.cloud_name, zone=ZONE_B, request_id="old-id")
    step = only(scene.situation(instance=None, intent=intent), Room.INSTANCE)
    (insert,) = step.actions
    assert isinstance(insert, actions.InsertInstance)
    assert insert.intent == intent
    assert insert.request.zone == ZONE_B


def test_a_running_insert_is_waited_for(scene: Scene) -> None:
    intent = Intent(name=OWNER.cloud_name, zone=ZONE_A, request_id="id", operation="op")
    situation = scene.situation(instance=None, intent=intent, insert=OperationState(OPERATION, done=False))
    assert only(situation, Room.INSTANCE).actions == ()


def test_no_vm_before_its_code_is_there(scene: Scene) -> None:
    step = only(scene.situation(instance=None, objects={}), Room.INSTANCE)
    assert step.actions == ()


@pytest.mark.parametrize("scope", [f"zones/{ZONE_A}", f"zones/{ZONE_B}", "regions/us-central1"])
def test_no_vm_while_a_zone_does_not_answer(scene: Scene, scope: str) -> None:
    inventory = scene.with_inventory(unknown=frozenset({scope}))
    found = plan(scene.situation(instance=None, inventory=inventory))
    assert Room.INSTANCE in found.unseen
    assert [step for room, step in found.steps if room is Room.INSTANCE] == []


def test_a_far_zone_that_does_not_answer_holds_nothing_up(scene: Scene) -> None:
    inventory = scene.with_inventory(unknown=frozenset({"zones/asia-east1-a"}))
    assert only(scene.situation(instance=None, inventory=inventory), Room.INSTANCE).actions


def test_no_vm_after_a_failed_look_up(scene: Scene) -> None:
    found = plan(scene.situation(instance=None, problems={Room.INSTANCE: Unavailable("x")}))
    assert Room.INSTANCE in found.unseen


def test_a_stranger_under_the_name_is_a_conflict_before_anything_is_paid_for(scene: Scene) -> None:
    inventory = scene.with_inventory(firewall=None)
    situation = scene.situation(instance=None, address=None, strangers=("instance x",), inventory=inventory)
    assert isinstance(problem(situation, Room.INSTANCE), NameConflict)
    assert steps(situation, Room.INSTANCE) == []


def test_firewall_and_address_are_made_together(scene: Scene) -> None:
    situation = scene.situation(instance=None, address=None, inventory=scene.with_inventory(firewall=None))
    made = [action for step in steps(situation, Room.INSTANCE) for action in step.actions]
    assert made == [
        actions.InsertFirewall(SHARED.firewall, "global/networks/default", SHARED.network_tag, SHARED.mark),
        actions.ReserveAddress("us-central1", OWNER.cloud_name, OWNER.labels),
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"target_tags": ("other",)},
        {"target_tags": (SHARED.network_tag, "other")},
        {"allowed": ("tcp:443",)},
        {"allowed": ("tcp:443", "tcp:80", "udp")},
        {"source_ranges": ("10.0.0.0/8",)},
        {"direction": "EGRESS"},
        {"priority": 65534},
        {"disabled": True},
        {"further": ("source_tags",)},
    ],
)
def test_a_firewall_rule_that_was_changed_is_made_again(scene: Scene, change: dict[str, Any]) -> None:
    assert scene.inventory.firewall is not None
    changed = replace(scene.inventory.firewall, **change)
    step = only(scene.situation(inventory=scene.with_inventory(firewall=changed)), Room.INSTANCE)
    assert step.actions == (actions.DeleteFirewall(SHARED.firewall),)


@pytest.mark.parametrize("stalled", [False, True])
def test_a_vm_gets_its_network_tag_back(scene: Scene, stalled: bool) -> None:
    situation = scene.situation(instance=scene.with_instance(tags=("office",)), stalled=stalled)
    step = only(situation, Room.INSTANCE)
    assert step.actions == (actions.AddTag(ZONE_A, OWNER.cloud_name, SHARED.network_tag),)
    beside = scene.with_instance(tags=("office", SHARED.network_tag))
    assert steps(scene.situation(instance=beside, stalled=stalled), Room.INSTANCE) == []


@pytest.mark.parametrize(
    ("setting", "same"),
    [
        ("global/networks/default", True),
        ("projects/proj/global/networks/default", True),
        ("https://www.googleapis.com/compute/v1/projects/proj/global/networks/default", True),
        ("global/networks/not-default", False),
        ("global/networks/ault", False),
        ("projects/host/global/networks/default", False),
    ],
)
def test_another_network_is_refused_by_name_and_nothing_is_torn_down(
    scene: Scene, setting: str, same: bool
) -> None:
    situation = scene.situation(desired=replace(scene.desired, network=setting))
    assert steps(situation, Room.INSTANCE) == []
    problems = plan(situation).problems
    assert ("BUDGET_NETWORK" in str(problems.get(Room.INSTANCE, ""))) is not same


@pytest.mark.parametrize("change", [{"status": "RESERVING"}, {"address": ""}])
def test_an_address_on_its_way_is_waited_for(scene: Scene, change: dict[str, Any]) -> None:
    address = replace(scene.address, **change)
    assert only(scene.situation(instance=None, address=address), Room.INSTANCE).actions == ()


def test_a_stale_address_is_released(scene: Scene) -> None:
    stale = replace(scene.address, region="us-east1")
    step = only(scene.situation(stale_addresses=(stale,)), Room.INSTANCE)
    assert step.actions == (actions.ReleaseAddress("us-east1", stale.name),)


def test_an_address_where_there_was_no_room_goes_before_there_is_another(scene: Scene) -> None:
    left = replace(scene.address, region="us-east1")
    first, second = steps(
        scene.situation(instance=None, address=None, stale_addresses=(left,)), Room.INSTANCE
    )
    assert first.actions == (actions.ReleaseAddress("us-east1", left.name),)
    assert second.actions == (actions.ReserveAddress("us-central1", OWNER.cloud_name, OWNER.labels),)
    intent = Intent(name=OWNER.cloud_name, zone=ZONE_A, request_id="id")
    kept = scene.situation(instance=None, intent=intent, stale_addresses=(left,))
    assert [type(each) for each in only(kept, Room.INSTANCE).actions] == [actions.InsertInstance]


def test_a_second_vm_goes_first(scene: Scene) -> None:
    extra = scene.with_instance(zone=ZONE_B)
    step = only(scene.situation(surplus=(extra,)), Room.INSTANCE)
    assert step.actions == (actions.DeleteInstance(ZONE_B, extra.name),)


def test_what_cannot_be_changed_is_replaced(scene: Scene) -> None:
    instance = scene.with_instance(provisioning_model="STANDARD")
    step = only(scene.situation(instance=instance), Room.INSTANCE)
    assert step.actions == (actions.DeleteInstance(ZONE_A, OWNER.cloud_name),)
    assert step.reason == Reason.RECREATING


def sized(scene: Scene, disk_gib: int, booted_with: str | None, **changes: Any) -> Instance:
    """The VM, whose disk of 20 GiB is wanted, with another one."""
    labels = {key: value for key, value in scene.instance.labels.items() if key != LABEL_DISK}
    booted = {} if booted_with is None else {LABEL_DISK: booted_with}
    return scene.with_instance(disk_gib=disk_gib, **{**changes, "labels": {**labels, **booted}})


@pytest.mark.parametrize(
    ("status", "then"),
    [
        (InstanceStatus.RUNNING, []),
        (InstanceStatus.TERMINATED, [actions.StartInstance]),
        (InstanceStatus.STOPPING, None),
        (InstanceStatus.SUSPENDED, None),
    ],
)
def test_a_disk_grows_whether_the_vm_runs_or_not(
    scene: Scene, status: InstanceStatus, then: list[type[actions.Action]] | None
) -> None:
    instance = sized(scene, 10, "10", status=status)
    planned = steps(scene.situation(instance=instance), Room.INSTANCE)
    found = [action for step in planned for action in step.actions]
    grow = actions.ResizeDisk(ZONE_A, OWNER.cloud_name, OWNER.cloud_name, 20)
    if then is None:
        assert grow not in found
    else:
        assert found[0] == grow
        assert [type(each) for each in found[1:]] == then


@pytest.mark.parametrize(
    ("wanted", "status", "kind"),
    [
        ("running", InstanceStatus.RUNNING, actions.SetLabels),
        ("changing", InstanceStatus.RUNNING, actions.StopInstance),
        ("changing", InstanceStatus.STOPPING, None),
    ],
)
def test_a_vm_boots_for_its_file_system_to_grow(
    scene: Scene, wanted: str, status: InstanceStatus, kind: type[actions.Action] | None
) -> None:
    instance = sized(scene, 20, "10", status=status)
    instance = replace(instance, labels={**instance.labels, LABEL_WANTED: wanted})
    step = only(scene.situation(instance=instance), Room.INSTANCE)
    assert [type(action) for action in step.actions] == ([] if kind is None else [kind])
    assert step.reason == Reason.GROWING_DISK


def test_a_vm_that_is_off_finds_the_larger_disk_when_it_starts(scene: Scene) -> None:
    instance = sized(scene, 20, "10", status=InstanceStatus.TERMINATED)
    instance = replace(instance, labels={**instance.labels, LABEL_WANTED: "changing"})
    labels, start = steps(scene.situation(instance=instance), Room.INSTANCE)
    told = {LABEL_WANTED: "running", LABEL_DISK: "20"}
    assert labels.actions == (actions.SetLabels(ZONE_A, OWNER.cloud_name, told),)
    assert [type(action) for action in start.actions] == [actions.StartInstance]


@pytest.mark.parametrize("booted_with", [None, "", "many", "99"])
def test_a_vm_that_does_not_tell_its_file_system_is_not_stopped(
    scene: Scene, booted_with: str | None
) -> None:
    """As those that an older operator made."""
    step = only(scene.situation(instance=sized(scene, 20, booted_with)), Room.INSTANCE)
    assert step.actions == (actions.SetLabels(ZONE_A, OWNER.cloud_name, {LABEL_DISK: "20"}),)


def test_a_disk_of_unknown_size_is_left_alone(scene: Scene) -> None:
    assert steps(scene.situation(instance=scene.with_instance(disk_gib=0)), Room.INSTANCE) == []


def test_a_disk_that_is_larger_than_wanted_is_kept_and_told(scene: Scene) -> None:
    metadata = {**scene.instance.metadata, METADATA_CONFIG: "{}"}
    found = plan(scene.situation(instance=sized(scene, 30, "30", metadata=metadata)))
    error = found.problems[Room.INSTANCE]
    assert isinstance(error, InvalidSpec)
    assert error.message.startswith("spec.machine.diskGiB: 20 is less than the 30 GiB")
    assert [type(action) for _, step in found.steps for action in step.actions] == [actions.SetMetadata]


def test_a_vm_outside_the_placement_stays_unless_it_cannot_start(scene: Scene) -> None:
    outside = "us-east1-b"
    running = scene.with_instance(zone=outside)
    sold_out = {outside: LATER}
    assert steps(scene.situation(instance=running, sold_out=sold_out), Room.INSTANCE) == []
    stopped = scene.with_instance(zone=outside, status=InstanceStatus.TERMINATED)
    step = only(scene.situation(instance=stopped, sold_out=sold_out), Room.INSTANCE)
    assert step.actions == (actions.DeleteInstance(outside, OWNER.cloud_name),)
    nowhere = {outside: LATER, ZONE_A: LATER, ZONE_B: LATER}
    step = only(scene.situation(instance=stopped, sold_out=nowhere), Room.INSTANCE)
    assert isinstance(step.actions[0], actions.StartInstance)


def test_metadata_changes_are_sent_alone_and_quietly(scene: Scene) -> None:
    metadata = {**scene.instance.metadata, METADATA_CONFIG: "{}", "ssh-keys": "somebody's"}
    step = only(scene.situation(instance=scene.with_instance(metadata=metadata)), Room.INSTANCE)
    changes = {METADATA_CONFIG: scene.desired.metadata[METADATA_CONFIG]}
    assert step.actions == (actions.SetMetadata(ZONE_A, OWNER.cloud_name, changes),)
    assert not step.reason


def test_the_vm_is_told_only_after_the_upload(scene: Scene) -> None:
    instance = scene.with_instance(metadata={**scene.instance.metadata, METADATA_CONFIG: "{}"})
    assert steps(scene.situation(instance=instance, objects={}), Room.INSTANCE) == []


def test_labels_that_differ_are_set(scene: Scene) -> None:
    instance = scene.with_instance(labels={**scene.instance.labels, LABEL_WANTED: "stopped", "team": "a"})
    step = only(scene.situation(instance=instance), Room.INSTANCE)
    assert step.actions == (actions.SetLabels(ZONE_A, OWNER.cloud_name, {LABEL_WANTED: "running"}),)


def test_a_stopped_vm_gets_its_metadata_before_it_starts(scene: Scene) -> None:
    metadata = {**scene.instance.metadata, METADATA_CONFIG: "{}"}
    instance = scene.with_instance(metadata=metadata, status=InstanceStatus.TERMINATED)
    found = [type(step.actions[0]) for step in steps(scene.situation(instance=instance), Room.INSTANCE)]
    assert found == [actions.SetMetadata, actions.StartInstance]


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (InstanceStatus.RUNNING, actions.StopInstance),
        (InstanceStatus.TERMINATED, actions.SetMachineType),
        (InstanceStatus.STOPPING, None),
    ],
)
def test_a_machine_type_is_changed_while_the_vm_is_off(
    scene: Scene, status: InstanceStatus, kind: type[actions.Action] | None
) -> None:
    labels = {**scene.instance.labels, LABEL_WANTED: "changing"}
    instance = scene.with_instance(status=status, machine_type="e2-small", labels=labels)
    step = only(scene.situation(instance=instance), Room.INSTANCE)
    assert step.reason == Reason.CHANGING_MACHINE_TYPE
    assert [type(action) for action in step.actions] == ([] if kind is None else [kind])


def test_the_keep_alive_is_told_before_a_vm_is_stopped_for_a_change(scene: Scene) -> None:
    instance = scene.with_instance(machine_type="e2-small")
    step = only(scene.situation(instance=instance), Room.INSTANCE)
    assert step.actions == (actions.SetLabels(ZONE_A, OWNER.cloud_name, {LABEL_WANTED: "changing"}),)
    assert step.reason == Reason.CHANGING_MACHINE_TYPE


@pytest.mark.parametrize("machine_type", ["e2-medium", "e2-small"])
def test_after_the_change_the_keep_alive_is_told_again(scene: Scene, machine_type: str) -> None:
    """Whether it was made or refused."""
    labels = {**scene.instance.labels, LABEL_WANTED: "changing"}
    status = InstanceStatus.TERMINATED
    instance = scene.with_instance(status=status, machine_type=machine_type, labels=labels)
    refused = None if machine_type == scene.desired.machine_type else scene.desired.machine_type
    found = steps(scene.situation(instance=instance, refused_machine_type=refused), Room.INSTANCE)
    assert [action for step in found for action in step.actions] == [
        actions.SetLabels(ZONE_A, OWNER.cloud_name, {LABEL_WANTED: "running"}),
        actions.StartInstance(ZONE_A, OWNER.cloud_name, machine_type, "SPOT"),
    ]


def test_a_change_that_a_broken_spec_interrupts_ends_with_the_vm_running(scene: Scene) -> None:
    labels = {**scene.instance.labels, LABEL_WANTED: "changing"}
    instance = scene.with_instance(status=InstanceStatus.TERMINATED, machine_type="e2-small", labels=labels)
    found = plan(scene.situation(stalled=True, instance=instance)).steps
    assert [type(action) for _, step in found for action in step.actions] == [
        actions.SetLabels,
        actions.StartInstance,
    ]


def test_a_refused_machine_type_is_not_tried_again(scene: Scene) -> None:
    instance = scene.with_instance(status=InstanceStatus.TERMINATED, machine_type="e2-small")
    situation = scene.situation(instance=instance, refused_machine_type=scene.desired.machine_type)
    assert isinstance(only(situation, Room.INSTANCE).actions[0], actions.StartInstance)


@pytest.mark.parametrize("status", [InstanceStatus.TERMINATED, InstanceStatus.STOPPED])
@pytest.mark.parametrize("stalled", [True, False])
def test_a_stopped_vm_is_started(scene: Scene, status: InstanceStatus, stalled: bool) -> None:
    situation = scene.situation(instance=scene.with_instance(status=status), stalled=stalled)
    step = only(situation, Room.INSTANCE)
    assert step.actions == (actions.StartInstance(ZONE_A, OWNER.cloud_name, "e2-medium", "SPOT"),)
    assert step.reason == Reason.STARTING


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (InstanceStatus.PROVISIONING, Reason.STARTING),
        (InstanceStatus.STAGING, Reason.STARTING),
        (InstanceStatus.STOPPING, Reason.STOPPING),
        (InstanceStatus.SUSPENDING, Reason.STOPPING),
        (InstanceStatus.REPAIRING, Reason.INSTANCE_NOT_RUNNING),
    ],
)
def test_a_vm_in_motion_is_waited_for(scene: Scene, status: InstanceStatus, reason: Reason) -> None:
    step = only(scene.situation(instance=scene.with_instance(status=status)), Room.INSTANCE)
    assert (step.actions, step.reason) == ((), reason)


@pytest.mark.parametrize("stalled", [True, False])
@pytest.mark.parametrize("machine_type", ["e2-medium", "e2-small"])
def test_a_suspended_vm_resumes_before_anything_else(scene: Scene, stalled: bool, machine_type: str) -> None:
    """It can neither be started nor stopped, for a change of its type for instance."""
    instance = scene.with_instance(status=InstanceStatus.SUSPENDED, machine_type=machine_type)
    step = only(scene.situation(instance=instance, stalled=stalled), Room.INSTANCE)
    assert step.actions == (actions.ResumeInstance(ZONE_A, OWNER.cloud_name, machine_type, "SPOT"),)
    assert step.reason == Reason.RESUMING


# --- spec.suspend ---


ASLEEP = make_desired(suspend=True)


def asleep(scene: Scene, *, address: Address | None = None, **changes: Any) -> Situation:
    """Its address has been given back."""
    scene.desired = ASLEEP
    usual = {"labels": ASLEEP.labels, "metadata": ASLEEP.metadata, "access_config": "", "external_ip": None}
    return scene.situation(instance=scene.with_instance(**{**usual, **changes}), address=address)


def test_a_vm_is_marked_before_it_is_stopped_for_good(scene: Scene) -> None:
    marking = asleep(scene, labels={**ASLEEP.labels, LABEL_WANTED: "running"})
    mark, wait = steps(marking, Room.INSTANCE)
    assert mark.actions == (actions.SetLabels(ZONE_A, OWNER.cloud_name, {LABEL_WANTED: "stopped"}),)
    assert (wait.actions, wait.reason) == ((), Reason.STOPPING)
    stop = only(asleep(scene), Room.INSTANCE)
    assert stop.actions == (actions.StopInstance(ZONE_A, OWNER.cloud_name),)


@pytest.mark.parametrize("status", [InstanceStatus.STAGING, InstanceStatus.STOPPING])
def test_a_vm_in_motion_is_waited_for_before_it_is_stopped(scene: Scene, status: InstanceStatus) -> None:
    step = only(asleep(scene, status=status), Room.INSTANCE)
    assert (step.actions, step.reason) == ((), Reason.STOPPING)


@pytest.mark.parametrize("change", [{}, {"machine_type": "e2-small"}, {"provisioning_model": "STANDARD"}])
def test_a_vm_that_is_off_stays_off_whatever_else_is_wanted(scene: Scene, change: dict[str, Any]) -> None:
    assert steps(asleep(scene, status=InstanceStatus.TERMINATED, **change), Room.INSTANCE) == []


def test_a_vm_that_is_off_on_purpose_gives_its_address_back(scene: Scene) -> None:
    step = only(asleep(scene, status=InstanceStatus.TERMINATED, access_config="External NAT"), Room.INSTANCE)
    assert step.actions == (actions.DetachAddress(ZONE_A, OWNER.cloud_name, "External NAT"),)
    step = only(asleep(scene, status=InstanceStatus.TERMINATED, address=scene.address), Room.INSTANCE)
    assert step.actions == (actions.ReleaseAddress("us-central1", OWNER.cloud_name),)
    assert step.reason == Reason.SUSPENDED


def test_one_that_is_to_be_off_is_left_alone_while_its_zone_is_silent(scene: Scene) -> None:
    """It runs there, with its address, and nobody sees it."""
    scene.desired = ASLEEP
    inventory = scene.with_inventory(instances=(), unknown=frozenset({f"zones/{ZONE_A}"}))
    found = plan(scene.situation(instance=None, inventory=inventory))
    assert [step for room, step in found.steps if room is Room.INSTANCE] == []
    assert Room.INSTANCE in found.unseen


def test_an_address_that_a_name_points_to_is_kept(scene: Scene) -> None:
    scene.desired = make_desired(suspend=True, endpoint={"host": "model.acme.org", "tls": {"mode": "Acme"}})
    labels = {**scene.instance.labels, LABEL_WANTED: "stopped"}
    off = scene.with_instance(
        status=InstanceStatus.TERMINATED, labels=labels, metadata=dict(scene.desired.metadata)
    )
    assert steps(scene.situation(instance=off), Room.INSTANCE) == []


def test_a_vm_is_stopped_once_the_limit_of_its_budget_stands_on_it(scene: Scene) -> None:
    """Whoever looks at it next, host or function, must know why it is off."""
    spent = Pause(Reason.BUDGET_EXCEEDED, "OverBudget", "it is spent", WANTED_RUNNING)
    scene.desired = scene.desired.limited("the limit", spent)
    told, wait = steps(scene.situation(), Room.INSTANCE)
    assert told.actions == (actions.SetMetadata(ZONE_A, OWNER.cloud_name, {METADATA_LIMIT: "the limit"}),)
    assert (wait.actions, wait.reason) == ((), Reason.STOPPING)
    limited = scene.with_instance(metadata={**scene.instance.metadata, METADATA_LIMIT: "the limit"})
    step = only(scene.situation(instance=limited), Room.INSTANCE)
    assert step.actions == (actions.StopInstance(ZONE_A, OWNER.cloud_name),)


def test_of_what_is_suspended_nothing_is_made(scene: Scene) -> None:
    scene.desired = ASLEEP
    assert plan(scene.situation(instance=None, address=None)) == Plan((), {}, frozenset())


# --- a spec that cannot work ---


def test_a_stalled_deployment_makes_and_changes_nothing(scene: Scene) -> None:
    empty = scene.with_inventory(bucket=None, topic=None, job=None, function=None, firewall=None)
    assert plan(scene.situation(stalled=True, instance=None, address=None, inventory=empty)).steps == ()
    odd = scene.with_instance(machine_type="e2-small", metadata={}, disk_gib=99)
    assert plan(scene.situation(stalled=True, instance=odd)).steps == ()


def test_a_stalled_deployment_leaves_a_vm_off_that_is_not_wanted(scene: Scene) -> None:
    labels = {**scene.instance.labels, LABEL_WANTED: "stopped"}
    for status in (InstanceStatus.TERMINATED, InstanceStatus.SUSPENDED):
        instance = scene.with_instance(status=status, labels=labels)
        found = plan(scene.situation(stalled=True, instance=instance)).steps
        assert [action for _, step in found for action in step.actions] == []


def test_a_stalled_deployment_does_not_start_what_its_budget_stopped(scene: Scene) -> None:
    off = scene.with_instance(status=InstanceStatus.TERMINATED)
    for over, begun in ((True, []), (False, [actions.StartInstance])):
        found = plan(scene.situation(stalled=True, instance=off, over_limit=over)).steps
        assert [type(action) for _, step in found for action in step.actions] == begun


def test_the_address_is_beside_the_vm(scene: Scene) -> None:
    elsewhere = scene.with_instance(zone="us-east1-b")
    intent = Intent(name="n", zone="us-west1-a", request_id="i")
    zones = scene.desired.zones
    assert needed_region(elsewhere, intent, zones) == "us-east1"
    assert needed_region(None, intent, zones) == "us-west1"
    assert needed_region(None, intent.model_copy(update={"operation": "op"}), zones) == "us-central1"


def test_desired_from_the_spec() -> None:
    wanted = make_desired(
        machine={"type": "n2-standard-4", "provisioning": "Standard", "diskGiB": 50},
        placement={"zones": ["europe-west1-b"]},
    )
    assert (wanted.machine_type, wanted.provisioning_model, wanted.disk_gib) == (
        "n2-standard-4",
        "STANDARD",
        50,
    )
    assert (wanted.zones, wanted.region, wanted.bucket_region) == (
        ("europe-west1-b",),
        "europe-west1",
        "us-central1",
    )
    assert "\n" not in wanted.metadata[METADATA_CONFIG]
    assert " " not in wanted.metadata[METADATA_CONFIG]
    assert wanted.metadata["enable-guest-attributes"] == "TRUE"
    assert wanted.metadata["google-logging-enabled"] == "true"
    assert wanted.keep_alive.function.topic == wanted.keep_alive.job.topic == SHARED.keep_alive
