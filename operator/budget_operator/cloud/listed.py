"""What a picture needs of Compute Engine's resources: which of their fields are asked for, and how they read.

Pure functions over the API's JSON. A picture of thousands of resources is taken again and again, and the
generated client takes a hundred times as long to read one as to parse its JSON. Bodies of changes are in
`words`, the requests in `lists`.
"""

import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from budget_operator.core.observed import (
    PREEMPTED,
    Address,
    Disk,
    Instance,
    InstanceStatus,
    PowerChange,
    PowerEvent,
    PowerKind,
)

Json = Mapping[str, Any]

ADDRESS = "name,region,id,address,status,labels,creationTimestamp"
DISK = "name,zone,id,type,sizeGb,labels,users,creationTimestamp,lastDetachTimestamp"
POWER_CHANGE = "name,operationType,targetLink,insertTime,startTime,endTime,error/errors/code"
POWER_EVENT = "operationType,status,insertTime,endTime,error/errors/code"
_SMALL = (
    "name,zone,id,creationTimestamp,status,machineType,labels,labelFingerprint,scheduling/provisioningModel,"
    "networkInterfaces/accessConfigs(name,natIP),tags(items,fingerprint),disks(boot,diskSizeGb,source),"
    "lastStartTimestamp,lastStopTimestamp"
)
#: Without the metadata's values, which are nearly all of an instance: the fingerprint tells whether they are
#: those that were read before.
INSTANCE = f"{_SMALL},metadata/fingerprint"
WHOLE_INSTANCE = f"{_SMALL},metadata(fingerprint,items)"


def last(url: str) -> str:
    """The last segment of a resource's URL: its name, zone, region or type."""
    return url.rsplit("/", 1)[-1]


def instance(found: Json) -> Instance:
    """An instance."""
    access = [each for nic in found.get("networkInterfaces", ()) for each in nic.get("accessConfigs", ())]
    held: Json = found.get("metadata", {})
    tags: Json = found.get("tags", {})
    boot: Json = next((disk for disk in found.get("disks", ()) if disk.get("boot")), {})
    return Instance(
        name=found["name"],
        zone=last(found["zone"]),
        id=str(found["id"]),
        status=_status(found.get("status", "")),
        machine_type=last(found.get("machineType", "")),
        provisioning_model=found.get("scheduling", {}).get("provisioningModel") or "STANDARD",
        external_ip=next((each["natIP"] for each in access if each.get("natIP")), None),
        labels=shared(found.get("labels", {})),
        label_fingerprint=found.get("labelFingerprint", ""),
        metadata=shared({item["key"]: item.get("value", "") for item in held.get("items", ())}),
        metadata_fingerprint=held.get("fingerprint", ""),
        disk=last(boot.get("source", "")),
        disk_gib=int(boot.get("diskSizeGb", 0)),
        access_config=access[0].get("name", "") if access else "",
        tags=tuple(map(sys.intern, tags.get("items", ()))),
        tags_fingerprint=sys.intern(tags.get("fingerprint", "")),
        started_at=_time(found.get("lastStartTimestamp", "")),
        stopped_at=_time(found.get("lastStopTimestamp", "")),
        created=_time(found.get("creationTimestamp", "")),
    )


def shared(texts: Mapping[str, str]) -> dict[str, str]:
    """The same texts, each held once however many resources have it: the scripts on VMs are all the same."""
    return {sys.intern(key): sys.intern(value) for key, value in texts.items()}


def _status(word: str) -> InstanceStatus:
    try:
        return InstanceStatus(word)
    except ValueError:
        # A state newer than this program. REPAIRING is the state in which nobody acts on an instance.
        return InstanceStatus.REPAIRING


def address(found: Json) -> Address:
    """A regional static address."""
    return Address(
        name=found["name"],
        region=last(found.get("region", "")),
        address=found.get("address", ""),
        status=found.get("status", ""),
        labels=shared(found.get("labels", {})),
        id=str(found.get("id", "")),
        created=_time(found.get("creationTimestamp", "")),
    )


def disk(found: Json) -> Disk:
    """A zonal disk."""
    return Disk(
        name=found["name"],
        zone=last(found.get("zone", "")),
        id=str(found.get("id", "")),
        kind=last(found.get("type", "")),
        gib=int(found.get("sizeGb", 0)),
        labels=shared(found.get("labels", {})),
        users=tuple(last(user) for user in found.get("users", ())),
        created=_time(found.get("creationTimestamp", "")),
        detached=_time(found.get("lastDetachTimestamp", "")),
    )


def power_change(found: Json, zone: str) -> PowerChange | None:
    """What changed a VM's power, or None if the operation failed or has no readable time."""
    at = _time(found.get("insertTime") or found.get("startTime") or found.get("endTime") or "")
    if at is None or found.get("error"):
        return None
    return PowerChange(
        operation=found["name"],
        instance=last(found.get("targetLink", "")),
        zone=zone,
        at=at,
        kind=found.get("operationType", PREEMPTED),
        ended=_time(found.get("endTime", "")),
    )


_POWER = {
    "insert": PowerKind.ON,
    "start": PowerKind.ON,
    "resume": PowerKind.ON,
    "compute.instances.automaticRestart": PowerKind.ON,
    "stop": PowerKind.OFF,
    "suspend": PowerKind.OFF,
    "compute.instances.preempted": PowerKind.TAKEN,
    "compute.instances.guestTerminate": PowerKind.OFF,
    "compute.instances.hostError": PowerKind.OFF,
    "delete": PowerKind.GONE,
}


def power_event(found: Json) -> PowerEvent | None:
    """What an operation that has ended did to a VM's power; None where it did nothing to it."""
    kind = _POWER.get(found.get("operationType", ""))
    at = _time(found.get("endTime") or found.get("insertTime") or "")
    if kind is None or at is None or found.get("status") != "DONE" or found.get("error", {}).get("errors"):
        return None
    return PowerEvent(at, kind)


def _time(text: str) -> datetime | None:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
