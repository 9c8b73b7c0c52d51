"""The shared inventory: one picture of everything of this installation, for all deployments together.

Three lists and six look-ups per picture, however many deployments there are. Nothing is taken for absent
because it could not be seen: without instances and addresses there is no picture, and every other part that
fails is named in `unknown`, so that an outage of one service does not hide what the others show. Which parts
belong to whom is decided by `reconcile.observe`.
"""

import math
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from budget_operator.core.backoff import Backoff
from budget_operator.core.errors import BudgetError
from budget_operator.core.gateways import Compute, Functions, PubSub, Scan, Scheduler, Storage
from budget_operator.core.names import LABEL_INSTALLATION, Shared
from budget_operator.core.observed import Address, Instance, Inventory, PowerChange
from budget_operator.core.ownership import OWNER_OBJECT

# At rest there are at most 20 calls a minute, whether a list has one page or ten. With one page there is a
# picture every 30 s; with more it is one a minute, or even fewer. A little less than a minute, so that the
# endpoints, which are asked with each, are not asked too late.
REST_PER_CALL = timedelta(seconds=3)
REST_OF_MANY = timedelta(seconds=58)
LOOKS = 7  # calls besides the three lists: a topic is looked at with its subscriptions
PAGE = 500

# Of who waits for a picture; it may take longer or shorter than the last one did.
SHORTEST_WAIT, LONGEST_WAIT = timedelta(seconds=0.5), timedelta(seconds=5)

_THREADS = ThreadPoolExecutor(8, "picture")

POWER_WINDOW = timedelta(days=14)  # Google forgets operations after about two weeks


@dataclass(frozen=True)
class Gateways:
    """The five services a picture is taken of."""

    compute: Compute
    storage: Storage
    pubsub: PubSub
    scheduler: Scheduler
    functions: Functions


Look = Callable[[], object]


def one_after_another(looks: Iterable[Look]) -> None:
    """The way to look where everything happens in one thread."""
    for look in looks:
        look()


def at_once(looks: Iterable[Look]) -> None:
    """The way to look while thousands wait for the picture: it takes as long as its slowest part."""
    for seen in [_THREADS.submit(look) for look in looks]:
        seen.result()


class Inventories:
    """`core.gateways.Snapshots`: a picture is shared for `max_age`; one is taken at a time.

    `together` makes the looks of one picture, and may make them at the same time.
    """

    def __init__(
        self,
        gateways: Gateways,
        installation: str,
        clock: Callable[[], datetime],  # the steady one; also of `newer_than` and `taken_at`
        wall: Callable[[], datetime],
        max_age: timedelta = timedelta(seconds=5),
        together: Callable[[Iterable[Look]], None] = one_after_another,
    ) -> None:
        self._gateways = gateways
        self._shared = Shared(installation)
        self._clock = clock
        self._wall = wall
        self._max_age = max_age
        self._together = together
        self._looking = threading.Lock()  # held while a picture is taken
        self._state = threading.Lock()  # guards what follows; never held during a call
        self._cached: Inventory | None = None
        self._rest = max_age  # for how long the cached picture does for deployments at rest
        self._ended = datetime.min.replace(tzinfo=UTC)  # of the cached picture
        self._began = clock()  # of the last attempt
        self._took = timedelta(0)  # the last one that succeeded
        self._forgotten = 0
        self._backoff = Backoff(clock)  # only touched while a picture is taken

    def snapshot(self, newer_than: datetime | None = None) -> Inventory:
        """A picture ended within `max_age`, begun after the last `forget` and not before `newer_than`.

        Raises:
            BudgetError: there is none, or the last attempt failed a moment ago.
        """
        with self._looking:
            return self._usable(self._max_age, newer_than) or self._take()

    def resting(self) -> tuple[Inventory, timedelta]:
        """A picture that cost its calls long enough ago, or else a new one, and for how long it does; whoever
        comes meanwhile, and is not much too late, has the old one.
        """
        with self._state:
            age = self._rest
        found = self._usable(age) or (self._usable(2 * age) if self._looking.locked() else None)
        if found is None:
            with self._looking:
                found = self._usable(age) or self._take()
        with self._state:
            return found, max(timedelta(0), self._rest - (self._clock() - self._ended))

    def awaited(self, newer_than: datetime) -> timedelta | None:
        """For how long such a one would have to be waited for, because another is being taken, if that takes
        as long as the last one; None: not at all."""
        if not self._looking.locked() or self._usable(self._max_age, newer_than) is not None:
            return None
        with self._state:
            return min(max(self._began + self._took - self._clock(), SHORTEST_WAIT), LONGEST_WAIT)

    def forget(self) -> None:
        """Something was changed: no picture begun before now is used again."""
        with self._state:
            self._cached = None
            self._forgotten += 1

    def _usable(self, age: timedelta, newer_than: datetime | None = None) -> Inventory | None:
        with self._state:
            cached, ended = self._cached, self._ended
        # Counted from the end: when a service is slow, a picture would be too old before it is whole.
        if cached is None or self._clock() - ended >= age:
            return None
        return cached if newer_than is None or cached.taken_at >= newer_than else None

    def _take(self) -> Inventory:
        with self._state:
            forgotten, self._began = self._forgotten, self._clock()
        taken = self._backoff.call(lambda: self._look(self._clock()))
        with self._state:
            self._took = self._clock() - self._began
            if forgotten == self._forgotten:
                self._cached, self._ended, self._rest = taken, self._clock(), rest_of(taken)
        return taken

    def _look(self, now: datetime) -> Inventory:
        services, shared, since = self._gateways, self._shared, self._wall() - POWER_WINDOW
        found: dict[str, Any] = {}
        problems: dict[str, BudgetError] = {}

        def part(word: str, look: Callable[[], object]) -> Look:
            def noted() -> None:
                try:
                    found[word] = look()
                except BudgetError as error:
                    problems[word] = error

            return noted

        function = part("function", lambda: services.functions.function(shared.keep_alive))
        topic = part("topic", lambda: services.pubsub.topic(shared.keep_alive))
        self._together(
            (
                part("instances", lambda: services.compute.instances(LABEL_INSTALLATION, shared.hash)),
                part("addresses", lambda: services.compute.addresses(LABEL_INSTALLATION, shared.hash)),
                part("power", lambda: services.compute.power_changes(since)),
                part("bucket", services.storage.bucket),
                part("owner", lambda: services.storage.read(OWNER_OBJECT)),
                # In this order: a function that was ACTIVE before the topic was looked at listens to it.
                lambda: one_after_another((function, topic)),
                part("job", lambda: services.scheduler.job(shared.keep_alive)),
                part("firewall", lambda: services.compute.firewall(shared.firewall)),
            )
        )
        return _picture(now, found, problems)


def _picture(now: datetime, found: Mapping[str, Any], problems: dict[str, BudgetError]) -> Inventory:
    """Raises the error because of which there is none."""
    for word in ("instances", "addresses"):
        if word in problems:
            raise problems[word]
    instances: Scan[Instance] = found["instances"]
    addresses: Scan[Address] = found["addresses"]
    power: Scan[PowerChange] = found.get("power", Scan(()))
    incomplete = {"power"} if power.unknown else set()
    words = ("bucket", "owner", "function", "topic", "job", "firewall")
    return Inventory(
        taken_at=now,
        instances=instances.items,
        addresses=addresses.items,
        power=power.items,
        unknown=instances.unknown | addresses.unknown | incomplete | set(problems),
        problems=problems,
        **{word: found.get(word) for word in words},
    )


def rest_of(picture: Inventory) -> timedelta:
    """For how long a picture does for deployments at rest: as long as it keeps to so many calls a minute."""
    lists = (picture.instances, picture.addresses, picture.power)
    pages = [max(1, math.ceil(len(each) / PAGE)) for each in lists]
    paced = (LOOKS + sum(pages)) * REST_PER_CALL
    return paced if max(pages) == 1 else max(paced, REST_OF_MANY)
