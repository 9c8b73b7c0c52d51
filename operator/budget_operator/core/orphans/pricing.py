"""What a resource costs a month if it stays as it is. What is not known is None, never nought."""

from collections.abc import Iterable

from budget_operator.core.desired import PROVISIONING_MODELS, WANTED_CHANGING, WANTED_RUNNING
from budget_operator.core.names import LABEL_WANTED, region_of
from budget_operator.core.observed import OFF, Address, Disk, Instance, InstanceStatus
from budget_operator.core.orphans.model import ROOTS, Kind, Resource, Seen
from budget_operator.core.prices.model import HOURS_A_MONTH, PriceList, RegionPrices

#: A rule and a topic that nobody publishes to are free; a function is paid by its use.
FREE = {Kind.FIREWALL, Kind.TOPIC}
#: Cloud Scheduler's list price; three jobs of a billing account are free.
JOB = 0.10
BALANCED = "pd-balanced"
_GIB = 2.0**30
_PROVISIONING = {model: word for word, model in PROVISIONING_MODELS.items()}


class Pricing:
    """Of what was seen once."""

    def __init__(self, seen: Seen, prices: PriceList) -> None:
        self._prices = prices
        self._seen = seen
        self._instances = {each.id: each for each in seen.inventory.instances}
        self._users = {each.external_ip: each for each in seen.inventory.instances if each.external_ip}
        self._addresses = {(each.region, each.name): each for each in seen.inventory.addresses}
        self._disks = {(each.zone, each.name): each for each in seen.disks}

    def monthly(self, of: Resource) -> float | None:
        """Dollars a month of 730 hours."""
        match of.kind:
            case Kind.INSTANCE:
                return self._instance(self._instances[of.id])
            case Kind.DISK:
                return self._disk(self._disks[of.place, of.name])
            case Kind.ADDRESS:
                return self._address(self._addresses[of.place, of.name])
            case Kind.OBJECTS | Kind.BUCKET:
                return self._stored(of)
            case Kind.JOB:
                return JOB
            case _:
                return 0.0 if of.kind in FREE else None

    def _region(self, region: str) -> RegionPrices | None:
        return self._prices.regions.get(region)

    def _instance(self, vm: Instance) -> float | None:
        """With what only it has: a disk without labels, an address that is not static."""
        parts = [self._machine(vm)]
        if (vm.zone, vm.disk) not in self._disks:
            region = self._region(region_of(vm.zone))
            parts.append(None if region is None else _times(region.disk, vm.disk_gib or None))
        if vm.external_ip and vm.external_ip not in {each.address for each in self._addresses.values()}:
            parts.append(self._used_address(region_of(vm.zone), vm))
        return _sum(parts)

    def _machine(self, vm: Instance) -> float | None:
        """One that the keep-alive starts again counts as running."""
        if vm.status in (InstanceStatus.SUSPENDED, InstanceStatus.SUSPENDING):
            return None
        if not _runs(vm):
            return 0.0
        region = self._region(region_of(vm.zone))
        price = None if region is None else region.machines.get(vm.machine_type)
        provisioning = _PROVISIONING.get(vm.provisioning_model)
        return None if price is None or provisioning is None else _monthly(price.of(provisioning))

    def _disk(self, disk: Disk) -> float | None:
        region = self._region(region_of(disk.zone))
        return None if region is None or disk.kind != BALANCED else _times(region.disk, disk.gib)

    def _address(self, address: Address) -> float | None:
        user = self._users.get(address.address)
        if user is not None:
            return self._used_address(address.region, user)
        region = self._region(address.region)
        used_by_others = address.status == "IN_USE"
        return None if region is None or used_by_others else _monthly(region.address.unused)

    def _used_address(self, where: str, vm: Instance) -> float | None:
        region = self._region(where)
        if region is None:
            return None
        if not _runs(vm):
            return _monthly(region.address.unused)
        spot = _PROVISIONING.get(vm.provisioning_model) == "Spot"
        return _monthly(region.address.spot if spot else region.address.on_demand)

    def _stored(self, of: Resource) -> float | None:
        bucket = self._seen.inventory.bucket
        region = None if bucket is None else self._region(bucket.region)
        if region is None or self._seen.objects is None:
            return None
        if of.kind is Kind.OBJECTS:
            held = [each for each in self._seen.objects if each.name.startswith(of.name)]
        else:
            held = [each for each in self._seen.objects if not each.name.startswith(ROOTS)]
        return _times(region.storage, sum(each.size for each in held) / _GIB)


def _runs(vm: Instance) -> bool:
    started = vm.labels.get(LABEL_WANTED) in (WANTED_RUNNING, WANTED_CHANGING)
    return started or vm.status not in OFF


def _monthly(hourly: float | None) -> float | None:
    return _times(hourly, HOURS_A_MONTH)


def _times(price: float | None, amount: float | None) -> float | None:
    return None if price is None or amount is None else price * amount


def _sum(parts: Iterable[float | None]) -> float | None:
    total = 0.0
    for part in parts:
        if part is None:
            return None
        total += part
    return total
