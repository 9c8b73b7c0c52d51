"""What a deployment's spec asks for, with all that it refers to: Secrets, ConfigMaps, buckets, key, zones.

Only the key is ever made here; what is done for the rest of it is `core.plan`'s.
"""

from dataclasses import dataclass, field

from budget_operator.core import desired as wishes
from budget_operator.core import placement
from budget_operator.core import status as statuses
from budget_operator.core.api import Spec, Status, parse_spec
from budget_operator.core.artifact import Login, build
from budget_operator.core.budget import Standing
from budget_operator.core.desired import Desired, Pause
from budget_operator.core.errors import BudgetError, InvalidSpec, Unavailable
from budget_operator.core.gateways import Document
from budget_operator.core.names import Owner, region_of
from budget_operator.core.observed import Instance, Inventory
from budget_operator.reconcile import inputs, observe
from budget_operator.reconcile.calm import References
from budget_operator.reconcile.common import Common


@dataclass(frozen=True)
class Wish:
    """What the spec asks for, as far as it can work."""

    spec: Spec | None = None
    desired: Desired | None = None
    token: str = field(default="", repr=False)
    stall: BudgetError | None = None
    hindrance: BudgetError | None = None  # nothing is wrong with the spec, but something could not be seen
    standing: Standing | None = None  # with its budget; None: it has none

    @property
    def pause(self) -> Pause | None:
        """Why nobody is to be answered."""
        return self.desired.pause if self.desired is not None else None

    @property
    def target(self) -> str | None:
        """The revision that is to serve."""
        return self.desired.artifact.revision if self.desired is not None else None


class Wishing:
    """Of one pass over one deployment. `document` is its object, `before` the status in it."""

    def __init__(
        self, common: Common, document: Document, owner: Owner, before: Status, references: References
    ) -> None:
        self._common = common
        self._settings = common.settings
        self._kube = common.kube
        self._means = common.means
        self._document = document
        self._owner = owner
        self._before = before
        self._references = references

    def read(self, inventory: Inventory | None) -> Wish:
        """Validate first: nothing is made for a spec that cannot work, nor while the cloud is not seen."""
        spec = None
        try:
            spec = parse_spec(self._document.get("spec"))
            zones = self._placed(inventory, spec)
            self._check_offers(inventory, spec, zones)
            source = inputs.read_source(
                self._references,
                self._document,
                spec,
                lambda: self._former_login(inventory, zones),
                self._references.listed,
            )
            key = inputs.held_key(self._kube, self._settings.system_namespace, self._owner)
            key = key or self._make_key(inventory, zones)
        except InvalidSpec as error:
            return Wish(spec, stall=error)
        except BudgetError as error:
            return Wish(spec, hindrance=error)
        name = f"{self._owner.namespace}/{self._owner.name}"
        artifact = build(spec, name, self._owner.cloud_name, source, key)
        wanted = wishes.build(self._settings, self._common.parts, self._owner, spec, zones, artifact, key)
        return Wish(spec, wanted, source.login.token)

    def _placed(self, inventory: Inventory | None, spec: Spec) -> tuple[str, ...]:
        """The zones in which the VM may be; where regions are given, those of one of them."""
        zones = placement.listed(spec, self._settings.zones)
        if zones is not None:
            return zones
        if inventory is None:
            raise statuses.SILENCE
        own = observe.own_instances(inventory, self._owner, ())
        instance = own[0] if own else None
        region = placement.bound(self._before, instance, observe.own_addresses(inventory, self._owner))
        try:
            offered = self._common.offers.zones(spec.machine.type)
        except BudgetError:
            if instance is None:
                raise
            return (instance.zone,)  # it is there, and nothing hangs on the others now
        if region:
            found = tuple(sorted(zone for zone in offered if region_of(zone) == region))
            return found or ((instance.zone,) if instance is not None else self._chosen(spec, offered))
        return self._chosen(spec, offered)

    def _chosen(self, spec: Spec, offered: frozenset[str]) -> tuple[str, ...]:
        model = wishes.PROVISIONING_MODELS[spec.machine.provisioning]
        asked = (offered, spec.machine.type, model, self._means.clock())
        full = self._means.capacity.ruled_out(*asked) | self._means.capacity.sold_out(*asked).keys()
        return placement.chosen(spec, self._means.prices(), offered, full)

    def _check_offers(self, inventory: Inventory | None, spec: Spec, zones: tuple[str, ...]) -> None:
        if inventory is None:  # then nothing is made either
            return
        instances = observe.own_instances(inventory, self._owner, zones)
        self._common.offers.check(spec, zones, instances[0] if instances else None)

    def _make_key(self, inventory: Inventory | None, zones: tuple[str, ...]) -> bytes:
        holder = self._holder(inventory, zones)
        return inputs.make_key(self._kube, self._settings.system_namespace, self._owner, holder)

    def _former_login(self, inventory: Inventory | None, zones: tuple[str, ...]) -> Login | None:
        holder = self._holder(inventory, zones)
        if holder is None:
            return None
        return inputs.former_login(self._means.cloud.storage, self._owner, holder)

    def _holder(self, inventory: Inventory | None, zones: tuple[str, ...]) -> Instance | None:
        """The instance that may hold the only copy of the deployment's key.

        Raises:
            Unavailable: it would not be seen.
        """
        known = (*zones, *([self._before.zone] if self._before.zone else []))
        if inventory is None:
            raise statuses.SILENCE
        silent = sorted({f"zones/{zone}" for zone in known} & inventory.unknown)
        if silent:
            raise Unavailable(f"{silent[0]} does not answer: nothing is made in the meantime")
        instances = observe.own_instances(inventory, self._owner, zones)
        return instances[0] if instances else None
