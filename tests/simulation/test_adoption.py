"""What is there is taken over: by an object that comes back, by a restored cluster, by one cluster of two."""

import json
from typing import Any

import pytest

from budget_operator.core.api import ABANDON
from budget_operator.reconcile import Reconciler
from dev.simulation.apiserver import ApiServer
from dev.simulation.world import NAMESPACE, World, vm, world
from tests.simulation.scenes import CLAIM, WHILE, Calls, fault, is_gone, is_ready, left, mend, up

MINUTE = 60.0


def boots(made: World) -> dict[str, tuple[str, str]]:
    """Which boot of which VM there is."""
    found = {}
    for _, record in made.store.list("compute.instance"):
        body = record["body"]
        found[body["name"]] = (body["id"], body["lastStartTimestamp"])
    return found


def move(made: World, kube: ApiServer, **settings: Any) -> None:
    """The same world with another cluster in it, whose operator has just started."""
    made.kube, made.operator = kube, made.new_operator(kube, **settings)
    for _, name in kube.objects:
        made.passes.add((NAMESPACE, name), made.clock.monotonic())


def restored(made: World, uid: str, *, secrets: bool) -> ApiServer:
    """A cluster into which the objects were applied again, as a backup without status has them."""
    kube, old = made.new_cluster(uid), made.kube
    for namespace, name in old.objects:
        kube.apply(name, old.objects[namespace, name]["spec"], namespace)
        kube.objects[namespace, name]["metadata"]["uid"] = f"new-{name}"
    if secrets:
        kube.secrets.update(old.secrets)
    return kube


def owner(made: World) -> dict[str, str]:
    assert made.operator is not None
    stored = made.operator.common.means.cloud.storage.read("owner")
    assert stored is not None
    found: dict[str, str] = json.loads(stored.data)
    return found


def told(status: dict[str, Any]) -> dict[str, Any]:
    """What a status says, less what an observer cannot find out again: what was when."""
    said = {key: value for key, value in status.items() if key not in ("availability", "timeline")}
    said["conditions"] = [(each["type"], each["status"], each["reason"]) for each in status["conditions"]]
    return said


# --- retained ---


def test_what_was_retained_is_taken_over_as_it_is() -> None:
    calls = Calls()
    with world(calls) as made:
        up(made, "alpha", deletionPolicy="Retain")
        before, there, status = left(made), boots(made), told(made.kube.status("alpha"))
        made.delete("alpha")
        made.run(WHILE)
        assert is_gone(made, "alpha")
        count = len(calls.made)
        up(made, "alpha", deletionPolicy="Retain")
        assert boots(made) == there
        assert left(made) == before
        assert told(made.kube.status("alpha")) == status, "not even another revision"
        assert calls.since(count) == []


# --- restored ---


@pytest.mark.parametrize(("uid", "takeover"), [("cluster-1", False), ("cluster-2", True)])
def test_a_restored_backup_takes_over_what_is_there(uid: str, takeover: bool) -> None:
    """Into the same cluster, or into a new one that is told so."""
    calls = Calls()
    with world(calls) as made:
        up(made, "alpha", "beta")
        there, old = boots(made), made.kube
        move(made, restored(made, uid, secrets=True), takeover=takeover)
        count = len(calls.made)
        made.run(WHILE)
        for name in ("alpha", "beta"):
            assert told(made.kube.status(name)) == told(old.status(name))
        assert boots(made) == there
        assert owner(made)["cluster"] == uid
        assert calls.since(count) == []


def test_a_backup_without_secrets_takes_over_what_is_there() -> None:
    """The key comes from the VM, and the login from what was sealed with it."""
    calls = Calls()
    with world(calls) as made:
        up(made, "alpha")
        there, old = boots(made), made.kube
        move(made, restored(made, "cluster-2", secrets=False), takeover=True)
        count = len(calls.made)
        made.run(WHILE)
        assert told(made.kube.status("alpha")) == told(old.status("alpha"))
        assert made.kube.secrets == old.secrets
        assert boots(made) == there
        assert set(calls.made[count:]) == {CLAIM}


def test_a_restored_cluster_waits_until_the_old_one_is_silent() -> None:
    with world() as made:
        up(made, "alpha")
        there = boots(made)
        move(made, restored(made, "cluster-2", secrets=True))
        made.run(MINUTE)
        assert made.kube.condition("alpha", "Stalled")[:2] == ("True", "OwnedElsewhere")
        assert made.kube.status("alpha")["state"] == "Stalled"
        made.run(15 * MINUTE)
        assert is_ready(made, "alpha")
        assert boots(made) == there


def test_a_cluster_that_was_lost_long_ago_is_waited_for_shortly() -> None:
    with world() as made:
        up(made, "alpha")
        made.operator = None
        made.run(24 * 60 * MINUTE)
        move(made, restored(made, "cluster-2", secrets=True))
        made.run(5 * MINUTE)
        assert made.kube.condition("alpha", "Stalled")[1] == "OwnedElsewhere"
        made.run(3 * MINUTE)
        assert is_ready(made, "alpha")


# --- two clusters ---


class Rival:
    """A second cluster with the same installation, and what its operator does beside the first."""

    def __init__(self, made: World, **settings: Any) -> None:
        self.made = made
        self.kube = made.new_cluster("cluster-2")
        self.operator: Reconciler = made.new_operator(self.kube, **settings)
        for name in ("alpha", "gamma"):
            self.kube.apply(name)

    def run(self, seconds: float, *, first: bool = True, step: float = 30) -> None:
        """Both live, and look every so many seconds; `first`: the first one as well."""
        operator = self.made.operator
        self.made.operator = operator if first else None
        for _ in range(int(seconds / step)):
            self.made.run(step)
            for namespace, name in list(self.kube.objects):
                self.operator.reconcile(namespace, name)
        self.made.operator = operator

    def reason(self, name: str = "alpha") -> str:
        return self.kube.condition(name, "Stalled")[1]


def test_of_two_clusters_that_begin_at_once_one_has_it() -> None:
    calls = Calls()
    with world(calls, kept=1) as made:
        rival = Rival(made)
        made.apply("alpha")
        rival.run(2 * MINUTE, step=1)
        states = {made.kube.condition("alpha", "Stalled")[1], rival.reason()}
        assert states == {"UpToDate", "OwnedElsewhere"}
        assert calls.count("POST", "/instances") == len(boots(made))


def test_the_second_of_two_clusters_changes_nothing() -> None:
    with world(kept=1) as made:
        up(made, "alpha")
        rival = Rival(made)
        before, journal = left(made), len(made.journal.calls)
        rival.run(60 * MINUTE)
        assert [rival.reason(name) for name in ("alpha", "gamma")] == ["OwnedElsewhere"] * 2
        message = rival.kube.condition("gamma", "Stalled")[2]
        assert f"cluster-1 since {owner(made)['since']}" in message
        assert left(made) == before
        assert set(made.journal.calls[journal:]) == {"patch_status"}
        assert rival.kube.status_writes == 2, "once for each"
        assert rival.kube.secrets == {}
        assert is_ready(made, "alpha")


def test_the_second_takes_over_when_the_first_is_silent_and_the_first_sees_it() -> None:
    calls = Calls()
    with world(calls, kept=1) as made:
        up(made, "alpha")
        there = boots(made)[vm("alpha")]
        rival = Rival(made)
        rival.run(9 * MINUTE, first=False)
        assert rival.reason() == "OwnedElsewhere"
        rival.run(10 * MINUTE, first=False)
        assert rival.kube.condition("gamma", "Ready")[0] == "True"
        assert owner(made)["cluster"] == "cluster-2"
        assert boots(made)[vm("alpha")] == there
        before = left(made)
        made.preempt("alpha")
        made.delete("alpha")
        count = len(calls.made)
        assert made.operator is not None
        made.operator.reconcile(NAMESPACE, "alpha")
        assert calls.made[count:] == []
        rival.run(20 * MINUTE)
        assert made.kube.condition("alpha", "Stalled")[:2] == ("True", "OwnedElsewhere")
        assert made.kube.status("alpha")["state"] == "Deleting"
        assert sorted(left(made)) == sorted(before)


def test_the_loser_can_let_its_objects_go() -> None:
    calls = Calls()
    with world(calls, kept=1) as made:
        up(made, "alpha", deletionPolicy="Retain")
        up(made, "beta")
        rival = Rival(made, takeover=True)
        rival.run(10 * MINUTE)
        count = len(calls.made)
        made.delete("alpha")
        made.delete("beta")
        made.run(MINUTE)
        assert is_gone(made, "alpha")
        assert not is_gone(made, "beta")
        uid = made.kube.objects[NAMESPACE, "beta"]["metadata"]["uid"]
        made.kube.annotate("beta", ABANDON, uid, NAMESPACE)
        made.passes.add((NAMESPACE, "beta"), made.clock.monotonic())
        made.run(MINUTE)
        assert is_gone(made, "beta")
        assert calls.made[count:] == []


def test_a_takeover_needs_no_silence() -> None:
    with world(kept=1) as made:
        up(made, "alpha")
        rival = Rival(made, takeover=True)
        rival.run(10 * MINUTE)
        assert rival.kube.condition("alpha", "Ready")[0] == "True"
        assert made.kube.condition("alpha", "Stalled")[1] == "OwnedElsewhere"
        assert not is_ready(made, "alpha")


def test_the_installation_is_free_once_its_last_deployment_is_gone() -> None:
    with world(kept=1) as made:
        up(made, "alpha")
        rival = Rival(made)
        rival.run(5 * MINUTE)
        made.delete("alpha")
        made.run(WHILE)
        assert is_gone(made, "alpha")
        assert left(made) == []
        rival.run(10 * MINUTE)
        assert rival.kube.condition("gamma", "Ready")[0] == "True"


def test_an_owner_without_storage_acts_on_for_a_while() -> None:
    """Until others could have taken over; then only the keep-alive is left."""
    calls = Calls()
    with world(calls, kept=1) as made:
        up(made, "alpha", "beta")
        fault(made, "call", path="/storage/", count=0)
        made.delete("alpha")
        made.run(5 * MINUTE)
        assert [each for each in left(made) if f"instance/{vm('alpha')}" in each] == []
        assert calls.count("DELETE", vm("alpha")) == 2, "the VM and its address"
        made.run(15 * MINUTE)
        count = len(calls.made)
        made.delete("beta")
        made.run(30 * MINUTE)
        assert [call for call in calls.made[count:] if call.startswith("DELETE")] == []
        assert made.kube.condition("beta", "Reconciling")[1] == "CloudUnavailable"
        mend(made)
        made.run(WHILE)
        assert left(made) == []
