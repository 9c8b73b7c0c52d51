"""Meters what a deployment really cost, and keeps its ledger in the bucket. What is metered, and how, is
decided by `core.cost`.

The ledger is read once for each process and deployment. It is written when something has ended, when a
deployment has come to rest otherwise than it was, and in a new month: a deployment at rest costs no call.
"""

import logging
from datetime import datetime

from budget_operator.core.cost import ledger, marks, meter
from budget_operator.core.cost.ledger import Account, Month, Stored
from budget_operator.core.cost.meter import Sight
from budget_operator.core.cost.stretches import Book, joined
from budget_operator.core.errors import BudgetError, NotFound, PreconditionFailed, Unavailable
from budget_operator.core.memory import Memory
from budget_operator.core.names import Owner
from budget_operator.core.observed import PowerEvent
from budget_operator.core.steps import Observation
from budget_operator.reconcile.execution import Means

log = logging.getLogger(__name__)

TRIES = 3  # at an object that somebody else writes as well
CONTENT_TYPE = "application/json"


class Metering:
    """Of one pass over one deployment."""

    def __init__(self, means: Means, owner: Owner, memory: Memory) -> None:
        self._means = means
        self._name = owner.cloud_name
        self._memory = memory

    def look(self, seen: Observation, now: datetime) -> Book:
        """Everything this month; nothing is written yet.

        Raises:
            BudgetError: it is not known now. It is tried again in the next pass.
        """
        memory = self._memory
        memory.unmetered = True
        try:
            account = self._load(seen, now) if memory.account is None else memory.account
            memory.account = self._seen(account, seen, now)
        except BudgetError as error:
            self._note(error)
            raise
        return memory.account.book

    def keep(self, now: datetime, *, settled: bool) -> None:
        """Write what has to be, after a look. `settled`: nothing is in motion."""
        memory = self._memory
        assert memory.account is not None
        try:
            memory.account, memory.unmetered = self._stored(memory.account, Month.of(now), settled=settled)
            memory.ledger_trouble = ""
        except BudgetError as error:
            self._note(error)

    def _note(self, error: BudgetError) -> None:
        if error.message != self._memory.ledger_trouble:
            log.warning("the ledger is not up to date: %s", error.message)
        self._memory.ledger_trouble = error.message

    def _load(self, seen: Observation, now: datetime) -> Account:
        """This month's, or what the last one says that went on."""
        month, inventory = Month.of(now), seen.inventory
        if "bucket" in inventory.unknown:
            raise inventory.problems.get("bucket") or Unavailable("the bucket could not be looked at")
        if inventory.bucket is None:
            return Account(month)
        found = self._read(month.name)
        if found.generation:
            return Account(month, found.page, {month.name: found})
        for name in ledger.months(self._name, self._names()):
            if name < month.name:
                found = self._read(name)
                return Account(Month.named(name), found.page, {name: found})
        return Account(month)

    def _names(self) -> tuple[str, ...]:
        try:
            return tuple(self._means.cloud.storage.objects(ledger.prefix(self._name)))
        except NotFound:
            return ()

    def _read(self, month: str) -> Stored:
        found = self._means.cloud.storage.read(ledger.object_name(self._name, month))
        return Stored() if found is None else Stored(found.generation, ledger.load(found.data))

    def _seen(self, account: Account, seen: Observation, now: datetime) -> Account:
        silent = any("/" in scope for scope in seen.inventory.unknown)
        sight = Sight(now, seen.instances, seen.addresses, whole=not silent)
        horizon = account.horizon.begin
        unclear = meter.unclear(account.book, sight, horizon)
        events = {each: self._events(each, since, now) for each, since in unclear.items()}
        book = meter.metered(account.book, sight.telling(events), self._means.prices(), horizon)
        return account.knowing(book)

    def _events(self, instance_id: str, since: datetime, now: datetime) -> tuple[PowerEvent, ...]:
        found = self._means.cloud.compute.power_events(instance_id)
        if found.unknown:
            raise Unavailable(f"{min(found.unknown)} does not tell what happened to its VMs")
        noted = None
        if now - since > marks.REMEMBERED:
            noted = self._means.cloud.storage.read(marks.object_name(self._name))
        return found.items if noted is None else marks.older(marks.read(noted.data, instance_id), found.items)

    def _stored(self, account: Account, month: Month, *, settled: bool) -> tuple[Account, bool]:
        """With what had to be written, and whether something still has to be."""
        due = account.due(month)
        if not settled and not any(account.has_ended(name, page) for name, page in due.items()):
            return account, bool(due)
        for name, page in due.items():
            account = self._write(account, name, page)
        return account.turned(month), False

    def _write(self, account: Account, name: str, page: Book) -> Account:
        """Over what was read; what somebody else wrote meanwhile is kept."""
        place, storage = ledger.object_name(self._name, name), self._means.cloud.storage
        for _ in range(TRIES):
            self._means.fence()
            try:
                data, generation = ledger.dump(name, page), account.generation(name)
                return account.holding(
                    name, Stored(storage.write(place, data, CONTENT_TYPE, generation), page)
                )
            except PreconditionFailed as error:
                stale = error
            found = self._read(name)
            page = joined(found.page, page)
            account = account.knowing(joined(account.book, found.page)).holding(name, found)
        raise stale
