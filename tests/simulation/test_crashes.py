"""For every call that a create, an update and a delete make: the operator dies there, or the answer is lost.

The end is always the same: one VM, one address, one keep-alive and the right status; after deletion nothing.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from dev.simulation import invariants
from dev.simulation.apiserver import CODE
from dev.simulation.trouble import Kind, Trouble
from dev.simulation.world import World, world
from localcloud.jumping import JumpingClock
from localcloud.store import Json

Story = Callable[[World], None]
NAME = "alpha"
BEFORE = {"predictor": {"inline": CODE}}
AFTER = {"predictor": {"inline": f"{CODE}# changed\n"}, "machine": {"type": "e2-small", "diskGiB": 30}}
EDITED = {"predictor": {"inline": f"{CODE}# edited meanwhile\n"}}
INSERT = "compute.instances.create"
ENOUGH = 1800.0
#: More calls than any of the stories makes.
MOST_CALLS = 60


@contextmanager
def played() -> Iterator[tuple[World, Trouble]]:
    clock = JumpingClock()
    trouble = Trouble(clock)
    with world(trouble.carry, clock=clock) as made:
        made.kube.journal.fault = trouble.kubernetes
        yield made, trouble


def create(made: World) -> None:
    made.apply(NAME, BEFORE)


def update(made: World) -> None:
    create(made)
    made.run(ENOUGH)
    made.apply(NAME, AFTER)


def delete(made: World) -> None:
    create(made)
    made.run(ENOUGH)
    made.delete(NAME)


def edited(made: World) -> None:
    """An edit while the create is under way."""
    create(made)
    made.run(8)
    made.apply(NAME, EDITED)


WANTED: dict[Story, Json | None] = {create: BEFORE, update: AFTER, delete: None, edited: EDITED}


ALL = [(story, kind) for story in (create, update, delete) for kind in Kind if kind is not Kind.RIVAL]


@pytest.mark.parametrize(("story", "kind"), [*ALL, (edited, Kind.CRASH_AFTER)])
def test_wherever_it_strikes_the_end_is_the_same(story: Story, kind: Kind) -> None:
    struck = 0
    for number in range(MOST_CALLS):
        with played() as (made, trouble):
            trouble.plan(kind, number)
            story(made)
            made.run(ENOUGH)
            if trouble.kind is not None:
                break
            struck += 1
            wanted = WANTED[story]
            problems = invariants.calm(made, {NAME: wanted} if wanted else {}, frozenset())
            assert problems == [], f"call {number}: {trouble.struck}"
            made_vms = made.cloud.context.journal.entries(permission=INSERT, effective=True)
            assert len(made_vms) == 1, f"call {number}: {trouble.struck}"
            made.delete(NAME)
            made.run(ENOUGH)
            assert invariants.calm(made, {}, frozenset()) == [], f"deleted, call {number}: {trouble.struck}"
            assert made.kube.objects == {}
    assert 10 < struck < MOST_CALLS, "every call was met, and there was an end of them"
