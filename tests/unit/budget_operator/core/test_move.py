"""Each step of a move to another zone, alone: on which sight of the VMs it is taken."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from budget_operator.core import actions
from budget_operator.core.actions import Action, Room
from budget_operator.core.api import Intent
from budget_operator.core.conditions import Reason
from budget_operator.core.errors import CapacityExhausted, Unavailable
from budget_operator.core.names import LABEL_MOVE, LABEL_WANTED
from budget_operator.core.observed import Instance, InstanceStatus, OperationRef, OperationState
from budget_operator.core.plan import plan
from budget_operator.core.steps import Situation, Step
from tests.unit.budget_operator.core.conftest import OWNER, Scene, make_desired

LATER = datetime(2026, 11, 24, 13, tzinfo=UTC)
A, B, C = (f"us-central1-{letter}" for letter in "abc")
NAME, ACCESS = OWNER.cloud_name, "External NAT"
OFF = InstanceStatus.TERMINATED
PENDING = Intent(name=NAME, zone=B, request_id="old-id")


@pytest.fixture
def scene() -> Scene:
    """Three zones, in order of preference."""
    return Scene(make_desired(placement={"zones": [A, B, C]}))


def steps(situation: Situation) -> list[Step]:
    return [step for room, step in plan(situation).steps if room is Room.INSTANCE]


def only(situation: Situation) -> Step:
    (found,) = steps(situation)
    return found


def done(situation: Situation) -> tuple[Action, ...]:
    return only(situation).actions


def off(scene: Scene, to: str = "", **changes: Any) -> Instance:
    """The VM is off; with `to` it is being moved there."""
    labels = {**scene.instance.labels, **({LABEL_MOVE: to} if to else {})}
    return scene.with_instance(**{"status": OFF, "labels": labels, **changes})


def cut_off(scene: Scene, to: str = "", **changes: Any) -> Instance:
    return off(scene, to, **{"access_config": "", "external_ip": None, **changes})


def refused(scene: Scene, **changes: Any) -> Situation:
    """Its own zone did not start it."""
    usual = {"instance": off(scene), "start_refused": True, "sold_out": {A: LATER}}
    return scene.situation(**{**usual, **changes})


def moving(scene: Scene, instance: Instance, *, full: tuple[str, ...] = (A,), **changes: Any) -> Situation:
    return scene.situation(instance=instance, sold_out=dict.fromkeys(full, LATER), **changes)


# --- the beginning ---


def test_a_refused_start_announces_the_next_zone(scene: Scene) -> None:
    step = only(refused(scene))
    assert step.actions == (actions.AnnounceMove(A, NAME, B),)
    assert step.reason == Reason.MOVING
    assert (A in step.message, B in step.message) == (True, True)
    assert step.despite is CapacityExhausted, "the pause after the refusal is not waited for"


@pytest.mark.parametrize(
    "changes",
    [
        {"start_refused": False},  # others were refused there; this one has not tried yet
        {"sold_out": {A: LATER, B: LATER, C: LATER}},
        {"sold_out": {A: LATER}, "barred": frozenset({B, C})},
        {"objects": {}},  # the new VM would wait for its code
    ],
)
def test_else_it_is_started_where_it_is(scene: Scene, changes: dict[str, Any]) -> None:
    assert [type(action) for action in done(refused(scene, **changes))] == [actions.StartInstance]


def test_the_preferred_zone_comes_first_also_from_elsewhere(scene: Scene) -> None:
    instance = off(scene, zone=C)
    assert done(refused(scene, instance=instance, sold_out={C: LATER})) == (actions.AnnounceMove(C, NAME, A),)


def test_a_zone_that_does_not_answer_is_not_moved_to(scene: Scene) -> None:
    inventory = scene.with_inventory(unknown=frozenset({f"zones/{B}"}))
    assert done(refused(scene, inventory=inventory)) == (actions.AnnounceMove(A, NAME, C),)


def test_another_region_is_not_moved_to(scene: Scene) -> None:
    far = replace(scene.desired, zones=("us-east1-b", "us-east1-c"))
    found = refused(scene, desired=far, zones=far.zones, sold_out={})
    assert [type(action) for action in done(found)] == [actions.StartInstance]


@pytest.mark.parametrize("status", [InstanceStatus.RUNNING, InstanceStatus.STAGING, InstanceStatus.STOPPING])
def test_only_what_is_off_moves(scene: Scene, status: InstanceStatus) -> None:
    found = plan(refused(scene, instance=off(scene, status=status))).steps
    assert [action for _, step in found for action in step.actions] == []


def test_another_machine_type_is_tried_in_its_own_zone_first(scene: Scene) -> None:
    instance = off(scene, machine_type="e2-small")
    assert [type(action) for action in done(refused(scene, instance=instance))] == [actions.SetMachineType]


def test_without_a_spec_that_works_nothing_moves(scene: Scene) -> None:
    assert [type(action) for action in done(refused(scene, stalled=True))] == [actions.StartInstance]


# --- on ---


def test_then_the_address_is_taken(scene: Scene) -> None:
    assert done(moving(scene, off(scene, B))) == (actions.DetachAddress(A, NAME, ACCESS, B),)


def test_then_the_new_one_is_made_with_it(scene: Scene) -> None:
    (insert,) = done(moving(scene, cut_off(scene, B)))
    assert isinstance(insert, actions.InsertInstance)
    assert insert.intent == Intent(name=NAME, zone=B, request_id="new-id")
    assert (insert.request.zone, insert.request.address) == (B, "10.0.0.1")
    assert LABEL_MOVE not in insert.request.labels


def test_an_insert_whose_end_is_not_known_is_repeated_word_for_word(scene: Scene) -> None:
    for to in (B, C):
        situation = moving(scene, cut_off(scene, to), full=(A, C), intent=PENDING)
        if to != B:
            assert done(situation) == (actions.AnnounceMove(A, NAME, B),)
            continue
        (insert,) = done(situation)
        assert isinstance(insert, actions.InsertInstance)
        assert insert.intent == PENDING


def test_an_insert_under_way_is_waited_for(scene: Scene) -> None:
    running = OperationState(OperationRef("op", f"zones/{B}"), done=False)
    step = only(moving(scene, cut_off(scene, B), intent=PENDING, insert=running))
    assert (step.actions, step.reason) == ((), Reason.MOVING)


@pytest.mark.parametrize("full", [(A, B), (A, B, C)])
def test_a_next_zone_that_is_sold_out_too(scene: Scene, full: tuple[str, ...]) -> None:
    then = done(moving(scene, cut_off(scene, B), full=full))
    if C in full:
        assert then == (actions.AttachAddress(A, NAME, "10.0.0.1"),)
    else:
        assert then == (actions.AnnounceMove(A, NAME, C),)


def test_the_new_one_waits_for_its_code(scene: Scene) -> None:
    step = only(moving(scene, cut_off(scene, B), objects={}))
    assert (step.actions, step.reason) == ((), Reason.MOVING)


def test_an_address_that_somebody_released_is_reserved_again(scene: Scene) -> None:
    situation = moving(scene, cut_off(scene, B), address=None)
    assert done(situation) == (actions.ReserveAddress("us-central1", NAME, OWNER.labels),)


@pytest.mark.parametrize(("unknown", "address"), [(f"zones/{B}", True), ("regions/us-central1", False)])
@pytest.mark.parametrize("full", [(A,), (A, B, C)])
def test_where_the_new_one_may_be_unseen_it_goes_neither_on_nor_back(
    scene: Scene, unknown: str, address: bool, full: tuple[str, ...]
) -> None:
    inventory = scene.with_inventory(unknown=frozenset({unknown}))
    more = {} if address else {"address": None}
    found = plan(moving(scene, cut_off(scene, B), full=full, inventory=inventory, **more))
    assert found.steps == ()
    assert Room.INSTANCE in found.unseen


def test_after_a_look_that_failed_it_goes_neither_on_nor_back(scene: Scene) -> None:
    found = plan(moving(scene, cut_off(scene, B), problems={Room.INSTANCE: Unavailable("x")}))
    assert found.steps == ()
    assert Room.INSTANCE in found.unseen


# --- the end ---


def moved(scene: Scene, now: InstanceStatus, **old: Any) -> Situation:
    new = scene.with_instance(zone=B, id="2", status=now)
    return scene.situation(instance=new, surplus=(cut_off(scene, B, **old),))


@pytest.mark.parametrize("status", [InstanceStatus.RUNNING, OFF, InstanceStatus.SUSPENDED])
@pytest.mark.parametrize("old", [OFF, InstanceStatus.RUNNING])
def test_once_the_new_one_has_come_up_the_old_one_goes(
    scene: Scene, status: InstanceStatus, old: InstanceStatus
) -> None:
    assert done(moved(scene, status, status=old)) == (actions.DeleteInstance(A, NAME),)


@pytest.mark.parametrize(
    "status", [InstanceStatus.PROVISIONING, InstanceStatus.STAGING, InstanceStatus.STOPPING]
)
def test_before_that_it_stays(scene: Scene, status: InstanceStatus) -> None:
    """One that is on its way down may be one that could not be made."""
    assert done(moved(scene, status)) == ()


# --- back ---


def test_first_the_address_goes_back_and_then_the_label_comes_off(scene: Scene) -> None:
    nowhere = (A, B, C)
    assert done(moving(scene, cut_off(scene, B), full=nowhere)) == (
        actions.AttachAddress(A, NAME, "10.0.0.1"),
    )
    assert done(moving(scene, off(scene, B), full=nowhere)) == (actions.EndMove(A, NAME),)
    assert [type(each) for each in done(moving(scene, off(scene), full=nowhere))] == [actions.StartInstance]


@pytest.mark.parametrize("intent", [None, PENDING])
def test_one_that_somebody_started_stays(scene: Scene, intent: Intent | None) -> None:
    """If an insert is on its way all the same it finds the address taken, or was first to it."""
    up = {"status": InstanceStatus.RUNNING}
    back = (actions.AttachAddress(A, NAME, "10.0.0.1"),)
    assert done(moving(scene, cut_off(scene, B, **up), intent=intent)) == back
    assert done(moving(scene, off(scene, B, **up), intent=intent)) == (actions.EndMove(A, NAME),)


@pytest.mark.parametrize("status", [InstanceStatus.STAGING, InstanceStatus.STOPPING])
def test_one_on_its_way_up_or_down_is_waited_for(scene: Scene, status: InstanceStatus) -> None:
    assert done(moving(scene, cut_off(scene, B, status=status))) == ()


def test_a_spec_that_cannot_work_any_more_ends_the_move(scene: Scene) -> None:
    for instance, action in (
        (cut_off(scene, B), actions.AttachAddress(A, NAME, "10.0.0.1")),
        (off(scene, B), actions.EndMove(A, NAME)),
        (off(scene), actions.StartInstance(A, NAME, "e2-medium", "SPOT")),
    ):
        assert done(moving(scene, instance, stalled=True)) == (action,)


def test_a_zone_that_was_taken_off_the_list_is_not_moved_to(scene: Scene) -> None:
    fewer = replace(scene.desired, zones=(A, C))
    assert done(moving(scene, cut_off(scene, B), desired=fewer)) == (actions.AnnounceMove(A, NAME, C),)


@pytest.mark.parametrize("status", [OFF, InstanceStatus.RUNNING])
def test_an_address_that_somebody_took_away_goes_back(scene: Scene, status: InstanceStatus) -> None:
    assert done(scene.situation(instance=cut_off(scene, status=status))) == (
        actions.AttachAddress(A, NAME, "10.0.0.1"),
    )


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"external_ip": "203.0.113.7"}, "RESERVED"),
        ({"external_ip": "203.0.113.7", "status": InstanceStatus.RUNNING}, "RESERVED"),
        ({"external_ip": None}, "RESERVED"),  # it would get one at its start
    ],
)
@pytest.mark.parametrize("stalled", [False, True])
def test_an_address_that_somebody_gave_it_instead_of_its_own_goes(
    scene: Scene, change: dict[str, Any], status: str, *, stalled: bool
) -> None:
    own = replace(scene.address, status=status)
    situation = scene.situation(instance=off(scene, **change), address=own, stalled=stalled)
    assert done(situation) == (actions.DetachAddress(A, NAME, "External NAT"),)


@pytest.mark.parametrize(
    ("change", "own"),
    [
        ({}, {}),
        ({"external_ip": None}, {}),  # that of one that is off is not always told
        ({"external_ip": "203.0.113.7"}, {"address": "", "status": "RESERVING"}),
        ({"external_ip": "203.0.113.7", "status": InstanceStatus.STAGING}, {"status": "RESERVED"}),
    ],
)
def test_its_own_address_stays(scene: Scene, change: dict[str, Any], own: dict[str, Any]) -> None:
    situation = scene.situation(instance=off(scene, **change), address=replace(scene.address, **own))
    assert not any(isinstance(action, actions.DetachAddress) for action in done(situation))


def test_labels_that_are_put_back_leave_the_move_alone(scene: Scene) -> None:
    instance = off(scene, B, status=InstanceStatus.STAGING)
    instance = replace(instance, labels={**instance.labels, LABEL_WANTED: "no"})
    (labels, _) = steps(moving(scene, instance))
    assert labels.actions == (actions.SetLabels(A, NAME, {LABEL_WANTED: "running"}),)
