"""What objects leave behind in a whole world: nothing, what is said to be on purpose, or orphans."""

import pytest

from budget_operator.core.api import ABANDON
from budget_operator.core.orphans import told
from budget_operator.core.orphans.model import End, Kind, Outcome, Report, Verdict
from budget_operator.core.orphans.verdicts import GRACE
from budget_operator.core.prices.table import shipped
from budget_operator.reconcile.clearing import Clearing
from budget_operator.reconcile.orphans import Survey
from dev.simulation.world import NAMESPACE, World, vm, world
from tests.simulation.scenes import WHILE, Calls, is_gone, is_ready, left, mend, outage, up

LONG = 2 * GRACE.total_seconds()


def survey(made: World) -> Survey:
    assert made.operator is not None
    return Survey(made.settings, made.kube, made.operator.common.means, shipped)


def clear(made: World, report: Report) -> list[Outcome]:
    assert made.operator is not None
    return list(Clearing(survey(made), made.operator.common.means, report, made.run).run())


def forsake(made: World, name: str) -> None:
    """Somebody removes the finalizer by hand while no operator looks."""
    del made.kube.objects[NAMESPACE, name]
    made.kube.collect_garbage()


def test_a_deployment_that_serves_and_one_that_has_gone_leave_no_orphan() -> None:
    with world() as made:
        up(made, "alpha", "beta")
        made.delete("beta")
        made.run(LONG)
        assert survey(made).whole().found == ()
        made.delete("alpha")
        made.run(LONG)
        assert survey(made).whole().found == ()


def test_looking_changes_nothing_and_makes_as_many_calls_however_many_deployments_there_are() -> None:
    counts = []
    for names in (("a",), ("a", "b", "c")):
        calls = Calls()
        with world(calls) as made:
            up(made, *names)
            made.run(LONG)
            looks = len(made.cloud.context.journal.entries(limit=1_000_000))
            changes = len(calls.made)
            assert survey(made).at_rest().found == ()
            counts.append(len(made.cloud.context.journal.entries(limit=1_000_000)) - looks)
            assert len(calls.made) == changes
    assert counts[0] == counts[1] <= 12


@pytest.mark.parametrize("others", [("beta",), ()])
def test_what_a_lost_object_leaves_is_found_and_deleted_and_nothing_else(others: tuple[str, ...]) -> None:
    with world() as made:
        up(made, "alpha", *others)
        forsake(made, "alpha")
        made.run(LONG)
        report = survey(made).whole()
        of_one = {Kind.INSTANCE, Kind.DISK, Kind.ADDRESS, Kind.OBJECTS}
        assert {each.resource.kind for each in report.orphans} == (of_one if others else set(Kind))
        outcomes = clear(made, report)
        assert {each.end for each in outcomes} == {End.DELETED, End.GONE}
        assert told.exit_code(report, outcomes) == told.ALL_WELL
        made.run(WHILE)
        assert [each for each in left(made) if vm("alpha") in each and not each.startswith("secret")] == []
        assert all(is_ready(made, name) for name in others)
        assert survey(made).whole().found == ()


def test_a_vm_that_the_keep_alive_starts_again_meanwhile_is_deleted_all_the_same() -> None:
    with world() as made:
        up(made, "alpha")
        forsake(made, "alpha")
        made.run(LONG)
        report = survey(made).whole()
        made.preempt("alpha")
        made.run(150)
        assert {each.end for each in clear(made, report)} <= {End.DELETED, End.GONE}
        assert [each for each in left(made) if each.startswith("compute.")] == []


def test_what_was_retained_is_said_to_be_and_can_be_had_again() -> None:
    with world() as made:
        up(made, "alpha", deletionPolicy="Retain")
        made.delete("alpha")
        made.run(LONG)
        assert is_gone(made, "alpha")
        report = survey(made).whole()
        assert {each.verdict for each in report.found} == {Verdict.RETAINED}
        assert clear(made, report) == []
        up(made, "alpha")
        made.run(WHILE)
        forsake(made, "alpha")
        made.run(LONG)
        assert {each.verdict for each in survey(made).whole().found} == {Verdict.ORPHAN}, "it says so no more"


def test_what_was_given_up_is_found_once_the_cloud_answers_again() -> None:
    with world() as made:
        up(made, "alpha")
        outage(made)
        made.delete("alpha")
        made.run(WHILE)
        uid = made.kube.objects[NAMESPACE, "alpha"]["metadata"]["uid"]
        made.kube.annotate("alpha", ABANDON, uid)
        made.run(LONG)
        assert is_gone(made, "alpha")
        mend(made)
        report = survey(made).whole()
        assert {each.verdict for each in report.found} == {Verdict.ORPHAN}
        clear(made, report)
        assert [each for each in left(made) if not each.startswith("secret")] == []


def test_an_object_that_is_applied_again_while_its_orphans_go_is_served() -> None:
    with world() as made:
        up(made, "alpha")
        forsake(made, "alpha")
        made.run(LONG)
        report = survey(made).whole()
        made.apply("alpha")
        assert {each.end for each in clear(made, report)} == {End.LEFT}
        made.run(WHILE)
        assert is_ready(made, "alpha")
