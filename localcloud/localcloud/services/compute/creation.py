"""From the body of `instances.insert` to the resource that is kept: checks and defaults. Pure but for ids and
fingerprints."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from localcloud.errors import ApiError, invalid, invalid_field
from localcloud.services.compute import paths
from localcloud.services.compute.catalog import MACHINES
from localcloud.settings import Settings
from localcloud.store import Json

_VALUE_BYTES = 256 * 1024
_METADATA_BYTES = 512 * 1024
_LONGEST_NOTICE = 120
_METADATA_KEY = re.compile(r"[a-zA-Z0-9_-]{1,128}")
_IMAGE = re.compile(
    r"projects/[^/]+/(global/images/(family/)?[a-z][-a-z0-9]*|zones/[^/]+/imageFamilyViews/[a-z][-a-z0-9]*)"
)
_NOT_OFFERED = ("maxRunDuration", "terminationTime", "onInstanceStopAction", "skipGuestOsShutdown")
_INPUT_AND_OWN = (
    "disks",
    "fingerprint",
    "id",
    "kind",
    "creationTimestamp",
    "metadata",
    "networkInterfaces",
    "params",
    "scheduling",
    "selfLink",
    "status",
    "statusMessage",
    "tags",
    "zone",
)


@dataclass(frozen=True)
class Asked:
    """The resource, and what is to be taken from other owners: the boot disk and a static address."""

    body: Json
    disk: Json
    nat_ip: str


def read(settings: Settings, key: str, body: Json, now: str) -> Asked:
    """Raises a 400 that names the field; `key` is the instance's path."""
    place = key.rsplit("/instances/", 1)[0]
    zone = paths.last(place)
    labels = paths.check_labels(body.get("labels", {}))
    disk = _boot_disk(body)
    interface = _interface(body)
    access = (interface.get("accessConfigs") or [{}])[0]
    resource: Json = {name: value for name, value in body.items() if name not in _INPUT_AND_OWN} | {
        "kind": "compute#instance",
        "id": paths.new_id(),
        "creationTimestamp": now,
        "name": paths.last(key),
        "selfLink": paths.url(settings, key),
        "zone": paths.url(settings, place),
        "machineType": paths.url(settings, f"{place}/machineTypes/{machine_type(zone, body)}"),
        "status": "PROVISIONING",
        "cpuPlatform": "Unknown CPU Platform",
        "startRestricted": False,
        "deletionProtection": bool(body.get("deletionProtection")),
        "labelFingerprint": paths.fingerprint(labels),
        "fingerprint": paths.fingerprint(key),
        "metadata": metadata(body.get("metadata", {})),
        "scheduling": scheduling(body.get("scheduling", {})),
        "tags": tags(body.get("tags", {})),
        "networkInterfaces": [_kept_interface(settings, key, interface)],
    }
    return Asked(resource, disk, access.get("natIP", ""))


def machine_type(zone: str, body: Json) -> str:
    asked = body.get("machineType", "")
    name = paths.last(asked)
    in_zone = re.search(r"zones/([^/]+)/", asked)
    if name not in MACHINES or (in_zone and in_zone.group(1) != zone):
        why = f"Machine type with name '{name}' does not exist in zone '{zone}'."
        raise invalid_field("resource.machineType", asked, why)
    return name


def metadata(given: Json) -> Json:
    """The kept form of metadata, with its fingerprint."""
    items = given.get("items", [])
    total, seen = 0, set()
    for at, item in enumerate(items):
        field = f"resource.metadata.items[{at}]"
        key, size = item.get("key", ""), len(item.get("value", "").encode())
        if not _METADATA_KEY.fullmatch(key) or key in seen:
            raise invalid_field(f"{field}.key", key, "Unique [a-zA-Z0-9_-]{1,128} is needed.")
        if size > _VALUE_BYTES:
            raise _too_long(f"{field}.value", f"{key}: {size} bytes", _VALUE_BYTES)
        seen.add(key)
        total += len(key) + size
    if total > _METADATA_BYTES:
        raise _too_long("resource.metadata", f"{total} bytes", _METADATA_BYTES)
    kept: Json = {"kind": "compute#metadata", "fingerprint": paths.fingerprint(items)}
    return kept | {"items": items} if items else kept


def _too_long(field: str, value: str, limit: int) -> ApiError:
    return invalid_field(field, value, f"The value is too large: the limit is {limit} bytes.")


def scheduling(given: Json) -> Json:
    for name in _NOT_OFFERED:
        if given.get(name):
            why = "The local cloud does not offer it, and ignores nothing silently."
            raise invalid_field(f"resource.scheduling.{name}", given[name], why)
    spot = given.get("provisioningModel") == "SPOT" or bool(given.get("preemptible"))
    defaults: Json = {
        "provisioningModel": "SPOT" if spot else "STANDARD",
        "preemptible": spot,
        "automaticRestart": not spot,
        "onHostMaintenance": "TERMINATE" if spot else "MIGRATE",
    }
    if spot and "preemptible" not in given:
        defaults["instanceTerminationAction"] = "STOP"
    kept = defaults | given | {"preemptible": spot}
    if spot and kept["automaticRestart"]:
        why = "Spot and preemptible instances cannot restart automatically."
        raise invalid_field("resource.scheduling.automaticRestart", True, why)
    if spot and kept["onHostMaintenance"] != "TERMINATE":
        why = "Spot and preemptible instances must be terminated for host maintenance."
        raise invalid_field("resource.scheduling.onHostMaintenance", kept["onHostMaintenance"], why)
    for name in ("instanceTerminationAction", "preemptionNoticeDuration"):
        if name in kept and not spot:
            raise invalid_field(f"resource.scheduling.{name}", kept[name], "Only for Spot instances.")
    if not 0 <= notice_seconds(kept) <= _LONGEST_NOTICE:
        why = f"It must be between 0 and {_LONGEST_NOTICE} seconds."
        asked = kept["preemptionNoticeDuration"]
        raise invalid_field("resource.scheduling.preemptionNoticeDuration", asked, why)
    return kept


def notice_seconds(scheduling: Json) -> float:
    """How long before its soft-off the instance wants to know of its preemption."""
    asked = scheduling.get("preemptionNoticeDuration", {})
    return float(asked.get("seconds", 0)) + float(asked.get("nanos", 0)) / 1e9


def check_refused(body: Json, fields: Iterable[str]) -> None:
    """Raises a 400 for the first of these fields that is set."""
    for field in fields:
        value: Any = body
        for part in field.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if value is not None:
            raise invalid_field(f"resource.{field}", value, "This project may not use it.")


def _boot_disk(body: Json) -> Json:
    disks = body.get("disks", [])
    if len(disks) != 1 or not disks[0].get("boot"):
        raise invalid_field(
            "resource.disks", len(disks), "The local cloud wants exactly one disk, with boot."
        )
    disk: Json = disks[0]
    source = disk.get("initializeParams", {}).get("sourceImage", "")
    if not _IMAGE.fullmatch(paths.key_of(source)):
        why = "The referenced image resource cannot be found."
        raise invalid_field("resource.disks[0].initializeParams.sourceImage", source, why)
    return disk


def kept_disk(settings: Settings, key: str, asked: Json) -> Json:
    """The instance's view of its boot disk with path `key`."""
    return {
        "kind": "compute#attachedDisk",
        "type": "PERSISTENT",
        "mode": "READ_WRITE",
        "source": paths.url(settings, key),
        "deviceName": asked.get("deviceName") or "persistent-disk-0",
        "index": 0,
        "boot": True,
        "autoDelete": bool(asked.get("autoDelete")),
        "interface": "SCSI",
        "diskSizeGb": str(asked.get("initializeParams", {}).get("diskSizeGb") or 10),
    }


def _interface(body: Json) -> Json:
    interfaces = body.get("networkInterfaces", [])
    if len(interfaces) != 1:
        why = "The local cloud wants exactly one network interface."
        raise invalid_field("resource.networkInterfaces", len(interfaces), why)
    interface: Json = interfaces[0]
    if len(interface.get("accessConfigs", [])) > 1:
        raise invalid("At most one access config currently supported.")
    return interface


def _kept_interface(settings: Settings, key: str, asked: Json) -> Json:
    project = f"projects/{paths.project_of(key)}"
    network = paths.key_of(asked.get("network", "global/networks/default"))
    network = network if network.startswith("projects/") else f"{project}/{network}"
    kept: Json = {
        "kind": "compute#networkInterface",
        "name": "nic0",
        "network": paths.url(settings, network),
        "stackType": "IPV4_ONLY",
        "fingerprint": paths.fingerprint([key, network]),
    }
    access = asked.get("accessConfigs") or []
    if access:
        kept["accessConfigs"] = [kept_access(access[0])]
    return kept


def kept_access(asked: Json) -> Json:
    """The kept form of an access config, without its address."""
    return {
        "kind": "compute#accessConfig",
        "type": "ONE_TO_ONE_NAT",
        "name": asked.get("name", "External NAT"),
        "networkTier": asked.get("networkTier", "PREMIUM"),
    }


def tags(given: Json) -> Json:
    """The kept form of network tags, with their fingerprint."""
    items: Any = given.get("items", [])
    kept: Json = {"fingerprint": paths.fingerprint(items)}
    named = [paths.check_name(item, f"resource.tags.items[{at}]") for at, item in enumerate(items)]
    return kept | {"items": named} if items else kept


def show_address(body: Json, ip: str) -> None:
    """Write the address (or its absence) into the resource. The one address of a local VM is both the
    internal and the external one."""
    interface = body["networkInterfaces"][0]
    for place, field in [
        (interface, "networkIP"),
        *((a, "natIP") for a in interface.get("accessConfigs", [])),
    ]:
        if ip:
            place[field] = ip
        else:
            place.pop(field, None)
