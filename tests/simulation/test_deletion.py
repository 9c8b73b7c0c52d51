"""Deletion, in every trouble: nothing of ours is left in the end, and until then the status says why."""

import itertools

from budget_operator.core.api import ABANDON
from dev.simulation.world import NAMESPACE, World, vm, world
from tests.simulation.scenes import WHILE, Calls, fault, is_gone, is_ready, left, mend, outage, up

HOUR = 3600.0


def reason(made: World, name: str = "alpha") -> tuple[str, str]:
    """Why deletion waits."""
    return made.kube.condition(name, "Reconciling")[1:]


def test_nothing_is_left() -> None:
    with world() as made:
        up(made, "alpha", "beta")
        made.delete("alpha")
        made.run(WHILE)
        assert is_gone(made, "alpha")
        assert is_ready(made, "beta")
        made.delete("beta")
        made.run(WHILE)
        assert is_gone(made, "beta")
        assert left(made) == []


def test_a_cloud_that_is_out_of_reach_for_hours_is_waited_for() -> None:
    with world() as made:
        up(made, "alpha")
        outage(made)
        made.delete("alpha")
        made.run(3 * HOUR)
        assert reason(made)[0] == "CloudUnavailable"
        assert any(vm("alpha") in each for each in left(made))
        mend(made)
        made.run(WHILE)
        assert is_gone(made, "alpha")
        assert left(made) == []


def test_credentials_that_were_revoked_and_given_back() -> None:
    with world() as made:
        up(made, "alpha")
        fault(made, "permission-denied", permission="*")
        made.delete("alpha")
        made.run(HOUR)
        stalled, why, message = made.kube.condition("alpha", "Stalled")
        assert (stalled, why) == ("True", "PermissionDenied")
        assert "compute.instances.list" in message
        assert made.kube.status("alpha")["state"] == "Deleting"
        mend(made)
        made.run(WHILE)
        assert is_gone(made, "alpha")
        assert left(made) == []


def test_a_vm_that_is_still_being_made() -> None:
    with world() as made:
        made.apply("alpha")
        while not made.store.list("compute.instance"):
            made.run(1)
        ((_, record),) = made.store.list("compute.instance")
        assert record["body"]["status"] == "PROVISIONING"
        made.delete("alpha")
        made.run(WHILE)
        assert is_gone(made, "alpha")
        assert left(made) == []


def test_what_is_half_made_goes_as_well() -> None:
    """The process dies after each call in turn, and the deployment is deleted before the next one is made."""
    for number in itertools.count(1):
        with world(Calls(last=number), restarts=False) as made:
            made.apply("alpha")
            if not dies(made):
                break
            made.delete("alpha")
            made.operator = made.new_operator()
            made.run(WHILE)
            assert is_gone(made, "alpha"), number
            assert left(made) == [], number
    assert number > 10


def dies(made: World) -> bool:
    """Whether the process does before the deployment serves."""
    made.run(WHILE)
    return made.operator is None


def test_a_namespace_that_is_terminating() -> None:
    """Its Secrets and ConfigMaps are gone before the deployment is."""
    with world() as made:
        up(made, "alpha")
        made.kube.terminate(NAMESPACE)
        made.passes.add((NAMESPACE, "alpha"), made.clock.monotonic())
        made.run(WHILE)
        assert is_gone(made, "alpha")
        assert left(made) == []
        assert made.kube.refused == [], "nothing is made in it"


def test_a_zone_that_does_not_answer_holds_everything_up() -> None:
    calls = Calls()
    with world(calls) as made:
        up(made, "alpha")
        before, count = left(made), len(calls.made)
        fault(made, "silent-zone", zone="us-central1-a")
        made.delete("alpha")
        made.run(HOUR)
        why, message = reason(made)
        assert why == "CloudUnavailable"
        assert "us-central1-a" in message
        assert left(made) == before
        assert calls.since(count) == []
        mend(made)
        made.run(WHILE)
        assert is_gone(made, "alpha")
        assert left(made) == []


def test_nothing_is_made_beside_a_zone_that_does_not_answer() -> None:
    calls = Calls()
    with world(calls) as made:
        fault(made, "silent-zone", zone="us-central1-b")
        made.apply("alpha")
        made.run(HOUR)
        assert made.store.list("compute.instance") == []
        assert calls.count("POST", "/addresses") == 0
        condition = made.kube.condition("alpha", "InstanceRunning")
        assert condition[0] != "True"
        assert "us-central1-b does not answer" in condition[2]
        mend(made)
        made.run(WHILE)
        assert is_ready(made, "alpha")


# --- what is left on purpose ---


def test_what_is_retained_stays_and_works_on() -> None:
    with world() as made:
        up(made, "alpha", deletionPolicy="Retain")
        up(made, "beta")
        made.delete("alpha")
        made.run(WHILE)
        assert is_gone(made, "alpha")
        told = [message for kind, why, message in made.kube.events if why == "Retained"]
        assert len(told) == 1
        for part in (f"VM {vm('alpha')} in us-central1-a", f"address {vm('alpha')}", "Secret", "gs://"):
            assert part in told[0]
        made.delete("beta")
        made.run(WHILE)
        assert is_gone(made, "beta")
        kinds = {each.partition(" ")[0] for each in left(made)}
        assert {"compute.instance", "compute.firewall", "scheduler.job", "pubsub.topic"} <= kinds
        assert [each for each in left(made) if vm("beta") in each] == []
        made.preempt("alpha")
        made.run(HOUR)
        ((_, record),) = made.store.list("compute.instance")
        assert record["body"]["status"] == "RUNNING", "the keep-alive goes on for it"


def test_one_is_retained_while_the_only_other_one_goes() -> None:
    """Both at once: whoever comes last knows what the other one left."""
    with world() as made:
        up(made, "alpha", deletionPolicy="Retain")
        up(made, "beta")
        for name in ("beta", "alpha"):
            made.delete(name)
        made.run(WHILE)
        assert is_gone(made, "alpha")
        assert is_gone(made, "beta")
        made.preempt("alpha")
        made.run(WHILE)
        assert [each for each in left(made) if vm("beta") in each] == []
        ((_, record),) = made.store.list("compute.instance")
        assert record["body"]["status"] == "RUNNING"


def test_what_was_retained_goes_when_it_is_deleted_after_all() -> None:
    with world() as made:
        up(made, "alpha", deletionPolicy="Retain")
        made.delete("alpha")
        made.run(WHILE)
        up(made, "alpha")
        made.delete("alpha")
        made.run(WHILE)
        assert is_gone(made, "alpha")
        assert left(made) == []


def test_what_was_retained_while_its_zone_is_silent_keeps_what_it_needs() -> None:
    with world() as made:
        up(made, "alpha", deletionPolicy="Retain")
        up(made, "beta", placement={"zones": ["us-central1-b"]})
        made.delete("alpha")
        made.run(WHILE)
        before = left(made)
        fault(made, "silent-zone", zone="us-central1-a")
        made.delete("beta")
        made.run(HOUR)
        assert not is_gone(made, "beta")
        assert [each for each in before if vm("beta") not in each and each not in left(made)] == []
        mend(made)
        made.run(WHILE)
        assert is_gone(made, "beta")
        assert [each for each in before if vm("beta") not in each and each not in left(made)] == []


# --- giving up ---


def test_an_abandoned_deployment_goes_without_a_call() -> None:
    calls = Calls()
    with world(calls) as made:
        up(made, "alpha")
        fault(made, "permission-denied", permission="*")
        made.delete("alpha")
        made.run(WHILE)
        before, count = left(made), len(calls.made)
        uid = made.kube.objects[NAMESPACE, "alpha"]["metadata"]["uid"]
        made.kube.annotate("alpha", ABANDON, uid, NAMESPACE)
        made.run(WHILE)
        assert is_gone(made, "alpha")
        assert (left(made), calls.made[count:]) == (before, [])
        ((kind, message),) = [(kind, said) for kind, why, said in made.kube.events if why == "Abandoned"]
        assert kind == "Warning"
        for part in (vm("alpha"), "us-central1-a", "bucket", "topic", "firewall rule", "function"):
            assert part in message


def test_an_annotation_with_another_uid_does_nothing_and_is_told() -> None:
    with world() as made:
        up(made, "alpha")
        fault(made, "permission-denied", permission="*")
        made.delete("alpha")
        made.kube.annotate("alpha", ABANDON, "uid-of-another", NAMESPACE)
        made.run(WHILE)
        assert not is_gone(made, "alpha")
        uid = made.kube.objects[NAMESPACE, "alpha"]["metadata"]["uid"]
        assert f"has to be {uid}" in made.kube.condition("alpha", "Stalled")[2]


def test_what_is_not_being_deleted_cannot_be_abandoned() -> None:
    with world() as made:
        up(made, "alpha")
        uid = made.kube.objects[NAMESPACE, "alpha"]["metadata"]["uid"]
        made.kube.annotate("alpha", ABANDON, uid, NAMESPACE)
        made.passes.add((NAMESPACE, "alpha"), made.clock.monotonic())
        made.run(WHILE)
        assert is_ready(made, "alpha")
