"""The shared inventory: one picture of everything of this installation, for all deployments together.

Four lists and six look-ups per picture, however many deployments there are. Nothing is taken for absent
because it could not be seen: without instances and addresses there is no picture, and every other part that
fails is named in `unknown`, so that an outage of one service does not hide what the others show. Which parts
belong to whom is decided by `reconcile.observe`.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from budget_operator.core.errors import BudgetError
from budget_operator.core.gateways import Compute, Functions, PubSub, Scheduler, Storage
from budget_operator.core.names import LABEL_INSTALLATION, Shared
from budget_operator.core.observed import Inventory
from budget_operator.core.ownership import OWNER_OBJECT

T = TypeVar("T")

PREEMPTION_WINDOW = timedelta(days=14)  # Google forgets operations after about two weeks


@dataclass(frozen=True)
class Gateways:
    """The five services a picture is taken of."""

    compute: Compute
    storage: Storage
    pubsub: PubSub
    scheduler: Scheduler
    functions: Functions


class Inventories:
    """`core.gateways.Snapshots`: a picture is shared for `max_age`; one is taken at a time."""

    def __init__(
        self,
        gateways: Gateways,
        installation: str,
        clock: Callable[[], datetime],  # the steady one; also of `newer_than` and `taken_at`
        wall: Callable[[], datetime],
        max_age: timedelta = timedelta(seconds=5),
    ) -> None:
        self._gateways = gateways
        self._shared = Shared(installation)
        self._clock = clock
        self._wall = wall
        self._max_age = max_age
        self._looking = threading.Lock()  # held while a picture is taken
        self._state = threading.Lock()  # guards what follows; never held during a call
        self._cached: Inventory | None = None
        self._ended = datetime.min.replace(tzinfo=UTC)  # of the cached picture
        self._forgotten = 0
        self._attempts = 0
        self._failure: tuple[int, BudgetError] | None = None

    def snapshot(self, newer_than: datetime | None = None) -> Inventory:
        """A picture ended within `max_age`, begun after the last `forget` and not before `newer_than`."""
        with self._state:
            begun_before_me = self._attempts
        with self._looking:
            self._raise_shared_failure(begun_before_me)
            return self._usable(newer_than) or self._take()

    def forget(self) -> None:
        """Something was changed: no picture begun before now is used again."""
        with self._state:
            self._cached = None
            self._forgotten += 1

    def _raise_shared_failure(self, begun_before_me: int) -> None:
        """Do not let every waiting deployment run into the same time-out, one after another."""
        with self._state:
            failure = self._failure
        if failure is not None and failure[0] > begun_before_me:
            raise failure[1]

    def _usable(self, newer_than: datetime | None) -> Inventory | None:
        with self._state:
            cached, ended = self._cached, self._ended
        # Counted from the end: when a service is slow, a picture would be too old before it is whole.
        if cached is None or self._clock() - ended >= self._max_age:
            return None
        return cached if newer_than is None or cached.taken_at >= newer_than else None

    def _take(self) -> Inventory:
        with self._state:
            self._attempts += 1
            attempt, forgotten = self._attempts, self._forgotten
        try:
            taken = self._look(self._clock())
        except BudgetError as error:
            with self._state:
                self._failure = (attempt, error)
            raise
        with self._state:
            if forgotten == self._forgotten:
                self._cached, self._ended = taken, self._clock()
        return taken

    def _look(self, now: datetime) -> Inventory:
        services, shared = self._gateways, self._shared
        instances = services.compute.instances(LABEL_INSTALLATION, shared.hash)
        addresses = services.compute.addresses(LABEL_INSTALLATION, shared.hash)
        problems: dict[str, BudgetError] = {}
        since = self._wall() - PREEMPTION_WINDOW
        preemptions = _try(problems, "preemptions", lambda: services.compute.preemptions(since))
        incomplete = {"preemptions"} if preemptions is not None and preemptions.unknown else set()
        picture = Inventory(
            taken_at=now,
            instances=instances.items,
            addresses=addresses.items,
            preemptions=() if preemptions is None else preemptions.items,
            bucket=_try(problems, "bucket", services.storage.bucket),
            owner=_try(problems, "owner", lambda: services.storage.read(OWNER_OBJECT)),
            # In this order: a function that was ACTIVE before the topic was looked at has subscribed to it.
            function=_try(problems, "function", lambda: services.functions.function(shared.keep_alive)),
            topic=_try(problems, "topic", lambda: services.pubsub.topic(shared.keep_alive)),
            job=_try(problems, "job", lambda: services.scheduler.job(shared.keep_alive)),
            firewall=_try(problems, "firewall", lambda: services.compute.firewall(shared.firewall)),
            problems=problems,
        )
        return replace(picture, unknown=instances.unknown | addresses.unknown | incomplete | set(problems))


def _try(problems: dict[str, BudgetError], part: str, look: Callable[[], T | None]) -> T | None:
    """What was seen; a failure is noted under the part's name."""
    try:
        return look()
    except BudgetError as error:
        problems[part] = error
        return None
