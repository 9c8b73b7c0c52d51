"""Looking for orphans, and removing them, while the world does not stand still."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest

from budget_operator.core.errors import (
    NotFound,
    OwnedElsewhere,
    PermissionDenied,
    PreconditionFailed,
    Unavailable,
)
from budget_operator.core.names import LABEL_DELETION, Owner
from budget_operator.core.observed import Bucket, Disk
from budget_operator.core.orphans import told
from budget_operator.core.orphans.model import End, Kind, Outcome, Report, Verdict
from budget_operator.core.orphans.verdicts import GRACE
from budget_operator.core.ownership import Claim
from budget_operator.core.prices.table import shipped
from budget_operator.reconcile import Means
from budget_operator.reconcile.clearing import LONGEST, Clearing
from budget_operator.reconcile.orphans import Survey
from tests.unit.budget_operator.fakes import START, World

ZONE = "us-central1-a"
ALL = list(Kind)


@dataclass
class Left:
    """An installation whose object was taken away without its finalizer's leave, and time has passed."""

    world: World = field(default_factory=World)
    during: list[Callable[[], object]] = field(
        default_factory=list
    )  # what happens while a call is waited for
    fences: int = 0

    def __post_init__(self) -> None:
        self.world.up()
        self.forsake("iris")
        self.world.clock.advance(2 * GRACE.total_seconds())
        self.world.journal.check = lambda: None

    @property
    def cloud(self) -> Any:
        return self.world.cloud

    def forsake(self, name: str) -> None:
        del self.world.kube.objects["default", name]

    def survey(self, **settings: Any) -> Survey:
        changed = replace(self.world.settings, **settings)
        return Survey(changed, self.world.kube, self.means(), shipped)

    def means(self) -> Means:
        def fence() -> None:
            self.fences += 1

        return Means(self.cloud.gateways, self.world.clock, self.world.clock.wall, fence=fence)

    def look(self, **settings: Any) -> Report:
        return self.survey(**settings).whole()

    def clear(self, report: Report | None = None, **settings: Any) -> list[Outcome]:
        found = self.look(**settings) if report is None else report
        return list(Clearing(self.survey(**settings), self.means(), found, self.sleep).run())

    def sleep(self, seconds: float) -> None:
        self.world.clock.advance(seconds)
        for happens in self.during:
            happens()

    def add_disk(self, name: str = "", **changes: Any) -> Disk:
        owner = self.world.owner("iris")
        made = Disk(name or owner.cloud_name, ZONE, "d1", "pd-balanced", 20, owner.labels, (), START, START)
        made = replace(made, **changes)
        self.cloud.disks_left[made.zone, made.name] = made
        return made


@pytest.fixture
def left() -> Left:
    return Left()


def kinds(report: Report) -> list[Kind]:
    """In order; of objects there are folders, those of the code and of the ledger."""
    return list(dict.fromkeys(each.resource.kind for each in report.orphans))


def ends(outcomes: list[Outcome]) -> dict[Kind, End]:
    return {each.found.resource.kind: each.end for each in outcomes}


def why(outcomes: list[Outcome], kind: Kind) -> str:
    found = {each.why for each in outcomes if each.found.resource.kind is kind and each.why}
    assert len(found) == 1, found
    return found.pop()


# --- looking ---


def test_everything_of_a_lost_object_is_found(left: Left) -> None:
    left.add_disk()
    report = left.look()
    assert kinds(report) == ALL
    assert {each.why for each in report.orphans if each.resource.key} == {
        "there is no BudgetDeployment default/iris"
    }
    assert told.exit_code(report) == told.REMAINING


def test_what_is_looked_at_changes_nothing(left: Left) -> None:
    calls = list(left.world.journal.calls)
    left.look()
    left.survey().at_rest()
    assert left.world.journal.calls == calls


def test_the_running_operator_uses_the_picture_it_has_and_leaves_the_bucket_alone(left: Left) -> None:
    left.cloud.resting()
    taken = left.cloud.snapshots_taken
    left.cloud.down["contents"] = Unavailable("nobody may list")
    report = left.survey().at_rest()
    assert left.cloud.snapshots_taken == taken
    assert kinds(report) == [kind for kind in ALL if kind not in (Kind.DISK, Kind.OBJECTS)]
    assert report.seen.unseen == {}


def test_an_object_that_is_being_deleted_owns_until_it_is_gone(left: Left) -> None:
    left.world.up("rose")
    left.world.kube.delete("rose")
    assert [each.why for each in left.look().orphans if "rose" in each.why] == []


@pytest.mark.parametrize("moment", ["before", "after"])
def test_an_object_that_comes_or_goes_during_the_look_owns(left: Left, moment: str) -> None:
    made = left.world.kube.apply("iris")
    if moment == "after":
        left.forsake("iris")
    picture = left.cloud.snapshot

    def turn(**more: Any) -> Any:
        found = picture(**more)
        if moment == "before":
            left.forsake("iris")
        else:
            left.world.kube.objects["default", "iris"] = made
        return found

    left.cloud.snapshot = turn
    assert left.look().found == ()


def test_where_the_cluster_cannot_be_asked_nothing_is_an_orphan(
    left: Left, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> Any:
        raise Unavailable("connection refused")

    monkeypatch.setattr(left.world.kube, "all_deployments", fail)
    with pytest.raises(Unavailable):
        left.look()


def claim(left: Left, cluster: str) -> None:
    now = left.world.clock.wall()
    held = left.cloud.the_owner
    left.cloud.the_owner = replace(held, data=Claim(cluster, now, now).document())


def test_what_is_another_clusters_is_no_orphan_here(left: Left) -> None:
    claim(left, "cluster-2")
    with pytest.raises(OwnedElsewhere, match="cluster-2"):
        left.look()
    assert kinds(left.look(takeover=True)) == [kind for kind in ALL if kind is not Kind.DISK]


def test_a_cluster_that_got_the_installation_a_moment_ago_waits(left: Left) -> None:
    claim(left, left.world.kube.uid)
    assert {each.verdict for each in left.look().found} == {Verdict.NEW}
    left.world.clock.advance(GRACE.total_seconds())
    assert {each.verdict for each in left.look().found} == {Verdict.ORPHAN}


@pytest.mark.parametrize("bucket", [None, Bucket("bucket", {"somebody": "else"})])
def test_without_the_bucket_nobody_can_tell_whose_it_is(left: Left, bucket: Bucket | None) -> None:
    left.cloud.the_bucket = bucket
    with pytest.raises(OwnedElsewhere, match="Check BUDGET_BUCKET"):
        left.look()
    assert Kind.INSTANCE in kinds(left.look(takeover=True))


def test_an_installation_of_which_there_is_nothing_needs_no_bucket() -> None:
    world = World()
    means = Means(world.cloud.gateways, world.clock, world.clock.wall)
    report = Survey(world.settings, world.kube, means, shipped).whole()
    assert (report.found, told.exit_code(report)) == ((), told.ALL_WELL)


@pytest.mark.parametrize("word", ["bucket", "owner"])
def test_where_the_owner_cannot_be_read_nothing_is_an_orphan(left: Left, word: str) -> None:
    left.cloud.down[word] = Unavailable("503")
    with pytest.raises(Unavailable):
        left.look()


@pytest.mark.parametrize(
    ("word", "hidden"), [("job", Kind.JOB), ("function", Kind.FUNCTION), ("disks", Kind.DISK)]
)
def test_a_part_that_cannot_be_seen_is_said(left: Left, word: str, hidden: Kind) -> None:
    left.add_disk()
    left.cloud.down[word] = PermissionDenied(f"{word}: 403")
    report = left.look()
    assert report.seen.unseen == {word: f"{word}: 403"}
    assert kinds(report) == [kind for kind in ALL if kind is not hidden]


def test_preemptions_that_cannot_be_seen_hide_nothing(left: Left) -> None:
    left.cloud.down["power"] = PermissionDenied("403")
    assert left.look().seen.unseen == {}


# --- removing ---


def test_all_of_it_goes_in_the_order_in_which_it_can(left: Left) -> None:
    left.add_disk()
    outcomes = left.clear()
    assert list(dict.fromkeys(each.found.resource.kind for each in outcomes)) == ALL
    assert {each.end for each in outcomes} == {End.DELETED}
    assert left.cloud.empty
    assert left.cloud.disks_left == {}
    assert left.fences == len(outcomes)
    assert left.look().found == ()


def test_what_others_own_stays(left: Left) -> None:
    left.world.up("rose")
    rose = left.world.owner("rose").cloud_name
    outcomes = left.clear()
    assert ends(outcomes) == dict.fromkeys((Kind.INSTANCE, Kind.ADDRESS, Kind.OBJECTS), End.DELETED)
    assert [name for _, name in (*left.cloud.vms, *left.cloud.ips)] == [rose, rose]
    assert {name.split("/")[1] for name in left.cloud.blobs if name.startswith("code/")} == {rose}
    assert left.cloud.the_job is not None
    assert left.world.is_ready("rose")


def test_an_object_that_comes_back_meanwhile_keeps_what_is_left(left: Left) -> None:
    report = left.look()
    left.during.append(lambda: left.world.kube.apply("iris"))
    outcomes = left.clear(report)
    assert outcomes[0].end is End.DELETED
    assert {each.end for each in outcomes[1:]} == {End.LEFT}
    assert {each.why for each in outcomes[1:]} == {"a BudgetDeployment owns it now"}


def test_an_installation_that_is_lost_meanwhile_keeps_what_is_left(left: Left) -> None:
    report = left.look()
    left.during.append(lambda: claim(left, "cluster-2"))
    outcomes = left.clear(report)
    assert outcomes[0].end is End.DELETED
    assert {each.end for each in outcomes[1:]} == {End.FAILED, End.LEFT}
    assert "cluster-2" in why(outcomes, Kind.ADDRESS)
    assert [call.split()[0] for call in left.world.journal.calls if "del" in call] == ["delete_instance"]


def test_another_one_of_the_same_name_stays(left: Left) -> None:
    report = left.look()
    (key,) = left.cloud.vms
    left.cloud.vms[key] = replace(left.cloud.vms[key], id="another")
    outcomes = left.clear(report)
    assert "is not the one that was listed" in why(outcomes, Kind.INSTANCE)
    assert why(outcomes, Kind.ADDRESS) == "its VM is still there"
    assert why(outcomes, Kind.OBJECTS) == "its VM is still there"
    assert why(outcomes, Kind.JOB) == f"instance {key[1]} is still there"
    assert {each.end for each in outcomes} == {End.LEFT}
    assert key in left.cloud.vms


def test_one_that_was_marked_as_retained_meanwhile_stays(left: Left) -> None:
    report = left.look()
    (key,) = left.cloud.vms
    there = left.cloud.vms[key]
    left.cloud.vms[key] = replace(there, labels={**there.labels, LABEL_DELETION: "retain"})
    assert {each.end for each in left.clear(report)} == {End.LEFT}
    assert not left.cloud.empty


def test_one_that_has_lost_our_mark_meanwhile_counts_as_gone(left: Left) -> None:
    report = left.look()
    (key,) = left.cloud.vms
    left.cloud.vms[key] = replace(left.cloud.vms[key], labels={})
    assert ends(left.clear(report))[Kind.INSTANCE] is End.GONE
    assert key in left.cloud.vms


def test_what_went_by_itself_is_gone(left: Left) -> None:
    report = left.look()
    left.cloud.vms.clear()
    assert left.clear(report)[0].end is End.GONE
    assert left.cloud.empty


def test_a_disk_that_a_vm_has_stays(left: Left) -> None:
    made = left.add_disk()
    report = left.look()
    left.add_disk(users=("somebody",))
    assert why(left.clear(report), Kind.DISK) == "a VM has it"
    assert (made.zone, made.name) in left.cloud.disks_left


def test_objects_that_change_meanwhile_stay(left: Left) -> None:
    report = left.look()
    folder = next(each.resource.name for each in report.orphans if each.resource.kind is Kind.OBJECTS)
    left.cloud.blobs[f"{folder}new"] = b"new"
    assert "is not the one that was listed" in why(left.clear(report), Kind.OBJECTS)
    assert f"{folder}new" in left.cloud.blobs


def test_a_folder_that_is_none_of_ours_keeps_the_bucket(left: Left) -> None:
    left.cloud.blobs["code/theirs/notes.txt"] = b"theirs"
    assert why(left.clear(), Kind.BUCKET) == "it holds 1 objects that are not ours"
    assert left.cloud.blobs["code/theirs/notes.txt"] == b"theirs"


def test_a_bucket_with_things_of_others_stays(left: Left) -> None:
    left.cloud.blobs["mine/notes.txt"] = b"mine"
    outcomes = left.clear()
    assert why(outcomes, Kind.BUCKET) == "it holds 1 objects that are not ours"
    assert left.cloud.blobs["mine/notes.txt"] == b"mine"
    assert {each.end for each in outcomes if each.found.resource.kind is not Kind.BUCKET} == {End.DELETED}


def test_the_bucket_is_the_last_to_go(left: Left) -> None:
    left.cloud.refuse["delete_job"] = PermissionDenied("delete Scheduler job: 403")
    outcomes = left.clear()
    assert ends(outcomes)[Kind.JOB] is End.FAILED
    assert why(outcomes, Kind.JOB) == "delete Scheduler job: 403"
    assert why(outcomes, Kind.BUCKET).startswith("job budget-keepalive-")
    assert left.cloud.the_bucket is not None


def test_the_bucket_stays_where_not_everything_could_be_seen(left: Left) -> None:
    left.cloud.down["job"] = Unavailable("get Scheduler job: 503")
    outcomes = left.clear()
    assert "get Scheduler job: 503" in why(outcomes, Kind.BUCKET)
    assert left.cloud.the_bucket is not None


def test_a_vm_that_cannot_be_deleted_keeps_what_it_lives_by(left: Left) -> None:
    left.cloud.refuse["delete_instance"] = PermissionDenied("delete instance: 403")
    outcomes = left.clear()
    assert ends(outcomes)[Kind.INSTANCE] is End.FAILED
    for kind in (Kind.ADDRESS, Kind.OBJECTS, Kind.FUNCTION, Kind.FIREWALL, Kind.BUCKET):
        assert ends(outcomes)[kind] is End.LEFT
    assert told.exit_code(left.look(), outcomes) == told.REMAINING


def test_a_deletion_that_never_ends_is_given_up(left: Left, monkeypatch: pytest.MonkeyPatch) -> None:
    report = left.look()
    monkeypatch.setattr(left.cloud, "_gone", lambda *at: None)
    began = left.world.clock.now
    outcomes = left.clear(report)
    assert "it is still there 5 minutes after" in why(outcomes, Kind.INSTANCE)
    assert left.world.clock.now - began < LONGEST + timedelta(minutes=1)


def test_a_call_whose_operation_fails_is_told(left: Left) -> None:
    report = left.look()
    begin = left.cloud._begin

    def failing(scope: str, request_id: str, effect: Any = None, error: str | None = None) -> Any:
        return begin(scope, request_id, error="RESOURCE_IN_USE_BY_ANOTHER_RESOURCE")

    left.cloud._begin = failing
    assert "RESOURCE_IN_USE_BY_ANOTHER_RESOURCE" in why(left.clear(report), Kind.INSTANCE)


def test_two_who_claim_at_once_do_not_both_delete(left: Left) -> None:
    report = left.look()
    left.cloud.refuse["write"] = PreconditionFailed("owner")
    claim(left, "cluster-2")
    outcomes = left.clear(report, takeover=True)
    assert {each.end for each in outcomes} == {End.FAILED, End.LEFT}
    assert not any("delete" in call or "release" in call for call in left.world.journal.calls)


# --- what is retained says so ---


def test_an_object_that_is_retained_leaves_a_vm_that_says_so() -> None:
    world = World()
    spec = {"predictor": {"inline": "class Predictor: ..."}, "deletionPolicy": "Retain"}
    world.up("iris", spec)
    assert world.vm("iris").labels[LABEL_DELETION] == "retain"  # type: ignore[union-attr]
    world.up("iris", {**spec, "deletionPolicy": "Delete"})
    world.drive(lambda: world.vm("iris").labels[LABEL_DELETION] == "delete", "iris")  # type: ignore[union-attr]


def retain_late(world: World) -> list[str]:
    """The field is set while the deletion waits; what was told of it."""
    world.kube.delete("iris")
    world.kube.objects["default", "iris"]["spec"] = {"deletionPolicy": "Retain"}
    world.drive(lambda: world.is_gone("iris"), "iris")
    return [message for _, reason, message in world.kube.events if reason == "Retained"]


def test_one_that_is_retained_at_the_last_moment_says_so_too() -> None:
    world = World()
    world.up()
    (message,) = retain_late(world)
    assert "may not know" not in message
    assert world.vm("iris").labels[LABEL_DELETION] == "retain"  # type: ignore[union-attr]
    assert world.journal.count("delete_instance") == 0


@pytest.mark.parametrize("trouble", ["down", "refused", "silent"])
def test_a_cloud_that_does_not_answer_does_not_keep_the_object(trouble: str) -> None:
    world = World()
    world.up()
    world.cloud.cached = None
    if trouble == "down":
        world.cloud.down["all"] = Unavailable("the cloud does not answer")
    elif trouble == "refused":
        world.cloud.refuse["set_labels"] = PermissionDenied("set labels: 403")
    else:
        world.cloud.unknown.add(f"zones/{ZONE}")
    (message,) = retain_late(world)
    assert "`budget-operator orphans` may not know that it was retained: " in message
    assert len(message) < 1024


def test_owners_are_known_by_namespace_and_name(left: Left) -> None:
    left.world.kube.apply("iris", namespace="other")
    assert left.survey().owners() == {Owner("default", "other", "iris")}
    assert Kind.INSTANCE in kinds(left.look()), "another namespace is another deployment"


def test_a_bucket_that_goes_meanwhile_is_gone(left: Left) -> None:
    report = left.look()

    def vanish() -> None:
        left.cloud.the_bucket = left.cloud.the_owner = None

    left.during.append(vanish)
    outcomes = left.clear(report)
    assert ends(outcomes)[Kind.BUCKET] is End.GONE


def test_an_operation_that_google_has_forgotten_is_over(left: Left, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(left.cloud, "operation", lambda ref: None)
    assert {each.end for each in left.clear()} == {End.DELETED}


def test_somebody_who_is_faster_is_no_failure(left: Left, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(region: str, name: str, request_id: str) -> Any:
        del left.cloud.ips[region, name]
        raise NotFound(name)

    monkeypatch.setattr(left.cloud, "release_address", gone)
    assert {each.end for each in left.clear()} == {End.DELETED}


def test_a_function_that_is_being_deleted_is_waited_for(left: Left) -> None:
    report = left.look()
    left.cloud.delete_function(left.cloud.the_function.name)
    assert ends(left.clear(report))[Kind.FUNCTION] is End.DELETED
    assert left.world.journal.count("delete_function") == 1
