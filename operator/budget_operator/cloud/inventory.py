"""The shared inventory: one picture of everything of this installation, for all deployments together.

Three lists and five look-ups per picture, however many deployments there are. A failing call fails the
picture: nothing may be taken for absent because it could not be seen. Which parts belong to whom is decided
by `core.plan`.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from budget_operator.core.errors import BudgetError
from budget_operator.core.gateways import Compute, Functions, PubSub, Scheduler, Storage
from budget_operator.core.names import LABEL_INSTALLATION, Shared
from budget_operator.core.observed import Inventory

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
        clock: Callable[[], datetime],
        max_age: timedelta = timedelta(seconds=5),
    ) -> None:
        self._gateways = gateways
        self._shared = Shared(installation)
        self._clock = clock
        self._max_age = max_age
        self._looking = threading.Lock()  # held while a picture is taken
        self._state = threading.Lock()  # guards what follows; never held during a call
        self._cached: Inventory | None = None
        self._forgotten = 0
        self._attempts = 0
        self._failure: tuple[int, BudgetError] | None = None

    def snapshot(self, newer_than: datetime | None = None) -> Inventory:
        """A picture begun within `max_age`, after the last `forget`, and not before `newer_than`."""
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
            cached = self._cached
        if cached is None or self._clock() - cached.taken_at >= self._max_age:
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
                self._cached = taken
        return taken

    def _look(self, now: datetime) -> Inventory:
        services, shared = self._gateways, self._shared
        instances = services.compute.instances(LABEL_INSTALLATION, shared.hash)
        addresses = services.compute.addresses(LABEL_INSTALLATION, shared.hash)
        preemptions = services.compute.preemptions(now - PREEMPTION_WINDOW)
        return Inventory(
            taken_at=now,
            instances=instances.items,
            addresses=addresses.items,
            preemptions=preemptions.items,
            unknown=instances.unknown | addresses.unknown | preemptions.unknown,
            bucket=services.storage.bucket(),
            topic=services.pubsub.topic(shared.keep_alive),
            function=services.functions.function(shared.keep_alive),
            job=services.scheduler.job(shared.keep_alive),
            firewall=services.compute.firewall(shared.firewall),
        )
