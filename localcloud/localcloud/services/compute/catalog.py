"""What Google offers everywhere: regions, zones, machine types, images, and the project itself. Of these only
the quotas of regions change, which others tell."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from localcloud.context import Context
from localcloud.errors import not_found
from localcloud.services.compute import paths
from localcloud.services.compute.lists import aggregated, listing
from localcloud.store import Json
from localcloud.web import Call

ZONES_OF = {
    "asia-east1": "abc",
    "asia-northeast1": "abc",
    "europe-north1": "abc",
    "europe-west1": "bcd",
    "europe-west2": "abc",
    "europe-west3": "abc",
    "europe-west4": "abc",
    "us-central1": "abcf",
    "us-east1": "bcd",
    "us-east4": "abc",
    "us-west1": "abc",
    "us-west2": "abc",
}
REGIONS = tuple(ZONES_OF)
ZONES = tuple(f"{region}-{letter}" for region, letters in ZONES_OF.items() for letter in letters)
_SINCE = "2026-01-01T00:00:00.000Z"


@dataclass(frozen=True)
class Machine:
    cpus: int
    memory_mb: int
    shared: bool = False


MACHINES = {
    "e2-micro": Machine(2, 1024, shared=True),
    "e2-small": Machine(2, 2048, shared=True),
    "e2-medium": Machine(2, 4096, shared=True),
    "f1-micro": Machine(1, 614, shared=True),
    "g1-small": Machine(1, 1740, shared=True),
    "g2-standard-4": Machine(4, 16384),
    "t2d-standard-1": Machine(1, 4096),
    "t2d-standard-2": Machine(2, 8192),
    **{f"e2-standard-{n}": Machine(n, 4096 * n) for n in (2, 4, 8, 16, 32)},
    **{f"e2-highmem-{n}": Machine(n, 8192 * n) for n in (2, 4, 8, 16)},
    **{f"e2-highcpu-{n}": Machine(n, 1024 * n) for n in (2, 4, 8, 16, 32)},
    **{f"n1-standard-{n}": Machine(n, 3840 * n) for n in (1, 2, 4, 8, 16)},
    **{f"n2-standard-{n}": Machine(n, 4096 * n) for n in (2, 4, 8, 16)},
}


ZONE_SCOPES = tuple(f"zones/{zone}" for zone in ZONES)
REGION_SCOPES = ("global", *(f"regions/{region}" for region in REGIONS))


def region_of(zone: str) -> str:
    return zone.rsplit("-", 1)[0]


def check_zone(project: str, zone: str) -> str:
    if zone not in ZONES:
        raise not_found(f"projects/{project}/zones/{zone}")
    return zone


def check_region(project: str, region: str) -> str:
    if region not in REGIONS:
        raise not_found(f"projects/{project}/regions/{region}")
    return region


class Catalog:
    """The endpoints of what is simply there."""

    def __init__(self, context: Context, quotas: Callable[[str, str], list[Json]]) -> None:
        self._context = context
        self._settings = context.settings
        self._quotas = quotas

    def zone(self, call: Call) -> Json:
        return self._zone(call.params["project"], check_zone(call.params["project"], call.params["zone"]))

    def zones(self, call: Call) -> Json:
        project = call.params["project"]
        return self._list(call, "compute#zone", [self._zone(project, zone) for zone in sorted(ZONES)])

    def region(self, call: Call) -> Json:
        project = call.params["project"]
        return self._region(project, check_region(project, call.params["region"]))

    def regions(self, call: Call) -> Json:
        project = call.params["project"]
        return self._list(call, "compute#region", [self._region(project, region) for region in REGIONS])

    def machine_type(self, call: Call) -> Json:
        project, zone = call.params["project"], call.params["zone"]
        check_zone(project, zone)
        if call.params["machine"] not in MACHINES:
            raise not_found(f"projects/{project}/zones/{zone}/machineTypes/{call.params['machine']}")
        return self._machine_type(project, zone, call.params["machine"])

    def machine_types(self, call: Call) -> Json:
        project, zone = call.params["project"], check_zone(call.params["project"], call.params["zone"])
        machines = [self._machine_type(project, zone, name) for name in sorted(MACHINES)]
        return self._list(call, "compute#machineType", machines)

    def all_machine_types(self, call: Call) -> Json:
        project = call.params["project"]
        documents = [
            (f"projects/{project}/zones/{zone}/machineTypes/{name}", self._machine_type(project, zone, name))
            for zone in sorted(ZONES)
            for name in sorted(MACHINES)
        ]
        return aggregated(self._context, call, "compute#machineType", "machineTypes", documents, ZONE_SCOPES)

    def image_from_family(self, call: Call) -> Json:
        """Any family has exactly one image: whichever image is named, the same VM boots."""
        project, family = call.params["project"], call.params["family"]
        if not re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", family):
            raise not_found(f"projects/{project}/global/images/family/{family}")
        name = f"{family}-local"
        return self._facts("compute#image", f"projects/{project}/global/images/{name}") | {
            "family": family,
            "status": "READY",
            "diskSizeGb": "10",
            "archiveSizeBytes": "1073741824",
            "architecture": "X86_64",
            "sourceType": "RAW",
        }

    def project(self, call: Call) -> Json:
        name = call.params["project"]
        number = paths.project_number(name)
        common = {"kind": "compute#metadata", "fingerprint": paths.fingerprint([])}
        return self._facts("compute#project", f"projects/{name}") | {
            "name": name,
            "id": number,
            "selfLink": paths.url(self._settings, f"projects/{name}"),
            "commonInstanceMetadata": common,
            "defaultServiceAccount": paths.account(name, ""),
            "defaultNetworkTier": "PREMIUM",
            "xpnProjectStatus": "UNSPECIFIED_XPN_PROJECT_STATUS",
        }

    def _zone(self, project: str, zone: str) -> Json:
        region = f"projects/{project}/regions/{region_of(zone)}"
        return self._facts("compute#zone", f"projects/{project}/zones/{zone}") | {
            "status": "UP",
            "region": paths.url(self._settings, region),
        }

    def _region(self, project: str, region: str) -> Json:
        zones = [f"projects/{project}/zones/{zone}" for zone in ZONES if region_of(zone) == region]
        return self._facts("compute#region", f"projects/{project}/regions/{region}") | {
            "status": "UP",
            "zones": [paths.url(self._settings, zone) for zone in zones],
            "quotas": self._quotas(project, region),
        }

    def _machine_type(self, project: str, zone: str, name: str) -> Json:
        machine = MACHINES[name]
        kind = "compute#machineType"
        return self._facts(kind, f"projects/{project}/zones/{zone}/machineTypes/{name}") | {
            "guestCpus": machine.cpus,
            "memoryMb": machine.memory_mb,
            "isSharedCpu": machine.shared,
            "zone": zone,
        }

    def _facts(self, kind: str, key: str) -> Json:
        return {
            "kind": kind,
            "id": paths.project_number(key),
            "creationTimestamp": _SINCE,
            "name": paths.last(key),
            "selfLink": paths.url(self._settings, key),
        }

    def _list(self, call: Call, kind: str, items: list[Json]) -> Json:
        return listing(self._settings.base_url, call, kind, [(item["name"], item) for item in items])
