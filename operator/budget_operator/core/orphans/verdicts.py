"""Who owns what was seen: a BudgetDeployment, nobody, or nobody on purpose.

What cannot be told is never called an orphan: without a VM that shows it, nothing tells an orphan from what
was retained, so a zone that does not answer hides that of everything whose VM may be there.
"""

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import cached_property

from budget_operator.core.names import (
    LABEL_DELETION,
    METADATA_OWNER,
    RETAIN,
    Owner,
    Shared,
    key_in,
    key_of,
)
from budget_operator.core.observed import Instance
from budget_operator.core.orphans.model import Found, Kind, Report, Resource, Seen, Verdict, resources
from budget_operator.core.orphans.pricing import Pricing
from budget_operator.core.prices.model import PriceList

#: What is younger than this may still get its object: a cluster is being restored, or somebody is at work. So
#: may everything in an installation that the cluster has not had for longer.
GRACE = timedelta(minutes=15)


def report(seen: Seen, shared: Shared, prices: PriceList, now: datetime) -> Report:
    """All that is marked and not owned; `now` is the wall clock's."""
    judge, pricing = Judge(seen, shared, now), Pricing(seen, prices)
    found = []
    for each in resources(seen, shared):
        judged = judge.verdict(each)
        if judged is not None:
            found.append(Found(each, *judged, pricing.monthly(each)))
    return Report(tuple(found), seen)


class Judge:
    """Of what was seen once."""

    def __init__(self, seen: Seen, shared: Shared, now: datetime) -> None:
        self._seen = seen
        self._shared = shared
        self._now = now

    def verdict(self, of: Resource) -> tuple[Verdict, str] | None:
        """With the reason; None: a BudgetDeployment owns it."""
        if not of.ours:
            return Verdict.COPY, "has our mark, but no name that the operator gives: it is left alone"
        return self._of_one(of) if of.key else self._of_all(of)

    def _of_one(self, of: Resource) -> tuple[Verdict, str] | None:
        if of.key in self._owners and not of.loose:
            return None
        if of.key in self._retained:
            return Verdict.RETAINED, f"{self._name(of)} was deleted with spec.deletionPolicy: Retain"
        if of.key not in self._owners and of.key not in self._shown and self._seen.silent:
            silent = self._seen.silent[0]
            return Verdict.UNKNOWN, f"{silent} does not answer: what it belongs to may be there"
        if self._is_new(of):
            return Verdict.NEW, f"not older than {GRACE.seconds // 60} minutes"
        if of.key in self._owners:
            return Verdict.ORPHAN, f"of {self._name(of)}, and no VM has it"
        return Verdict.ORPHAN, f"there is no {self._name(of)}"

    def _of_all(self, of: Resource) -> tuple[Verdict, str] | None:
        if self._seen.owners:
            return None
        if self._retained:
            return Verdict.RETAINED, "what was retained lives by it"
        if self._seen.silent:
            return Verdict.UNKNOWN, f"{self._seen.silent[0]} does not answer: what lives by it may be there"
        if self._is_new(of) or self._is_any_new:
            return Verdict.NEW, f"there is something not older than {GRACE.seconds // 60} minutes"
        return Verdict.ORPHAN, "there is no BudgetDeployment"

    def _is_new(self, of: Resource) -> bool:
        """What an object may still come for; or a VM, for a disk of an object that is there."""
        times = [of.created, self._seen.since]
        if of.key in self._owners:
            times.append(of.detached)
        return any(time is not None and self._now - time < GRACE for time in times)

    @cached_property
    def _is_any_new(self) -> bool:
        return any(each.key and each.ours and self._is_new(each) for each in self._resources)

    @cached_property
    def _resources(self) -> tuple[Resource, ...]:
        return tuple(resources(self._seen, self._shared))

    @cached_property
    def _owners(self) -> Mapping[str, Owner]:
        return {owner.key: owner for owner in self._seen.owners}

    @cached_property
    def _shown(self) -> frozenset[str]:
        """The deployments whose VM can be seen."""
        return frozenset(each.key for each in self._resources if each.kind is Kind.INSTANCE and each.ours)

    @cached_property
    def _retained(self) -> frozenset[str]:
        """The deployments without an object whose VM says that it stays."""
        kept = [
            key_of(vm.labels)
            for vm in self._seen.inventory.instances
            if vm.labels.get(LABEL_DELETION) == RETAIN and key_in(vm.name) == key_of(vm.labels)
        ]
        return frozenset(kept) - self._owners.keys()

    @cached_property
    def _told(self) -> Mapping[str, Owner]:
        owners = (_owner(vm) for vm in self._seen.inventory.instances)
        return {owner.key: owner for owner in owners if owner is not None}

    def _name(self, of: Resource) -> str:
        owner = self._owners.get(of.key) or self._told.get(of.key)
        return f"BudgetDeployment {owner.namespace}/{owner.name}" if owner else "BudgetDeployment for it"


def _owner(vm: Instance) -> Owner | None:
    """Whom the VM names, if that is who its labels are of."""
    try:
        told = json.loads(vm.metadata[METADATA_OWNER])
        owner = Owner(*(str(told[word]) for word in ("installation", "namespace", "name")))
    except (KeyError, TypeError, ValueError):
        return None
    return owner if owner.owns(vm.labels) else None
