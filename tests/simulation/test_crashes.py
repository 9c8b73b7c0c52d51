"""For every call that a create, an update and a delete make: the operator dies there, or the answer is lost.

The end is always the same: one VM, one address, one keep-alive and the right status; after deletion nothing.

To die before a call that follows another one at the same moment is to die after that other one: the world and
what was written down are the same, and nothing else outlives the process. So that is played once, as the
latter.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import pytest

from dev.simulation import invariants
from dev.simulation.apiserver import CODE
from dev.simulation.trouble import Kind, Trouble
from dev.simulation.watch import Watch
from dev.simulation.world import ZONES, World, world
from localcloud.faults import parse
from localcloud.jumping import JumpingClock
from localcloud.store import Json

NAME = "alpha"
BEFORE = {"predictor": {"inline": CODE}}
AFTER = {"predictor": {"inline": f"{CODE}# changed\n"}, "machine": {"type": "e2-small", "diskGiB": 30}}
ANOTHER = {"predictor": {"inline": CODE}, "machine": {"provisioning": "Standard"}}
ELSEWHERE = {"predictor": {"inline": CODE}, "placement": {"zones": [ZONES[1]]}}
ASLEEP = {"predictor": {"inline": CODE}, "suspend": True}
EDITED = {"predictor": {"inline": f"{CODE}# edited meanwhile\n"}}
INSERT = "compute.instances.create"
DETAILED = "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS"
ENOUGH = 1800.0
WHILE = 600.0
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
    """Code, machine type and disk, on the same VM."""
    made.apply(NAME, AFTER)


def replace_vm(made: World) -> None:
    made.apply(NAME, ANOTHER)


def move(made: World) -> None:
    """The VM's zone is off the list and sold out when it is to be started again."""
    made.apply(NAME, ELSEWHERE)
    made.cloud.context.faults.add(parse({"kind": "stock-out", "zone": ZONES[0]}), made.clock.now())
    made.preempt(NAME)


def suspend(made: World) -> None:
    made.apply(NAME, ASLEEP)


def resume(made: World) -> None:
    """A changed deployment that was suspended; the calls of both are met."""
    made.apply(NAME, ASLEEP)
    made.run(120)
    made.apply(NAME, AFTER)


def leave(made: World) -> None:
    """Its zone, the preferred one, is sold out."""
    made.cloud.context.faults.add(parse({"kind": "stock-out", "zone": ZONES[0]}), made.clock.now())
    made.preempt(NAME)


def stay(made: World) -> None:
    """So is the other one, for a while: half-way the move goes back."""
    faults = made.cloud.context.faults
    faults.add(parse({"kind": "stock-out", "zone": ZONES[0], "code": DETAILED}), made.clock.now())
    faults.add(parse({"kind": "stock-out", "zone": ZONES[1], "when": "request"}), made.clock.now())
    made.preempt(NAME)
    made.run(120)
    faults.clear()


def upgrade(made: World) -> None:
    """Another operator, with another image."""
    made.settings = replace(made.settings, image="registry/server:2")
    made.restart()


def delete(made: World) -> None:
    made.delete(NAME)


def edited(made: World) -> None:
    """An edit while the create is under way."""
    create(made)
    made.run(8)
    made.apply(NAME, EDITED)


@dataclass(frozen=True)
class Story:
    """`vms`: how many are made in all. `kept`: at no time is there none."""

    act: Callable[[World], None]
    wanted: Json | None
    served: bool = True
    """Whether the deployment is there and serves before."""
    vms: int = 1
    kept: bool = True

    def __str__(self) -> str:
        return self.act.__name__


CREATE = Story(create, BEFORE, served=False, kept=False)
EDIT = Story(edited, EDITED, served=False, kept=False)
UPDATE = Story(update, AFTER)
DELETE = Story(delete, None, kept=False)
RECREATE = Story(replace_vm, ANOTHER, vms=2, kept=False)
MOVE = Story(move, ELSEWHERE, vms=2)
SUSPEND = Story(suspend, ASLEEP)
CHANGES = (
    SUSPEND,
    Story(resume, AFTER),
    Story(leave, BEFORE, vms=2),
    Story(stay, BEFORE),
    Story(upgrade, BEFORE),
)
KINDS = [kind for kind in Kind if kind is not Kind.RIVAL]
ALL = [
    *((story, kind) for story in (CREATE, UPDATE, DELETE) for kind in KINDS),
    *((story, kind) for story in (RECREATE, MOVE) for kind in (Kind.CRASH_AFTER, Kind.ANSWER_LOST)),
    *((story, Kind.CRASH_AFTER) for story in (*CHANGES, EDIT) if story is not SUSPEND),
]
"""What also befalls the other changes is left to random histories: each of these plays for half a minute.
`resume` meets all calls of `suspend`."""


@pytest.mark.parametrize(("story", "kind"), ALL, ids=str)
def test_wherever_it_strikes_the_end_is_the_same(story: Story, kind: Kind) -> None:
    moments = undisturbed(story)
    assert 1 < len(moments) < MOST_CALLS
    for number, moment in enumerate(moments):
        if kind is Kind.CRASH_BEFORE and number and moment == moments[number - 1]:
            continue  # it died after the call before that one
        with played() as (made, trouble):
            watch = begun(story, made)
            trouble.plan(kind, number)
            story.act(made)
            made.run(ENOUGH)
            if trouble.kind is not None:
                assert math.isnan(moment), f"call {number} was not met"
                continue  # the function made it, which does not crash
            ends_well(story, made, watch, f"call {number}: {trouble.struck}")


def undisturbed(story: Story) -> list[float]:
    """When each call is made that can be met."""
    with played() as (made, trouble):
        watch = begun(story, made)
        before = len(trouble.calls)
        story.act(made)
        made.run(ENOUGH)
        assert watch.wrong == []
        return trouble.calls[before:]


def begun(story: Story, made: World) -> Watch:
    if story.served:
        create(made)
        made.run(ENOUGH)
    return Watch(made)


@pytest.mark.parametrize("story", (CREATE, EDIT, UPDATE, RECREATE, MOVE, DELETE, *CHANGES), ids=str)
def test_beside_a_second_operator_the_end_is_the_same(story: Story) -> None:
    with played() as (made, _):
        made.run_both(WHILE)
        if story.served:
            create(made)
            made.run(ENOUGH)
            made.run_both(WHILE)
        watch = Watch(made)
        story.act(made)
        made.run(WHILE + ENOUGH)
        ends_well(story, made, watch, "two operators")


def ends_well(story: Story, made: World, watch: Watch, what: str) -> None:
    """There never were two VMs that could serve, and all is as it should be; then it goes."""
    assert watch.wrong == [], what
    assert watch.least or not story.kept, what
    wanted = {NAME: story.wanted} if story.wanted else {}
    assert invariants.calm(made, wanted, frozenset()) == [], what
    made_vms = made.cloud.context.journal.entries(permission=INSERT, effective=True)
    assert len(made_vms) == story.vms, what
    made.delete(NAME)
    made.run(ENOUGH)
    assert invariants.calm(made, {}, frozenset()) == [], f"deleted, {what}"
    assert made.kube.objects == {}
