"""What lies in the buckets that `spec.predictor.gcs` names: one look for each address, believed for a while.

What is taken of it is decided in `core.copied`. A look that fails is made again after growing pauses, by
whichever pass comes first; until then every pass is told why it failed.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from budget_operator.core.copied import FIELD, LOOK_AT_MOST, Address
from budget_operator.core.errors import BudgetError, InvalidSpec, NotFound, ReferenceMissing
from budget_operator.core.gateways import Storage
from budget_operator.core.observed import Listed

LOOK_EVERY = timedelta(minutes=1)
FIRST_PAUSE, LONGEST_PAUSE = timedelta(seconds=10), timedelta(minutes=5)
#: An address that nobody has asked for as long as this is forgotten.
FORGOTTEN_AFTER = timedelta(hours=2)
_PAUSES = "tried again with growing pauses, at least every five minutes"


@dataclass
class _Look:
    """At one address."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    asked: datetime | None = None
    due: datetime | None = None
    found: tuple[Listed, ...] = ()
    error: BudgetError | None = None
    failures: int = 0


class Buckets:
    """Of all deployments. Safe to share between workers."""

    def __init__(self, storage: Storage, own: str, clock: Callable[[], datetime]) -> None:
        self._storage = storage
        self._own = own  # the installation's bucket: others' code lies in it
        self._clock = clock
        self._lock = threading.Lock()
        self._looks: dict[str, _Look] = {}

    def listed(self, address: Address) -> tuple[Listed, ...]:
        """The objects at the address, in the order of their names.

        Raises:
            InvalidSpec: it is the installation's own bucket.
            ReferenceMissing: there is no such bucket.
            BudgetError: it could not be looked at.
        """
        if address.bucket == self._own:
            raise InvalidSpec(f"{FIELD}: {self._own} is the installation's own bucket; take another one")
        look = self._look_at(address.text)
        with look.lock:
            now = self._clock()
            if look.due is None or now >= look.due:
                self._renew(address, look, now)
            if look.error is not None:
                raise look.error.with_traceback(None)  # it has been raised before
            return look.found

    def _look_at(self, address: str) -> _Look:
        now = self._clock()
        with self._lock:
            for text, look in list(self._looks.items()):
                if look.asked is not None and now - look.asked > FORGOTTEN_AFTER:
                    del self._looks[text]
            look = self._looks.setdefault(address, _Look())
            look.asked = now
            return look

    def _renew(self, address: Address, look: _Look, now: datetime) -> None:
        try:
            look.found, look.error = self._ask(address), None
            look.failures, look.due = 0, now + LOOK_EVERY
        except BudgetError as error:
            error.retry = _PAUSES
            look.error = error
            look.due = now + min(FIRST_PAUSE * 2 ** min(look.failures, 16), LONGEST_PAUSE)
            look.failures += 1

    def _ask(self, address: Address) -> tuple[Listed, ...]:
        try:
            return self._storage.listed(FIELD, address.bucket, address.path, LOOK_AT_MOST)
        except NotFound:
            raise ReferenceMissing(f"{FIELD}: there is no bucket {address.bucket}") from None
