"""What lies in the buckets that `spec.predictor.gcs` names: one look for each address, believed for a while.

What is taken of it is decided in `core.copied`. At rest all addresses share a fixed number of looks a minute,
so that the calls do not grow with the deployments. A look that fails is made again after growing pauses, by
whichever pass comes first; until then every pass is told why it failed.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from budget_operator.core.backoff import Backoff
from budget_operator.core.copied import FIELD, LOOK_AT_MOST, Address
from budget_operator.core.errors import BudgetError, InvalidSpec, NotFound, ReferenceMissing
from budget_operator.core.gateways import Storage
from budget_operator.core.observed import Listed

LOOK_EVERY = timedelta(minutes=1)
#: At all addresses together, for deployments at rest.
LOOKS_A_MINUTE = 20
FIRST_PAUSE, LONGEST_PAUSE = timedelta(seconds=10), timedelta(minutes=5)
#: An address that nobody has asked for as long as this is forgotten.
FORGOTTEN_AFTER = timedelta(hours=2)
_PAUSES = "tried again with growing pauses, a new spec at once"


@dataclass
class _Look:
    """At one address. `at`: when it last found something."""

    asked: datetime
    backoff: Backoff
    lock: threading.Lock = field(default_factory=threading.Lock)
    at: datetime | None = None
    found: tuple[Listed, ...] = ()


class Buckets:
    """Of all deployments. Safe to share between workers."""

    def __init__(self, storage: Storage, own: str, clock: Callable[[], datetime]) -> None:
        self._storage = storage
        self._own = own  # the installation's bucket: others' code lies in it
        self._clock = clock
        self._lock = threading.Lock()
        self._looks: dict[str, _Look] = {}
        self._minute, self._spent = clock(), 0  # since when which looks at rest are counted

    def listed(self, address: Address, *, resting: bool) -> tuple[Listed, ...]:
        """The objects at the address, in the order of their names. `resting`: nobody waits for news of it.

        Raises:
            InvalidSpec: it is the installation's own bucket.
            ReferenceMissing: there is no such bucket.
            BudgetError: it could not be looked at.
        """
        if address.bucket == self._own:
            raise InvalidSpec(f"{FIELD}: {self._own} is the installation's own bucket; take another one")
        look = self._look_at(address.text)
        with look.lock:
            if look.at is None or self._is_due(look.at, resting=resting):
                look.backoff.longest = max(LONGEST_PAUSE, self._turn())
                look.found = look.backoff.call(lambda: self._ask(address))
                look.at = self._clock()
            return look.found

    def forget(self, address: Address) -> None:
        """Whatever is known of it: whoever asks next gets a new look."""
        with self._lock:
            self._looks.pop(address.text, None)

    def _look_at(self, address: str) -> _Look:
        now = self._clock()
        with self._lock:
            if address not in self._looks:
                kept = self._looks.items()
                self._looks = {text: look for text, look in kept if now - look.asked <= FORGOTTEN_AFTER}
                self._looks[address] = _Look(now, Backoff(self._clock, FIRST_PAUSE))
            look = self._looks[address]
            look.asked = now
            return look

    def _turn(self) -> timedelta:
        """How long it takes until each address has had its turn."""
        return max(LOOK_EVERY, timedelta(minutes=len(self._looks) / LOOKS_A_MINUTE))

    def _is_due(self, at: datetime, *, resting: bool) -> bool:
        now = self._clock()
        if not resting:
            return now - at >= LOOK_EVERY
        return now - at >= self._turn() and self._spend(now)

    def _spend(self, now: datetime) -> bool:
        """Take one of this minute's looks, if there is one left."""
        with self._lock:
            if now - self._minute >= LOOK_EVERY:
                self._minute, self._spent = now, 0
            self._spent += 1
            return self._spent <= LOOKS_A_MINUTE

    def _ask(self, address: Address) -> tuple[Listed, ...]:
        try:
            return self._storage.listed(FIELD, address.bucket, address.path, LOOK_AT_MOST)
        except NotFound:
            raise ReferenceMissing(f"{FIELD}: there is no bucket {address.bucket}", retry=_PAUSES) from None
        except BudgetError as error:
            error.retry = _PAUSES
            raise
