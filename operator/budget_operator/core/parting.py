"""An object goes from the cluster while its parts stay in the cloud: whether it may, and what is told. Pure.

Either its owner wants the parts to stay (`spec.deletionPolicy: Retain`), or gives them up because the cloud
cannot be reached any more. The latter names the object's uid: replayed on another object, as tools do that
apply files again and again, it means nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from budget_operator.core.api import ABANDON, Status
from budget_operator.core.conditions import Reason
from budget_operator.core.names import Owner, Shared, region_of
from budget_operator.core.settings import Settings

Document = Mapping[str, Any]


@dataclass(frozen=True)
class Parting:
    """Why the finalizer goes without a call to the cloud, and what is told of it."""

    reason: Reason
    message: str


def parting(document: Document, status: Status, owner: Owner, settings: Settings, key: str) -> Parting | None:
    """Of an object that is being deleted; None if its parts are to be removed. `key`: its key's Secret.

    The spec is read as it is stored: one that cannot work must not keep its owner from this.
    """
    metadata = document["metadata"]
    name = f"{owner.namespace}/{owner.name}"
    if _abandon(metadata) == metadata.get("uid"):
        left = "; ".join((*_own(status, owner, settings, key, known=False), *_shared(settings)))
        return Parting(Reason.ABANDONED, f"{name} was given up; this may be left behind: {left}")
    if (document.get("spec") or {}).get("deletionPolicy") != "Retain":
        return None
    left = "; ".join(_own(status, owner, settings, key, known=True))
    message = f"left behind and kept alive: {left}; apply {name} again to take it over"
    return Parting(Reason.RETAINED, message)


def ignored(document: Document) -> str:
    """Why an annotation that asks to give up the cloud has no effect; empty if there is none."""
    metadata = document["metadata"]
    given = _abandon(metadata)
    if given is None or given == metadata.get("uid"):
        return ""
    return f"the annotation {ABANDON} is ignored: it has to be {metadata.get('uid')}, the uid of this object"


def _abandon(metadata: Document) -> str | None:
    value: str | None = (metadata.get("annotations") or {}).get(ABANDON)
    return value


def _own(status: Status, owner: Owner, settings: Settings, key: str, *, known: bool) -> tuple[str, ...]:
    """What the deployment alone has. `known`: only what the status knows of, else whatever there may be."""
    name, zone = owner.cloud_name, status.zone or (status.instance.zone if status.instance else None)
    address = f" ({status.ip})" if status.ip else ""
    where = region_of(zone) if zone else settings.region
    found = []
    if zone or not known:
        found.append(f"VM {name} in {zone or ' or '.join(settings.zones)}")
    if status.ip or not known:
        found.append(f"address {name}{address} in {where}")
    return (
        *found,
        f"gs://{settings.bucket}/code/{name}/ and /state/{name}/",
        f"Secret {settings.system_namespace}/{key}",
    )


def _shared(settings: Settings) -> tuple[str, ...]:
    """What goes with an installation's last deployment."""
    shared = Shared(settings.installation)
    return (
        f"with the last deployment, Scheduler job, function and topic {shared.keep_alive}",
        f"firewall rule {shared.firewall}",
        f"bucket {settings.bucket}",
    )
