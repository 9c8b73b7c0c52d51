"""What callers reach the VM through: the firewall rule that all share, and the deployment's address."""

from budget_operator.core import actions
from budget_operator.core.api import Intent
from budget_operator.core.conditions import Reason
from budget_operator.core.errors import InvalidSpec, NameConflict
from budget_operator.core.gateways import HTTPS_PORTS
from budget_operator.core.names import region_of
from budget_operator.core.observed import OFF, Firewall, Instance
from budget_operator.core.steps import OPERATION, Situation, Step, look


def check_firewall(now: Situation) -> Step | None:
    desired, inventory = now.wanted, now.seen.inventory
    look(inventory, "firewall")
    if inventory.firewall is None:
        make = actions.InsertFirewall(
            now.shared.firewall, desired.network, now.shared.network_tag, now.shared.mark
        )
        return Step((make,), Reason.PROVISIONING, "the firewall rule is being made", OPERATION, proceed=True)
    firewall = inventory.firewall
    if firewall.description != now.shared.mark:
        raise NameConflict(f"firewall rule {firewall.name} exists without the mark of this installation")
    if not _on_network(firewall.network, desired.network):
        raise InvalidSpec(
            f"BUDGET_NETWORK: firewall rule and VMs are on {firewall.network}, not on {desired.network}; "
            f"set it back, or delete the deployments first"
        )
    if firewall != _as_made(firewall, now.shared.network_tag):
        remove = actions.DeleteFirewall(firewall.name)
        message = "the firewall rule was changed and is being made again"
        return Step((remove,), Reason.PROVISIONING, message, OPERATION, proceed=True)
    return None


def _as_made(firewall: Firewall, tag: str) -> Firewall:
    allowed = tuple(f"tcp:{port}" for port in sorted(HTTPS_PORTS))
    return Firewall(firewall.name, firewall.description, (tag,), allowed, firewall.network)


def check_tagged(now: Situation) -> Step | None:
    """The firewall rule covers the VM; tags of other rules stay."""
    instance, tag = now.seen.instance, now.shared.network_tag
    if instance is None or tag in instance.tags:
        return None
    return Step((actions.AddTag(instance.zone, instance.name, tag),), after=OPERATION, proceed=True)


def _on_network(found: str, wanted: str) -> bool:
    """Google answers with the whole path, the setting may leave out the host and the project."""
    tail = wanted[max(0, wanted.find("projects/")) :]
    return not found or f"/{found}".endswith(f"/{tail}")


def check_address(now: Situation) -> Step | None:
    address = now.seen.address
    if address is None:
        region = needed_region(now.seen.instance, now.seen.intent, now.zones)
        make = actions.ReserveAddress(region, now.owner.cloud_name, now.owner.labels)
        return Step((make,), Reason.PROVISIONING, "the address is being reserved", OPERATION)
    if not address.address or address.status == "RESERVING":
        return Step((), Reason.PROVISIONING, "the address is being reserved", OPERATION)
    return None


def check_left_addresses(now: Situation) -> Step | None:
    """Of a region that had no room: they go before there is one elsewhere."""
    return _release(now) if now.seen.instance is None and now.seen.intent is None else None


def check_stale_addresses(now: Situation) -> Step | None:
    """Of a region that the VM was in."""
    return _release(now) if now.seen.instance is not None else None


def check_detached(now: Situation) -> Step | None:
    """A VM that is off on purpose gives its address back: unused it costs most."""
    instance = now.seen.instance
    if (
        now.wanted.keeps_address
        or instance is None
        or instance.status not in OFF
        or not instance.access_config
    ):
        return None
    detach = actions.DetachAddress(instance.zone, instance.name, instance.access_config)
    return Step((detach,), _why(now), f"the address of {instance.name} is being given back", OPERATION)


def check_released(now: Situation) -> Step | None:
    """What nobody uses, nor anybody's name points to."""
    address = now.seen.address
    if now.seen.stale_addresses:
        return _release(now)
    if now.wanted.keeps_address or address is None:
        return None
    release = actions.ReleaseAddress(address.region, address.name)
    return Step((release,), _why(now), f"the address {address.address} is being given back", OPERATION)


def _why(now: Situation) -> Reason:
    assert now.wanted.pause is not None  # of PAUSED_CHECKS alone
    return now.wanted.pause.reason


def _release(now: Situation) -> Step | None:
    if not now.seen.stale_addresses:
        return None
    stale = now.seen.stale_addresses[0]
    return Step((actions.ReleaseAddress(stale.region, stale.name),), after=OPERATION, proceed=True)


def needed_region(instance: Instance | None, intent: Intent | None, zones: tuple[str, ...]) -> str:
    """Where the address has to be: beside the VM, or where it is going to be."""
    if instance is not None:
        return region_of(instance.zone)
    if intent is not None and intent.operation is None:
        return region_of(intent.zone)
    return region_of(zones[0])
