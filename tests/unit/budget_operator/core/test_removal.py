"""What is removed, in which order, and what is left alone."""

from dataclasses import replace
from typing import Any

import pytest

from budget_operator.core import actions
from budget_operator.core.actions import Action, Room
from budget_operator.core.errors import Unavailable
from budget_operator.core.names import Owner
from budget_operator.core.observed import Bucket, Disk, Instance, Inventory
from budget_operator.core.removal import Remains, plan, retained
from budget_operator.core.steps import OBJECTS_AT_ONCE
from tests.unit.budget_operator.core.conftest import NOW, OWNER, SHARED, Scene

NOTHING = Inventory(taken_at=NOW)
ONLY_BUCKET = replace(NOTHING, bucket=Bucket("bucket", SHARED.labels))
OBJECT = f"code/{OWNER.cloud_name}/000000000000/bundle.zip"


def remains(scene: Scene, **changes: Any) -> Remains:
    usual: dict[str, Any] = {
        "owner": OWNER,
        "shared": SHARED,
        "inventory": scene.inventory,
        "instances": (),
        "addresses": (),
        "disks": (),
        "pending": "",
        "objects": (),
        "last": False,
        "problems": {},
    }
    return Remains(**{**usual, **changes})


def done(found: Remains, room: Room) -> list[Action]:
    return [action for where, step in plan(found).steps if where is room for action in step.actions]


def test_nothing_is_left(scene: Scene) -> None:
    found = plan(remains(scene, inventory=NOTHING, last=True))
    assert (found.steps, dict(found.problems)) == ((), {})


def test_neighbours_keep_what_is_shared(scene: Scene) -> None:
    assert plan(remains(scene)).steps == ()


def test_the_vm_goes_before_address_firewall_and_objects(scene: Scene) -> None:
    found = remains(
        scene, instances=(scene.instance,), addresses=(scene.address,), objects=(OBJECT,), last=True
    )
    assert done(found, Room.INSTANCE) == [actions.DeleteInstance(scene.instance.zone, OWNER.cloud_name)]
    assert done(found, Room.ARTIFACT) == []
    assert done(found, Room.KEEP_ALIVE) == [actions.DeleteJob(SHARED.keep_alive)]


def test_then_the_address_then_the_firewall(scene: Scene) -> None:
    found = remains(scene, addresses=(scene.address,), last=True)
    assert done(found, Room.INSTANCE) == [actions.ReleaseAddress("us-central1", OWNER.cloud_name)]
    assert done(remains(scene, last=True), Room.INSTANCE) == [actions.DeleteFirewall(SHARED.firewall)]


def test_a_disk_that_outlived_its_vm_goes_before_the_firewall(scene: Scene) -> None:
    disk = Disk(OWNER.cloud_name, "us-central1-b", "7", "pd-balanced", 20, OWNER.labels, ())
    found = remains(scene, disks=(disk,), last=True)
    assert done(found, Room.INSTANCE) == [actions.DeleteDisk("us-central1-b", OWNER.cloud_name)]


def test_only_our_own_objects_go(scene: Scene) -> None:
    found = remains(scene, objects=(OBJECT, "code/budget-other-0/x/bundle.zip", "function/f.zip"))
    assert done(found, Room.ARTIFACT) == [actions.DeleteObject(OBJECT)]


def test_what_the_vm_wrote_goes_as_well(scene: Scene) -> None:
    ours, other = f"state/{OWNER.cloud_name}/log-tail", "state/budget-other-0/log-tail"
    assert done(remains(scene, objects=(ours, other)), Room.ARTIFACT) == [actions.DeleteObject(ours)]
    found = remains(scene, inventory=ONLY_BUCKET, last=True, objects=(other,))
    assert done(found, Room.ARTIFACT) == [actions.DeleteBucket()]


def test_the_last_one_empties_the_bucket(scene: Scene) -> None:
    found = remains(scene, inventory=ONLY_BUCKET, last=True, objects=("function/f.zip", "owner"))
    assert done(found, Room.ARTIFACT) == [actions.DeleteBucket()]


def test_the_bucket_goes_last(scene: Scene) -> None:
    """It says whose all the rest is."""
    assert done(remains(scene, last=True, objects=("owner",)), Room.ARTIFACT) == []
    for part in ("topic", "function", "job", "firewall"):
        silent = replace(ONLY_BUCKET, unknown=frozenset({part}), problems={part: Unavailable("x")})
        assert done(remains(scene, inventory=silent, last=True), Room.ARTIFACT) == []
    with_address = remains(scene, inventory=ONLY_BUCKET, addresses=(scene.address,), last=True)
    assert done(with_address, Room.ARTIFACT) == []


def test_a_bucket_that_stays_belongs_to_nobody_any_more(scene: Scene) -> None:
    objects = ("notes.txt", "owner", "owner-notes.txt")
    assert done(remains(scene, last=True, objects=objects), Room.ARTIFACT) == []
    found = remains(scene, inventory=ONLY_BUCKET, last=True, objects=objects)
    assert done(found, Room.ARTIFACT) == [actions.DeleteObject("owner")]


@pytest.mark.parametrize("last", [False, True])
def test_one_pass_deletes_a_few_objects_only(scene: Scene, last: bool) -> None:
    objects = tuple(f"code/{OWNER.cloud_name}/{number:012}/bundle.zip" for number in range(100))
    found = plan(remains(scene, objects=objects, last=last))
    ((_, step),) = [pair for pair in found.steps if pair[0] is Room.ARTIFACT]
    assert step.actions == tuple(actions.DeleteObject(name) for name in objects[:OBJECTS_AT_ONCE])
    assert step.message.startswith("100 objects")


def test_a_full_bucket_is_emptied_before_it_goes(scene: Scene) -> None:
    """Deleting it empties it in one call, which must not last."""
    old = tuple(f"function/{number}.zip" for number in range(OBJECTS_AT_ONCE + 1))
    found = done(remains(scene, last=True, objects=old), Room.ARTIFACT)
    assert found == [actions.DeleteObject(name) for name in old[:OBJECTS_AT_ONCE]]


def test_a_bucket_with_things_of_others_stays(scene: Scene) -> None:
    found = remains(scene, last=True, objects=("code/budget-old-0/x", "notes.txt"))
    assert done(found, Room.ARTIFACT) == [actions.DeleteObject("code/budget-old-0/x")]
    assert done(remains(scene, last=True, objects=("notes.txt",)), Room.ARTIFACT) == []


def test_the_keep_alive_goes_from_its_end(scene: Scene) -> None:
    no_job = replace(scene.inventory, job=None)
    assert done(remains(scene, last=True, inventory=no_job), Room.KEEP_ALIVE) == [
        actions.DeleteFunction(SHARED.keep_alive)
    ]
    assert scene.inventory.function is not None
    going = replace(no_job, function=replace(scene.inventory.function, state="DELETING"))
    assert done(remains(scene, last=True, inventory=going), Room.KEEP_ALIVE) == []
    assert [
        room for room, _ in plan(remains(scene, last=True, inventory=going)).steps if room == "keep-alive"
    ]
    no_function = replace(no_job, function=None)
    assert done(remains(scene, last=True, inventory=no_function), Room.KEEP_ALIVE) == [
        actions.DeleteTopic(SHARED.keep_alive)
    ]


def test_strangers_are_left_alone(scene: Scene) -> None:
    inventory = scene.inventory
    assert None not in (inventory.topic, inventory.function, inventory.job, inventory.firewall)
    foreign = replace(
        inventory,
        bucket=Bucket("bucket", {}),
        topic=replace(inventory.topic, labels={}),  # type: ignore[type-var]
        function=replace(inventory.function, labels={}),  # type: ignore[type-var]
        job=replace(inventory.job, description="mine"),  # type: ignore[type-var]
        firewall=replace(inventory.firewall, description="mine"),  # type: ignore[type-var]
    )
    found = plan(remains(scene, last=True, inventory=foreign, objects=(OBJECT,)))
    assert found.steps == ()


@pytest.mark.parametrize("scope", ["zones/asia-east1-a", "regions/us-central1"])
def test_a_place_that_does_not_answer_may_hold_something(scene: Scene, scope: str) -> None:
    found = plan(remains(scene, inventory=replace(NOTHING, unknown=frozenset({scope}))))
    assert scope in found.problems[Room.INSTANCE].message


@pytest.mark.parametrize("word", ["bucket", "job", "function", "topic", "firewall"])
def test_a_part_that_does_not_answer_may_be_there(scene: Scene, word: str) -> None:
    inventory = replace(NOTHING, unknown=frozenset({word}), problems={word: Unavailable("x")})
    assert plan(remains(scene, inventory=inventory, last=True)).problems


def test_a_vm_that_may_still_appear_is_waited_for(scene: Scene) -> None:
    found = plan(remains(scene, inventory=NOTHING, pending="waits"))
    assert [step.message for _, step in found.steps] == ["waits"]


def other(scene: Scene) -> Instance:
    labels = Owner(SHARED.installation, "default", "other").labels
    return replace(scene.instance, name="budget-other-0", labels=labels)


def test_what_was_retained_keeps_what_is_shared(scene: Scene) -> None:
    inventory = replace(scene.inventory, instances=(other(scene),), addresses=())
    found = remains(scene, inventory=inventory, objects=(OBJECT, "code/budget-other-0/x"), last=True)
    assert retained(inventory, OWNER) == ("budget-other-0",)
    assert [action for _, step in plan(found).steps for action in step.actions] == [
        actions.DeleteObject(OBJECT)
    ]


def test_an_address_alone_is_retained_as_well(scene: Scene) -> None:
    address = replace(scene.address, labels=other(scene).labels)
    found = remains(scene, inventory=replace(scene.inventory, instances=(), addresses=(address,)), last=True)
    assert plan(found).steps == ()


def test_behind_silence_there_may_be_a_vm_that_needs_everything(scene: Scene) -> None:
    inventory = replace(scene.inventory, unknown=frozenset({"zones/us-central1-a"}))
    found = plan(remains(scene, inventory=inventory, objects=(OBJECT,), last=True))
    assert found.steps == ()
    assert found.unseen == {Room.INSTANCE}


def test_problems_of_the_look_close_their_room(scene: Scene) -> None:
    found = plan(remains(scene, objects=(OBJECT,), problems={Room.ARTIFACT: Unavailable("no list")}))
    assert found.steps == ()
    assert found.problems[Room.ARTIFACT].message == "no list"
