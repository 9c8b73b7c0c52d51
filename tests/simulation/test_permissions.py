"""The whole story with the roles in operator/deploy/iam and no permission more; and none of them is idle.

What the operator says where one is missing is in test_sentences, for each of them.
"""

from collections import defaultdict
from dataclasses import replace
from typing import Any

import pytest
import requests

from budget_operator.core.errors import PermissionDenied
from budget_operator.core.names import Owner
from budget_operator.core.orphans.model import End
from budget_operator.core.orphans.verdicts import GRACE
from budget_operator.core.prices.table import shipped
from budget_operator.reconcile.clearing import Clearing
from budget_operator.reconcile.orphans import Survey
from dev.conformance import bodies
from dev.simulation.apiserver import CODE
from dev.simulation.month import problems
from dev.simulation.sessions import calling_as
from dev.simulation.world import NAMESPACE, OPERATOR, PROJECT, ZONES, World, world
from localcloud.iam import Binding
from tests.simulation import buckets
from tests.simulation.acts import EVENTS, NAME, SPEC
from tests.simulation.roles import BOUND, account, confine, listed
from tests.simulation.scenes import WHILE, left, up

#: One of each kind: on the VM, another machine, another disk, another place, another way to be reached.
UPDATES: list[dict[str, Any]] = [
    {"requirements": ["numpy==2.1.0"]},
    {"server": {"threads": 8}},
    {"machine": {"type": "e2-standard-2"}},
    {"machine": {"diskGiB": 40}},
    {"machine": {"provisioning": "Standard"}},
    {"placement": {"zones": ["us-central1-b"]}},
    {"endpoint": {"staticIP": False}},
    {"keepAlive": {"schedule": "*/5 * * * *"}},
    {"suspend": True},
    {},
]


def live(made: World) -> None:
    """Everything that the operator does in the life of an installation."""
    for happens in EVENTS.values():
        happens(made)
        made.run(WHILE)
        made.cloud.context.faults.clear()
        made.run(WHILE)
    up(made, NAME)


def update_all(made: World) -> None:
    for update in UPDATES:
        made.apply(NAME, {**SPEC, **update})
        made.run(WHILE)
    assert problems(made, [NAME]) == []


def be_alone(made: World) -> None:
    """The operator alone, without ticks, resumes what is suspended."""
    before = made.settings
    made.settings = replace(before, schedule="0 0 1 1 *")
    made.restart()
    made.run(WHILE)
    EVENTS["suspend"](made)
    made.run(WHILE)
    made.settings = before


def be_away(made: World) -> None:
    """The function alone brings back what stops, and what is suspended."""
    made.restart()
    made.run(WHILE)
    for event in ("lose", "suspend"):
        made.operator = None
        EVENTS[event](made)
        made.run(300)
        made.restart()
        made.run(WHILE)
        assert problems(made, [NAME]) == []


def outlive(made: World) -> None:
    """Somebody keeps a disk, and its object goes: `budget-operator orphans --delete` finds and deletes it."""
    kept = bodies.spot_instance("kept") | {"labels": {}}
    owner = Owner(made.settings.installation, NAMESPACE, "gone")
    kept["disks"][0]["autoDelete"] = False
    kept["disks"][0]["initializeParams"] |= {"labels": dict(owner.labels), "diskName": owner.cloud_name}
    place = f"{made.settings.api_endpoint}/compute/v1/projects/{PROJECT}/zones/{ZONES[0]}/instances"
    requests.post(place, json=kept, timeout=10).raise_for_status()
    made.run(WHILE)
    requests.delete(f"{place}/kept", timeout=10).raise_for_status()
    made.run(2 * GRACE.total_seconds())
    assert made.operator is not None
    means = made.operator.common.means
    survey = Survey(made.settings, made.kube, means, shipped)
    with calling_as(OPERATOR):
        (found,) = Clearing(survey, means, survey.whole(), made.run).run()
        survey.at_rest()
    assert (found.end, found.found.resource.name) == (End.DELETED, owner.cloud_name)


def come_back(made: World) -> None:
    """A restored cluster adopts what is there, and in the end removes it."""
    old = made.kube
    made.kube = made.new_cluster(old.uid)
    made.kube.apply(NAME, old.objects[NAMESPACE, NAME]["spec"], NAMESPACE)
    made.kube.secrets.update(old.secrets)
    made.restart()
    made.run(WHILE)
    assert problems(made, [NAME]) == []
    made.delete(NAME)
    made.run(WHILE)
    assert left(made) == []


def asked(made: World) -> dict[str, set[str]]:
    """The permissions that each account was asked for."""
    found: dict[str, set[str]] = defaultdict(set)
    for entry in made.cloud.context.journal.entries(limit=1_000_000):
        found[entry.account].update(entry.demanded.split())
    return found


def test_the_roles_are_exactly_what_is_used() -> None:
    with world() as made:
        confine(made)
        live(made)
        be_alone(made)
        be_away(made)
        update_all(made)
        outlive(made)
        come_back(made)
        refused = [each for each in made.cloud.context.journal.entries(limit=1_000_000) if each.status == 403]
        assert refused == []
        used = asked(made)
        assert used.keys() == {account(name) for name in BOUND} | {""}, "users have no account"
        for name, roles in BOUND.items():
            granted = listed(*roles)
            assert used[account(name)] - granted == set(), f"{name} uses what its roles do not list"
            assert granted - used[account(name)] == set(), f"roles of {name} list what it never uses"


def machines(made: World) -> list[str]:
    return [each for each in left(made) if each.startswith("compute.")]


@pytest.mark.parametrize("role", BOUND["operator"])
def test_without_one_of_the_roles_it_is_told_and_what_serves_serves_on(role: str) -> None:
    with world(kept=1) as made:
        confine(made)
        up(made, NAME)
        there = machines(made)
        confine(made, without=role)
        made.passes.add_all(made.clock.monotonic())
        made.apply(NAME, {**SPEC, "requirements": ["numpy==2.1.0"]})
        made.run(WHILE)
        assert made.kube.condition(NAME, "Ready")[0] == "True"
        status, reason, message = made.kube.condition(NAME, "Stalled")
        assert (status, reason) == ("True", "PermissionDenied")
        assert any(permission in message for permission in listed(role))
        assert PermissionDenied.remedy in message
        assert machines(made) == there
        confine(made)
        made.run(WHILE)
        assert problems(made, [NAME]) == []


def test_a_bucket_of_a_user_needs_one_role_on_that_bucket() -> None:
    with world(kept=1) as made:
        confine(made)
        buckets.make(made, "models")
        buckets.put(made, "models", "iris/predictor.py", CODE)
        made.apply(NAME, {**SPEC, "predictor": {"gcs": "gs://models/iris/"}})
        made.run(WHILE)
        status, reason, message = made.kube.condition(NAME, "Ready")
        assert (status, reason) == ("False", "PermissionDenied")
        assert "spec.predictor.gcs: list gs://models/iris/" in message
        assert "storage.objects.list" in message
        assert PermissionDenied.remedy in message
        assert machines(made) == [], "nothing is paid for meanwhile"
        held = "projects/_/buckets/models"
        for place in (held, f"{held}/*"):
            binding = Binding(account=account("operator"), permissions=listed("operator-source"), on=place)
            made.cloud.context.iam.bind(binding)
        made.run(WHILE)
        assert made.kube.condition(NAME, "Ready")[0] == "True"
        asked_there = {
            permission
            for entry in made.cloud.context.journal.entries(limit=1_000_000)
            if entry.account == account("operator") and "/b/models/" in entry.path
            for permission in entry.demanded.split()
        }
        own = {"storage.objects.create"}  # in the installation's bucket, which the copy is written to
        assert asked_there - own == listed("operator-source")
