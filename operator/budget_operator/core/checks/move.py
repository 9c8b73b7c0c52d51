"""To another zone, where the one that a VM is off in has no room for it: behind the same address.

Whoever has the address is the one that serves, and only one VM can have it. In order: the zone it moves to is
written on the VM, which nobody starts from then on; it loses the address; the new VM is made with it; once
that one has come up the old one goes (`instance.check_surplus`). Where the new one cannot be had the next
zone is tried, and where none is left the address goes back. All of it is read off the two VMs, so a pass goes
on wherever another one ended.
"""

from budget_operator.core import actions
from budget_operator.core.actions import Action, Room
from budget_operator.core.api import Intent
from budget_operator.core.checks.instance import is_kept
from budget_operator.core.checks.network import check_address
from budget_operator.core.conditions import Reason
from budget_operator.core.errors import CapacityExhausted, Unavailable
from budget_operator.core.names import region_of
from budget_operator.core.observed import OFF, Address, Instance, InstanceStatus
from budget_operator.core.steps import ANOTHER_ROOM, OPERATION, Situation, Step, Unseen


def check_begun(now: Situation) -> Step | None:
    """A move that was begun goes on, or back; not while somebody has set the VM in motion."""
    instance = now.seen.instance
    if instance is None or not instance.destination:
        return None
    if instance.status is InstanceStatus.RUNNING:
        return _back(now, instance, f"{instance.name} runs in {instance.zone}, so it stays there")
    if instance.status not in OFF:
        return None
    _check_seen(now, instance)
    zone = _next(now, instance)
    if zone is None:
        return _back(now, instance, f"{instance.name} stays in {instance.zone}: no other zone takes it")
    return _on(now, instance, zone)


def check_sold_out(now: Situation) -> Step | None:
    """Begin a move, once the VM's own zone has refused to start it."""
    instance = now.seen.instance
    if instance is None or instance.status not in OFF or not now.start_refused:
        return None
    zones = _zones(now, instance)
    return _on(now, instance, zones[0]) if zones and _is_uploaded(now) else None


def check_attached(now: Situation) -> Step | None:
    """A VM that stays, and is not off on purpose, has its address, whoever took it or gave it another one."""
    instance = now.seen.instance
    if instance is None or instance.status not in (*OFF, InstanceStatus.RUNNING):
        return None
    if not is_kept(now, instance):
        return None
    if instance.is_cut_off:
        return _attach(now, instance, f"{instance.name} gets an address")
    if not _has_another(instance, now.seen.address):
        return None
    message = f"{instance.name} gives back {instance.external_ip or 'an address'}, which is not its own"
    detach = actions.DetachAddress(instance.zone, instance.name, instance.access_config)
    return Step((detach,), Reason.STARTING, message, OPERATION)


def _has_another(instance: Instance, own: Address | None) -> bool:
    """One that is off does not show an address that it would be given at its start."""
    if own is None or not own.address or not instance.access_config:
        return False
    return instance.external_ip != own.address if instance.external_ip else own.status == "RESERVED"


def _zones(now: Situation, instance: Instance) -> tuple[str, ...]:
    """Where it may move to, in order of preference. What does not answer is not where anything is made."""
    closed = {*now.sold_out, *now.barred, instance.zone}
    return tuple(
        zone
        for zone in now.wanted.zones
        if zone not in closed
        and region_of(zone) == region_of(instance.zone)
        and f"zones/{zone}" not in now.seen.inventory.unknown
    )


def _next(now: Situation, instance: Instance) -> str | None:
    """The zone to go on to: that of an insert whose end is not known, or else the one that was announced."""
    if now.desired is None:
        return None
    unresolved = now.seen.intent
    if unresolved is not None:
        return unresolved.zone
    zones = _zones(now, instance)
    return instance.destination if instance.destination in zones else next(iter(zones), None)


def _check_seen(now: Situation, instance: Instance) -> None:
    """Raise `Unseen` where the new VM may be without being seen."""
    zones = (instance.destination, *([now.seen.intent.zone] if now.seen.intent is not None else []))
    silent = [zone for zone in zones if f"zones/{zone}" in now.seen.inventory.unknown]
    if silent:
        raise Unseen(Unavailable(f"zones/{silent[0]} does not answer: nothing is made in the meantime"))
    if Room.INSTANCE in now.seen.problems:
        raise Unseen(now.seen.problems[Room.INSTANCE])


def _on(now: Situation, instance: Instance, zone: str) -> Step:
    message = f"{instance.name} moves from {instance.zone}, which is sold out, to {zone}"
    if instance.destination != zone:
        return _step(actions.AnnounceMove(instance.zone, instance.name, zone), message)
    if instance.access_config:
        detach = actions.DetachAddress(instance.zone, instance.name, instance.access_config, zone)
        return _step(detach, message)
    missing = _missing_address(now, instance)
    if missing is not None:
        return missing
    if not _is_uploaded(now):
        return Step((), Reason.MOVING, f"{message}, once its code is uploaded", ANOTHER_ROOM)
    assert now.seen.address is not None  # _missing_address
    intent = now.seen.intent or Intent(name=now.owner.cloud_name, zone=zone, request_id=now.request_id)
    request = now.wanted.instance_request(intent.zone, now.seen.address.address)
    return _step(actions.InsertInstance(request, intent), message)


def _back(now: Situation, instance: Instance, message: str) -> Step:
    if instance.is_cut_off:
        return _attach(now, instance, message)
    return _step(actions.EndMove(instance.zone, instance.name), message)


def _attach(now: Situation, instance: Instance, message: str) -> Step:
    missing = _missing_address(now, instance)
    if missing is not None:
        return missing
    assert now.seen.address is not None  # _missing_address
    attach = actions.AttachAddress(instance.zone, instance.name, now.seen.address.address)
    if not instance.destination:
        return Step((attach,), Reason.STARTING, message, OPERATION)
    return _step(attach, message)


def _step(action: Action, message: str) -> Step:
    return Step((action,), Reason.MOVING, message, OPERATION, despite=CapacityExhausted)


def _missing_address(now: Situation, instance: Instance) -> Step | None:
    """What comes first where there is none, which somebody must have released."""
    region = f"regions/{region_of(instance.zone)}"
    if now.seen.address is None and region in now.seen.inventory.unknown:
        raise Unseen(Unavailable(f"{region} does not answer: nothing is made in the meantime"))
    return check_address(now)


def _is_uploaded(now: Situation) -> bool:
    return now.wanted.artifact.lies_in(now.seen.objects or {})
