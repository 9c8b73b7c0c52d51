"""Which passes need not be made: those over a deployment at rest, while nothing about it changes. Pure.

A full pass notes what it was made of. As long as all of that is the same a quiet pass only asks the endpoint,
and looks at what may have changed; what it looks at, and how, is in `reconcile.calm`.
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from operator import attrgetter

from budget_operator.core.api import Status
from budget_operator.core.conditions import Type, find, is_true
from budget_operator.core.gateways import Door
from budget_operator.core.memory import OBJECTS_TRUSTED, Memory
from budget_operator.core.names import Owner
from budget_operator.core.observed import Contents, Instance, Inventory, Listed
from budget_operator.core.pause import STATES
from budget_operator.core.steps import Outcome

#: A pass that nothing asks for is made after a minute of rest, then every hour: what is looked at in full
#: passes alone is the deployment's key, and the rules of a newer operator.
FULL_AFTER = (timedelta(minutes=1), timedelta(hours=1))

# One list of the bucket serves all, and keeps to some two calls a minute, however many pages it has. With one
# page it is a little less than half a minute old at most, so that there is a new one with each picture.
LIST_PER_CALL = timedelta(seconds=28)
LIST_PAGE = 1000

# All of an instance; for its metadata stands their fingerprint.
_SHOWN = attrgetter(*(field.name for field in fields(Instance) if field.name != "metadata"))

Reference = tuple[str, str, str]  # "Secret" or "ConfigMap", namespace, name; "Objects", nothing, address
Digest = bytes
Part = tuple[object, ...]  # what of a picture is compared


@dataclass(frozen=True)
class Rest:
    """What the last full pass over a deployment at rest was made of."""

    at: datetime  # when it was made
    memory: Memory  # what is known of the deployment, now as then
    version: str  # of the object, as the pass left it
    part: Part  # of the picture
    references: Mapping[Reference, Digest]
    objects: Contents | None  # None: it did not look at them
    door: Door | None  # None: nothing is to answer
    revision: str | None
    passes: int  # full ones in a row that found rest
    until: datetime  # when the next one is due
    longest: timedelta  # between quiet passes


def pause(passes: int, jitter: float) -> timedelta:
    """From so many full passes in a row that found rest to the next one; `jitter` is between 0 and 1."""
    return FULL_AFTER[min(passes, len(FULL_AFTER)) - 1] * (0.8 + 0.2 * jitter)


def list_age(objects: int) -> timedelta:
    """For how long a list of so many objects does."""
    return min(max(1, math.ceil(objects / LIST_PAGE)) * LIST_PER_CALL, OBJECTS_TRUSTED)


def part(inventory: Inventory, owner: Owner) -> Part | None:
    """What of a picture concerns one deployment; None while some of it cannot be seen.

    It is compared as it is: a digest of it takes ten times as long.
    """
    if inventory.unknown or inventory.problems:
        return None
    name = owner.cloud_name
    instances = tuple(map(_SHOWN, inventory.instances_of(name)))
    return instances, inventory.addresses_of(name), inventory.power_of(name), inventory.shared


def content(found: Mapping[str, bytes] | None) -> Digest:
    """Of a Secret or ConfigMap, or of there being none."""
    return _digest(None if found is None else sorted(found.items()))


def objects(found: tuple[Listed, ...]) -> Digest:
    """Of what lies in a bucket."""
    return _digest(found)


def _digest(what: object) -> Digest:
    return hashlib.blake2b(repr(what).encode(), digest_size=16).digest()


def is_settled(status: Status, generation: int) -> bool:
    """Whether it is as this spec wants it: it serves, or is off on purpose."""
    reconciling = find(status.conditions, Type.RECONCILING)
    still = reconciling is not None and reconciling.status == "False"
    return still and not is_true(status.conditions, Type.STALLED) and status.observed_generation == generation


def is_at_rest(after: Status, generation: int, outcome: Outcome, memory: Memory, target: str | None) -> bool:
    """Whether a pass found nothing to do, nothing to wait for but an edit, and nothing in trouble."""
    told = after.observed_generation == generation and after.instance is None
    still = told and not is_true(after.conditions, Type.RECONCILING)
    idle = not (outcome.acted or outcome.open or outcome.problems or outcome.unseen or outcome.intent)
    return (
        still and idle and outcome.after is None and _is_calm(memory) and _is_as_can_be(after, memory, target)
    )


def serves(after: Status, memory: Memory) -> bool:
    """Whether an endpoint answers, which has to be asked again and again."""
    return is_true(after.conditions, Type.READY) and memory.probe_ok and memory.door is not None


def _is_as_can_be(after: Status, memory: Memory, target: str | None) -> bool:
    """It serves what it should, or is off on purpose; or, stalled, it serves what it did before, or was never
    made."""
    if after.state in STATES:
        return True
    if is_true(after.conditions, Type.STALLED):
        return serves(after, memory) or after.zone is None
    right = target is not None and after.revision.active == target
    return right and serves(after, memory) and memory.objects is not None


def _is_calm(memory: Memory) -> bool:
    moving = memory.operations or memory.troubles or memory.refused or memory.motion_since or memory.unmetered
    return not moving and memory.failing_since is None
