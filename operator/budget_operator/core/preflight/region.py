"""The zones of the settings, and what the region's quotas leave for one more deployment with the defaults."""

from collections.abc import Iterator

from budget_operator.core.api import Machine
from budget_operator.core.preflight.facts import Facts, Quota, Region, Unread, Zone
from budget_operator.core.preflight.findings import Finding, missing, ok, unknown
from budget_operator.core.settings import Settings

DEFAULT = Machine()
_ZONE, _QUOTA = "zone", "quota"


def zones(settings: Settings, facts: Facts) -> Iterator[Finding]:
    """One line for each zone of the settings."""
    for name in settings.zones:
        zone = facts.zones[name]
        yield unknown(_ZONE, zone) if isinstance(zone, Unread) else _zone(name, zone, settings, facts)


def _zone(name: str, zone: Zone | None, settings: Settings, facts: Facts) -> Finding:
    others = [each for each in settings.zones if each != name and _serves(facts.zones[each])]
    others = others or [each for each in _known(facts.region) if each != name]
    listing = f"gcloud compute zones list --filter=region:{settings.region} --project={settings.project}"
    mend = f"export BUDGET_ZONES={','.join(others)}" if others else listing
    if zone is None:
        return missing(_ZONE, f"there is no zone {name}", mend)
    if zone.status != "UP":
        return missing(_ZONE, f"{name} is {zone.status}", mend)
    if isinstance(zone.cpus, Unread):
        return unknown(_ZONE, zone.cpus)
    if zone.cpus is None:
        return missing(_ZONE, f"{name} has no machines of type {DEFAULT.type}", mend)
    return ok(_ZONE, f"{name} is up and has {DEFAULT.type}")


def _serves(zone: Zone | Unread | None) -> bool:
    return isinstance(zone, Zone) and zone.status == "UP" and isinstance(zone.cpus, int)


def _known(region: Region | Unread | None) -> tuple[str, ...]:
    return region.zones if isinstance(region, Region) else ()


def quotas(settings: Settings, facts: Facts) -> Iterator[Finding]:
    """One line for each quota that a deployment takes something of."""
    region = facts.region
    if isinstance(region, Unread):
        yield unknown(_QUOTA, region)
    elif region is not None:  # else its zones have been found missing
        for metric, needed in _takes(region, facts).items():
            yield _quota(metric, needed, region.quotas.get(metric), settings)


def _takes(region: Region, facts: Facts) -> dict[str, int | Unread]:
    """Spot VMs count against the common quota where the project has none for them."""
    spot = region.quotas.get("PREEMPTIBLE_CPUS")
    cpus = [
        zone.cpus for zone in facts.zones.values() if isinstance(zone, Zone) and isinstance(zone.cpus, int)
    ]
    unread = Unread(f"no zone has told how many processors {DEFAULT.type} has")
    return {
        "PREEMPTIBLE_CPUS" if spot is not None and spot.limit > 0 else "CPUS": max(cpus) if cpus else unread,
        "INSTANCES": 1,
        "STATIC_ADDRESSES": 1,
        "IN_USE_ADDRESSES": 1,
        "SSD_TOTAL_GB": DEFAULT.disk_gib,
    }


def _quota(metric: str, needed: int | Unread, quota: Quota | None, settings: Settings) -> Finding:
    if isinstance(needed, Unread):
        return unknown(_QUOTA, Unread(f"{metric}: {needed.why}"))
    if quota is None:
        return unknown(_QUOTA, Unread(f"{metric}: {settings.region} does not tell it"))
    text = f"{metric}: {quota.usage:.0f} of {quota.limit:.0f} used, one more deployment takes {needed}"
    if quota.usage + needed <= quota.limit:
        return ok(_QUOTA, text)
    return missing(_QUOTA, text, _raise(metric, quota.usage + needed, settings))


def _raise(metric: str, wanted: float, settings: Settings) -> str:
    return (
        f"gcloud beta quotas preferences create --project={settings.project} --service=compute.googleapis.com"
        f" --quota-id={metric.replace('_', '-')}-per-project-region --dimensions=region={settings.region}"
        f" --preferred-value={wanted:.0f}"
    )
