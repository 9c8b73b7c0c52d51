"""Passes that do not see everything: Kubernetes is not readable, the clock jumps, nobody looks at the VM."""

import io
import json
import zipfile
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from budget_operator.core import errors
from budget_operator.core.desired import told_image
from budget_operator.core.names import LABEL_SCHEDULE, LABEL_WANTED, METADATA_CONFIG
from dev.simulation.apiserver import CODE
from tests.unit.budget_operator.fakes import World

CREATES = ("create_", "insert_", "reserve_", "upload")


def drive_for(world: World, seconds: float, name: str = "iris") -> None:
    begun = world.clock.now
    while (world.clock.now - begun).total_seconds() < seconds:
        world.clock.advance(world.pass_(name) or 0)


# --- Kubernetes that does not tell what the spec refers to ---

DENIED = errors.PermissionDenied("get secret: the Kubernetes API answered 403 Forbidden")


def refuse_reads(world: World, monkeypatch: pytest.MonkeyPatch, error: errors.BudgetError = DENIED) -> None:
    def refuse(*args: Any) -> Any:
        raise error

    monkeypatch.setattr(world.kube, "secret", refuse)
    monkeypatch.setattr(world.kube, "config_map", refuse)
    monkeypatch.setattr(world.kube, "ensure_secret", refuse)


@pytest.mark.parametrize("error", [DENIED, errors.Unavailable("get secret: no answer")])
def test_a_preempted_vm_comes_back_while_secrets_cannot_be_read(
    world: World, monkeypatch: pytest.MonkeyPatch, error: errors.BudgetError
) -> None:
    world.up()
    refuse_reads(world, monkeypatch, error)
    drive_for(world, 1800)
    assert world.kube.condition("iris", "Ready")[0] == "True", "the endpoint was asked"
    told = "Stalled" if error.stalls else "Reconciling"
    assert world.kube.condition("iris", told) == ("True", error.reason, error.sentence)
    world.cloud.preempt(world.owner("iris").cloud_name)
    world.drive(lambda: world.kube.condition("iris", "Ready")[0] == "False", "iris", seconds=60)
    world.drive(lambda: world.kube.condition("iris", "Ready")[0] == "True", "iris", seconds=120)
    assert world.kube.status("iris")["preemptions"]["count"] == 1
    monkeypatch.undo()
    world.drive(lambda: world.is_ready("iris"), "iris", seconds=120)


def test_a_new_object_is_told_why_nothing_happens(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_reads(world, monkeypatch)
    world.kube.apply("iris")
    drive_for(world, 120)
    assert world.kube.condition("iris", "Stalled") == ("True", "PermissionDenied", DENIED.sentence)
    assert world.kube.condition("iris", "Ready")[:2] == ("False", "PermissionDenied")
    assert world.kube.condition("iris", "Reconciling")[0] == "False"
    assert [call for call in world.journal.calls if call.startswith(CREATES)] == []
    monkeypatch.undo()
    world.drive(lambda: world.is_ready("iris"), "iris", seconds=120)


def test_nothing_is_changed_for_a_spec_that_was_not_seen_whole(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.up()
    refuse_reads(world, monkeypatch)
    world.kube.apply("iris", {"predictor": {"inline": CODE + "# two\n"}, "machine": {"type": "e2-small"}})
    calls = len(world.journal.calls)
    drive_for(world, 300)
    assert {call for call in world.journal.calls[calls:] if call != "patch_status"} == set()


def test_a_pass_that_could_not_see_is_no_success(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.up()
    assert world.reconciler.reconcile("default", "iris").ok
    refuse_reads(world, monkeypatch)
    assert not world.reconciler.reconcile("default", "iris").ok
    monkeypatch.undo()
    assert world.reconciler.reconcile("default", "iris").ok
    world.cloud.down["all"] = errors.Unavailable("no network")
    world.clock.advance(60)
    assert not world.reconciler.reconcile("default", "iris").ok
    world.kube.delete("iris")
    assert not world.reconciler.reconcile("default", "iris").ok, "a deletion cannot see either"
    world.cloud.down.clear()
    monkeypatch.setattr(world.kube, "deployment", lambda *where: (_ for _ in ()).throw(DENIED))
    passed = world.reconciler.reconcile("default", "iris")
    assert (passed.ok, passed.after) == (False, 60.0)


@pytest.mark.parametrize("silent", ["zones/us-central1-a", "bucket", "job"])
def test_a_pass_that_could_not_see_one_part_is_no_success(world: World, silent: str) -> None:
    """The VM serves on and nothing is wrong with it: only who counts the passes learns of it."""
    world.up()
    world.cloud.unknown = {silent}
    world.clock.advance(60)
    passed = world.reconciler.reconcile("default", "iris")
    assert (passed.ok, passed.waits) == (False, False)
    world.cloud.unknown = set()
    world.clock.advance(60)
    assert world.reconciler.reconcile("default", "iris").ok


def test_the_login_of_a_deleted_predecessor_is_not_taken_over(world: World) -> None:
    """Kubernetes deletes it some time after its deployment: nobody could log in any more."""
    world.up()
    old = dict(world.kube.secrets["default", "iris-login"])
    world.kube.delete("iris")
    world.drive(lambda: world.is_gone("iris"), "iris")
    world.kube.apply("iris")
    drive_for(world, 60)
    assert world.kube.condition("iris", "Ready")[:2] == ("False", "ResourceNotReady")
    assert "iris-login" in world.kube.condition("iris", "Reconciling")[2]
    assert world.kube.condition("iris", "Stalled")[0] == "False"
    assert world.cloud.empty
    world.kube.collect_garbage()
    world.drive(lambda: world.is_ready("iris"), "iris", seconds=120)
    assert world.kube.secrets["default", "iris-login"] != old
    world.kube.collect_garbage()
    assert ("default", "iris-login") in world.kube.secrets


# --- a VM that the keep-alive would not start ---


@pytest.mark.parametrize("label", [LABEL_WANTED, LABEL_SCHEDULE])
def test_a_label_that_cannot_be_put_back_is_told(world: World, label: str) -> None:
    world.up()
    key, vm = next(iter(world.cloud.vms.items()))
    world.cloud.vms[key] = replace(vm, labels={**vm.labels, label: "stopped"})
    world.cloud.refuse["set_labels"] = errors.PermissionDenied("no compute.instances.setLabels")
    drive_for(world, 120)
    status, reason, message = world.kube.condition("iris", "KeepAliveArmed")
    assert (status, reason) == ("False", "PermissionDenied")
    assert label in message
    assert "setLabels" in message
    assert world.kube.condition("iris", "Ready")[:2] == ("False", "PermissionDenied")
    del world.cloud.refuse["set_labels"]
    world.drive(lambda: world.is_ready("iris"), "iris", seconds=120)


# --- a clock that is set ---


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_preemption_is_seen_although_the_clock_was_set(world: World, hours: int) -> None:
    world.up()
    world.clock.off = timedelta(hours=hours)
    drive_for(world, 120)
    world.cloud.preempt(world.owner("iris").cloud_name)
    world.drive(lambda: world.kube.condition("iris", "Ready")[0] == "False", "iris", seconds=60)
    world.drive(lambda: world.is_ready("iris"), "iris", seconds=60)


@pytest.mark.parametrize("hours", [-1, 1])
def test_silence_is_seen_although_the_clock_was_set(world: World, hours: int) -> None:
    world.up()
    world.cloud.silent = True
    world.clock.off = timedelta(hours=hours)
    took = world.drive(lambda: world.kube.condition("iris", "Ready")[0] == "False", "iris", seconds=180)
    assert took >= 60, "the grace of failureSeconds"
    world.clock.off = timedelta(0)
    world.cloud.silent = False
    world.drive(lambda: world.is_ready("iris"), "iris", seconds=60)


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_rest_ends_in_time_although_the_clock_was_set(world: World, hours: int) -> None:
    world.cloud.refuse["create_bucket"] = errors.Unavailable("down")
    world.kube.apply("iris")
    drive_for(world, 30)
    world.clock.off = timedelta(hours=hours)
    del world.cloud.refuse["create_bucket"]
    world.drive(lambda: world.is_ready("iris"), "iris", seconds=90)


def test_the_status_tells_the_machines_time(world: World) -> None:
    world.up()
    world.clock.off = timedelta(hours=-1)
    world.cloud.silent = True
    world.drive(lambda: world.kube.condition("iris", "Ready")[0] == "False", "iris")
    times = {item["type"]: item["lastTransitionTime"] for item in world.kube.status("iris")["conditions"]}
    assert times["Ready"] == world.clock.wall().strftime("%Y-%m-%dT%H:%M:%SZ")


# --- an image that cannot be pulled ---


def wish_for_image(world: World, image: str) -> None:
    """The operator starts again with another setting."""
    world.settings = replace(world.settings, image=image)
    world.start_operator()


def told_reason(world: World) -> str:
    return world.kube.condition("iris", "Reconciling")[1]


def test_an_image_that_cannot_be_pulled_is_told_while_the_old_one_serves(world: World) -> None:
    world.up()
    revision = world.kube.status("iris")["revision"]
    world.cloud.unpullable = {"registry/server:2"}
    wish_for_image(world, "registry/server:2")
    world.drive(lambda: told_reason(world) == "ImagePullFailed", "iris", seconds=60)
    told = world.kube.condition("iris", "Reconciling")
    assert told[:2] == ("True", "ImagePullFailed")
    assert told[2].startswith("registry/server:1 serves on: registry/server:2: not found; mend spec.image (")
    assert world.kube.condition("iris", "Ready")[0] == "True"
    assert world.kube.status("iris")["state"] == "Updating"
    assert world.kube.status("iris")["lastFailure"]["reason"] == "ImagePullFailed"
    assert world.kube.status("iris")["revision"] == revision, "the image is no part of it"
    world.cloud.unpullable = set()
    world.drive(lambda: world.is_ready("iris"), "iris", seconds=60)
    assert world.kube.status("iris")["state"] == "Serving"
    assert "lastFailure" not in world.kube.status("iris")


@pytest.mark.parametrize("seen", [True, False])
def test_an_image_that_is_gone_at_the_next_boot_is_told(world: World, seen: bool) -> None:
    world.up()
    drive_for(world, 120)
    world.cloud.unpullable = {"registry/server:1"}
    world.cloud.running_image = dict.fromkeys(world.cloud.running_image, "registry/server:0")
    world.cloud.preempt(world.owner("iris").cloud_name)
    if not seen:  # the keep-alive was quicker than the operator
        world.cloud.tick()
        world.clock.advance(5)
        world.cloud.settle()
        world.clock.advance(15)
    world.drive(lambda: told_reason(world) == "ImagePullFailed", "iris", seconds=120)
    world.drive(lambda: world.kube.condition("iris", "Ready")[0] == "True", "iris", seconds=60)
    world.cloud.unpullable = set()
    world.drive(lambda: world.is_ready("iris"), "iris", seconds=60)


def test_a_new_vm_without_its_image_says_why(world: World) -> None:
    world.cloud.unpullable = {"registry/server:1"}
    world.kube.apply("iris")
    world.drive(lambda: world.kube.condition("iris", "ModelServing")[1] == "ImagePullFailed", "iris")
    assert world.kube.status("iris")["lastFailure"]["message"] == "registry/server:1: not found"


def test_the_image_is_asked_for_once_by_each_operator(world: World) -> None:
    world.up()
    drive_for(world, 120)
    world.start_operator()
    reads = world.cloud.reports_read
    drive_for(world, 600)
    assert world.cloud.reports_read == reads + 1


# --- an image of the user's own ---


def with_image(image: str, **more: Any) -> dict[str, Any]:
    return {"predictor": {"inline": CODE}, "image": image, **more}


def test_an_image_of_the_users_own_takes_the_place_of_the_installations(world: World) -> None:
    world.up()
    revision = world.kube.status("iris")["revision"]
    world.kube.apply("iris", with_image("registry/mine:1"))
    world.drive(lambda: set(world.cloud.running_image.values()) == {"registry/mine:1"}, "iris", seconds=60)
    world.drive(lambda: world.is_ready("iris"), "iris", seconds=60)
    assert world.kube.status("iris")["revision"] == revision, "the image is no part of it"
    vm = world.vm("iris")
    assert vm is not None
    assert told_image(vm) == "registry/mine:1"


def test_without_a_spec_that_works_the_image_that_the_vm_was_told_is_the_right_one(world: World) -> None:
    world.kube.apply("iris", with_image("registry/mine:1"))
    world.drive(lambda: world.is_ready("iris"), "iris", seconds=300)
    world.kube.apply("iris", with_image("registry/mine:2", auth={"secretName": "none"}))
    world.drive(lambda: world.kube.condition("iris", "Stalled")[0] == "True", "iris", seconds=60)
    drive_for(world, 120)
    assert world.kube.status("iris")["state"] == "Stalled"
    assert world.kube.condition("iris", "Ready")[0] == "True"
    assert "registry/" not in " ".join(message for _, _, message in world.kube.events)
    assert told_image(None) == ""


def test_code_in_an_image_is_not_looked_at_and_said_to_the_vm(world: World) -> None:
    spec = {"predictor": {"image": "/app", "entrypoint": "a.b:C"}, "image": "registry/mine:1"}
    world.kube.apply("iris", {**spec, "requirements": ["-r needs.txt"]})
    world.drive(lambda: world.is_ready("iris"), "iris", seconds=300)
    vm = world.vm("iris")
    assert vm is not None
    config = json.loads(vm.metadata[METADATA_CONFIG])
    assert config["imageCode"] is True
    with zipfile.ZipFile(io.BytesIO(world.cloud.blobs[config["bundle"]])) as bundle:
        assert bundle.namelist() == ["manifest.json"]
        manifest = json.loads(bundle.read("manifest.json"))
    assert manifest["code"] == {"image": "registry/mine:1", "folder": "/app"}
    assert manifest["requirements"] == ["--requirement needs.txt"]
