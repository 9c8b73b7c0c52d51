"""Code in a bucket of the user's own: copied when it changes; what is wrong there ends nothing."""

import json
from datetime import timedelta
from typing import Any

import pytest

from budget_operator.core import errors
from budget_operator.core.names import METADATA_CONFIG
from budget_operator.core.observed import Listed
from tests.unit.budget_operator.fakes import World

SPEC: dict[str, Any] = {"predictor": {"gcs": "gs://models/iris/"}, "requirements": ["-r needs.txt"]}
CODE = Listed("iris/predictor.py", 1, 100, "code", "code")
MODEL = Listed("iris/model.pkl", 2, 300 * 2**20, "model")


@pytest.fixture
def world() -> World:
    made = World()
    made.cloud.sources["models"] = [CODE, MODEL]
    return made


def copies(world: World) -> list[str]:
    return [call for call in world.journal.calls if call.startswith("copy ")]


def target(world: World) -> str:
    vm = world.vm("iris")
    assert vm is not None
    return str(json.loads(vm.metadata[METADATA_CONFIG])["revision"])


def drive_for(world: World, seconds: float) -> None:
    begun = world.clock.now
    while world.clock.now - begun < timedelta(seconds=seconds):
        passed = world.reconciler.reconcile("default", "iris", quiet=True)
        world.clock.advance(passed.after or 0)


def test_it_is_copied_and_named_to_the_vm(world: World) -> None:
    world.up("iris", SPEC)
    assert len(copies(world)) == 2
    vm = world.vm("iris")
    assert vm is not None
    promised = world.cloud.promised(json.loads(vm.metadata[METADATA_CONFIG])["bundle"])
    assert promised == {call.removeprefix("copy ") for call in copies(world)}


def test_only_what_changed_is_copied_and_the_rest_removed(world: World) -> None:
    world.up("iris", SPEC)
    before, held = target(world), set(world.cloud.blobs)
    world.cloud.sources["models"] = [CODE, Listed("iris/model.pkl", 3, 301 * 2**20, "new")]
    drive_for(world, 180)
    assert target(world) != before
    assert world.is_ready("iris")
    assert len(copies(world)) == 3
    files = {name for name in world.cloud.blobs if "/files/" in name}
    assert len(files) == 2
    assert len(held & files) == 1


def test_put_there_again_it_is_no_other_revision(world: World) -> None:
    world.up("iris", SPEC)
    before, calls = target(world), len(world.journal.calls)
    world.cloud.sources["models"] = [Listed(CODE.name, 9, CODE.size, CODE.crc32c, CODE.md5), MODEL]
    drive_for(world, 180)
    assert target(world) == before
    assert copies(world) == [call for call in world.journal.calls[:calls] if call.startswith("copy ")]


def test_a_copy_that_somebody_writes_over_is_copied_again(world: World) -> None:
    world.up("iris", SPEC)
    drive_for(world, 300)
    made = copies(world)
    written = made[0].removeprefix("copy ")
    before = world.cloud.blobs[written]
    world.cloud.blobs[written] = b"another"
    drive_for(world, 65)
    assert world.cloud.blobs[written] == before
    assert copies(world) == [*made, made[0]]


def test_at_rest_a_minute_has_one_look(world: World) -> None:
    world.up("iris", SPEC)
    drive_for(world, 300)
    looks = world.cloud.looks
    drive_for(world, 3600)
    assert 50 <= world.cloud.looks - looks <= 60


def test_an_edited_spec_has_a_look_at_once(world: World) -> None:
    world.up("iris", SPEC)
    drive_for(world, 300)
    world.pass_("iris")
    looks, before = world.cloud.looks, target(world)
    world.pass_("iris")
    assert world.cloud.looks == looks, "nobody waits for one"
    world.cloud.sources["models"] = [CODE, Listed("iris/model.pkl", 3, 301 * 2**20, "new")]
    world.kube.apply("iris", {**SPEC, "server": {"threads": 2}})
    world.pass_("iris")
    assert world.cloud.looks == looks + 1
    assert len(copies(world)) == 3
    world.drive(lambda: target(world) != before and world.is_ready("iris"), "iris")


def test_who_does_not_use_it_looks_at_nothing(world: World) -> None:
    world.up("iris")
    drive_for(world, 3600)
    assert world.cloud.looks == 0


def test_many_files_are_copied_some_at_a_time(world: World) -> None:
    more = [Listed(f"iris/{number}.bin", number, number, "x", str(number)) for number in range(50)]
    world.cloud.sources["models"] = [CODE, *more]
    world.kube.apply("iris", SPEC)
    world.drive(lambda: len(copies(world)) > 20, "iris")
    status, reason, message = world.kube.condition("iris", "ArtifactUploaded")
    assert (status, reason) == ("False", "Uploading")
    assert message.startswith("20 of 51 files are copied") or message.startswith("0 of 51 files are copied")
    world.drive(lambda: world.is_ready("iris"), "iris")
    assert len(copies(world)) == 51


def lose_bucket(world: World) -> None:
    del world.cloud.sources["models"]


def lose_objects(world: World) -> None:
    world.cloud.sources["models"] = []


def lose_permission(world: World) -> None:
    world.cloud.refuse["listed"] = errors.PermissionDenied("spec.predictor.gcs: list gs://models/iris/: no")


def lose_answer(world: World) -> None:
    world.cloud.refuse["listed"] = errors.Unavailable("spec.predictor.gcs: list gs://models/iris/: no answer")


def spoil_names(world: World) -> None:
    world.cloud.sources["models"] = [CODE, Listed("iris/../x", 1, 1, "x")]


WRONG = [
    (lose_bucket, "Stalled", "ReferenceMissing", "there is no bucket models"),
    (lose_objects, "Stalled", "ReferenceMissing", "there is no object below gs://models/iris/"),
    (lose_permission, "Stalled", "PermissionDenied", "give the operator's service account a role"),
    (lose_answer, "Reconciling", "CloudUnavailable", "no answer"),
    (spoil_names, "Stalled", "InvalidSpec", "a name that no file can have"),
]


@pytest.mark.parametrize(("go_wrong", "kind", "reason", "words"), WRONG)
def test_what_is_wrong_there_is_told_and_what_serves_serves_on(
    world: World, go_wrong: Any, kind: str, reason: str, words: str
) -> None:
    world.up("iris", SPEC)
    go_wrong(world)
    world.drive(lambda: world.kube.condition("iris", kind)[1] == reason, "iris", seconds=240)
    status, _, message = world.kube.condition("iris", kind)
    assert status == "True"
    assert "spec.predictor.gcs" in message
    assert words in message
    assert "again" in message
    assert world.kube.condition("iris", "Ready")[0] == "True"
    world.cloud.refuse.clear()
    world.cloud.sources["models"] = [CODE, MODEL]
    mended = ["True", "False", "False"]
    kinds = ("Ready", "Reconciling", "Stalled")
    world.drive(
        lambda: [world.kube.condition("iris", each)[0] for each in kinds] == mended, "iris", seconds=600
    )


@pytest.mark.parametrize(("go_wrong", "kind", "reason", "words"), WRONG)
def test_nothing_is_made_while_it_is_wrong(
    world: World, go_wrong: Any, kind: str, reason: str, words: str
) -> None:
    go_wrong(world)
    world.kube.apply("iris", SPEC)
    drive_for(world, 120)
    assert world.vm("iris") is None
    assert not any(name.startswith("code/") for name in world.cloud.blobs)
    assert words in world.kube.condition("iris", "Ready")[2]


def test_an_object_that_changes_between_look_and_copy_is_looked_at_again(world: World) -> None:
    world.kube.apply("iris", SPEC)
    world.pass_("iris")
    world.cloud.sources["models"] = [CODE, Listed("iris/model.pkl", 3, 5, "new")]
    world.drive(lambda: world.is_ready("iris"), "iris")
    last = world.cloud.objects("code/")[copies(world)[-1].removeprefix("copy ")]
    assert last.crc32c in ("new", "code")


def test_the_installations_own_bucket_is_refused(world: World) -> None:
    world.kube.apply("iris", {"predictor": {"gcs": f"gs://{world.settings.bucket}/code/"}})
    drive_for(world, 30)
    assert "is the installation's own bucket" in world.kube.condition("iris", "Stalled")[2]
    assert world.vm("iris") is None
