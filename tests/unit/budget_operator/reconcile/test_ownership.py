"""One owner per installation: what two clusters do that have the same one."""

from dataclasses import replace
from datetime import timedelta
from typing import Any, Literal

import pytest

from budget_operator.core import errors
from budget_operator.core.errors import OwnedElsewhere
from budget_operator.core.observed import Inventory
from budget_operator.core.ownership import Claim, read
from budget_operator.reconcile.ownership import Ownership
from dev.simulation.apiserver import ApiServer
from tests.unit.budget_operator.fakes import SETTINGS, World


class Two:
    """Clusters before the same bucket."""

    def __init__(self, world: World) -> None:
        self.world = world
        world.cloud.create_bucket("us-central1", world.shared.labels)
        self.first, self.second = self.ownership("cluster-1"), self.ownership("cluster-2")

    def ownership(self, uid: str, **settings: Any) -> Ownership:
        kube = ApiServer(self.world.clock, self.world.journal, uid=uid)
        clock = self.world.clock
        changed = replace(SETTINGS, **settings)
        return Ownership(changed, kube, self.world.cloud.gateways, clock, clock.wall)

    def picture(self) -> Inventory:
        self.world.clock.advance(0.1)
        self.world.cloud.forget()
        return self.world.cloud.snapshot()

    def hold(self, ownership: Ownership) -> bool:
        return ownership.hold(self.picture())

    @property
    def claim(self) -> Claim:
        found = read(self.world.cloud.the_owner)
        assert found is not None
        return found


@pytest.fixture
def two(world: World) -> Two:
    return Two(world)


def test_without_a_bucket_there_is_nothing_to_hold(world: World) -> None:
    two = Two(world)
    world.cloud.delete_bucket()
    assert not two.hold(two.first)
    world.cloud.create_bucket("us-central1", {"team": "a"})
    assert not two.hold(two.first)
    assert world.cloud.the_owner is None


def test_the_first_has_it_and_the_second_stands_back(two: Two) -> None:
    assert two.hold(two.first)
    with pytest.raises(OwnedElsewhere, match="cluster-1"):
        two.hold(two.second)
    assert two.claim.cluster == "cluster-1"


def test_of_two_that_come_at_once_one_has_it(two: Two) -> None:
    picture = two.picture()
    assert two.first.hold(picture)
    with pytest.raises(errors.PreconditionFailed):
        two.second.hold(picture)
    with pytest.raises(OwnedElsewhere):
        two.hold(two.second)


def test_many_passes_write_once_in_some_minutes(two: Two) -> None:
    written = []
    for _ in range(100):
        picture = two.picture()
        for _ in range(10):
            assert two.first.hold(picture)
        assert two.world.cloud.the_owner is not None
        written.append(two.world.cloud.the_owner.generation)
        two.world.clock.advance(30)
    assert len(set(written)) == 10


def test_pictures_from_before_a_renewal_are_good_after_it(two: Two) -> None:
    two.hold(two.first)
    two.world.clock.advance(300)
    old = two.picture()
    two.world.clock.advance(2)
    assert two.hold(two.first)
    assert two.first.hold(old), "another pass still has it"


def test_an_owner_that_is_silent_loses_it_and_notices(two: Two) -> None:
    two.hold(two.first)
    for _ in range(15):
        with pytest.raises(OwnedElsewhere):
            two.hold(two.second)
        two.world.clock.advance(60)
    assert two.hold(two.second)
    with pytest.raises(OwnedElsewhere, match="cluster-2"):
        two.hold(two.first)


def test_an_older_picture_does_not_bring_it_back(two: Two) -> None:
    two.hold(two.first)
    old = two.picture()
    assert two.hold(two.ownership("cluster-2", takeover=True))
    with pytest.raises(OwnedElsewhere):
        two.hold(two.first)
    with pytest.raises(OwnedElsewhere):
        two.first.hold(old)


def test_an_owner_that_speaks_keeps_it_whatever_the_clocks_say(two: Two) -> None:
    two.world.clock.off = timedelta(hours=1)  # only the second one asks for the time of day here
    for _ in range(120):
        two.world.clock.off = timedelta(0)
        assert two.hold(two.first)
        two.world.clock.off = timedelta(hours=1)
        with pytest.raises(OwnedElsewhere):
            two.hold(two.second)
        two.world.clock.advance(30)


def test_of_two_that_are_told_to_take_over_the_last_one_keeps_it(two: Two) -> None:
    two.first = two.ownership("cluster-1", takeover=True)
    two.second = two.ownership("cluster-2", takeover=True)
    assert two.hold(two.first)
    assert two.hold(two.second)
    for _ in range(3):
        with pytest.raises(OwnedElsewhere):
            two.hold(two.first)
        assert two.hold(two.second)


@pytest.mark.parametrize("word", ["bucket", "owner"])
def test_an_owner_that_cannot_look_acts_on_until_others_could_have_taken_it(two: Two, word: str) -> None:
    two.world.cloud.down[word] = errors.Unavailable("no storage")
    with pytest.raises(errors.Unavailable, match="no storage"):
        two.hold(two.first)  # it never knew
    two.world.cloud.down.clear()
    two.hold(two.first)
    two.world.cloud.down[word] = errors.Unavailable("no storage")
    for _ in range(23):
        two.world.clock.advance(30)
        assert two.hold(two.first)
    two.world.clock.advance(31)
    with pytest.raises(errors.Unavailable):
        two.hold(two.first)


def test_who_has_lost_it_does_not_act_because_it_cannot_look(two: Two) -> None:
    two.hold(two.first)
    assert two.hold(two.ownership("cluster-2", takeover=True))
    with pytest.raises(OwnedElsewhere):
        two.hold(two.first)
    two.world.cloud.down["owner"] = errors.Unavailable("no storage")
    with pytest.raises(errors.Unavailable):
        two.hold(two.first)


def test_an_owner_that_cannot_write_is_the_owner_while_nobody_else_is(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    two.hold(two.first)
    two.world.clock.advance(300)

    def refuse(*_: object) -> int:
        raise errors.Unavailable("no writes")

    monkeypatch.setattr(two.world.cloud, "write", refuse)
    assert two.hold(two.first)


def test_what_cannot_be_claimed_is_not_held(two: Two) -> None:
    two.world.cloud.refuse["write"] = errors.PermissionDenied("no storage.objects.create")
    picture = two.picture()
    for _ in range(3):
        with pytest.raises(errors.PermissionDenied, match="objects"):
            two.first.hold(picture)
    assert two.world.journal.count("write owner") == 1, "one attempt for all who have the same picture"


def test_a_claim_whose_answer_was_lost_is_ours(two: Two) -> None:
    def lose(number: int, call: str) -> tuple[Literal["after"], BaseException] | None:
        return ("after", errors.Unavailable("lost")) if call == "write owner" else None

    two.world.journal.fault = lose
    with pytest.raises(errors.Unavailable):
        two.hold(two.first)
    two.world.clock.advance(5)
    assert two.hold(two.first)
    assert two.claim.cluster == "cluster-1"


def test_nothing_but_the_bucket_is_made_before_the_claim(world: World) -> None:
    world.up()
    before = world.journal.calls[: world.journal.calls.index("write owner")]
    made = [call for call in before if call.startswith(("create", "upload", "reserve", "insert"))]
    assert made == ["create_bucket"]


def test_without_the_right_to_ask_for_the_cluster_nothing_is_changed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for an operator whose ClusterRole is that of an earlier version."""

    def refuse() -> str:
        raise errors.PermissionDenied("get namespace kube-system: check the operator's ClusterRole")

    with monkeypatch.context() as patch:
        patch.setattr(world.kube, "cluster", refuse)
        world.kube.apply("iris")
        for _ in range(5):
            world.clock.advance(world.pass_("iris") or 0)
        assert world.kube.condition("iris", "Reconciling")[1] == "PermissionDenied"
        assert "ClusterRole" in world.kube.condition("iris", "Stalled")[2]
        made = [call for call in world.journal.calls if call.startswith(("create_topic", "insert", "upload"))]
        assert made == []
    world.drive(lambda: world.is_ready("iris"), "iris")


def test_another_cluster_changes_nothing_at_all(world: World) -> None:
    world.up()
    other = World()
    other.cloud, other.clock = world.cloud, world.clock
    other.kube.uid, other.kube.clock = "cluster-2", world.clock
    other.start_operator()
    calls = len(world.journal.calls)
    other.kube.apply("iris")
    other.kube.apply("rose")
    for name in ("iris", "rose"):
        other.pass_(name)
        assert other.kube.condition(name, "Stalled")[:2] == ("True", "OwnedElsewhere")
        assert other.kube.condition(name, "Ready")[:2] == ("False", "OwnedElsewhere")
        assert other.kube.status(name)["state"] == "Stalled"
    assert world.journal.calls[calls:] == []
    assert set(other.journal.calls) == {"patch_status"}
    other.kube.delete("iris")
    assert other.is_gone("iris"), "what never had anything has nothing to wait for"


def test_what_has_lost_the_installation_deletes_nothing(world: World) -> None:
    world.up()
    assert world.cloud.the_owner is not None
    claim = Claim("cluster-2", world.clock.now, world.clock.now)
    world.cloud.write("owner", claim.document(), "", world.cloud.the_owner.generation)
    world.clock.advance(30)
    world.kube.delete("iris")
    calls = len(world.journal.calls)
    world.clock.advance(world.pass_("iris") or 0)
    assert world.kube.condition("iris", "Stalled")[:2] == ("True", "OwnedElsewhere")
    assert world.kube.status("iris")["state"] == "Deleting"
    assert set(world.journal.calls[calls:]) == {"patch_status"}
