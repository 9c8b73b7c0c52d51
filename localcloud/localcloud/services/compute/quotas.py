"""The quotas of a region, as `regions.get` tells them: what of each is used, and how much may be.

Only those of processors can be limited, by a fault, and then `capacity` refuses what is beyond; of everything
else there is more than anybody makes.
"""

from __future__ import annotations

from collections.abc import Mapping

from localcloud.context import Context
from localcloud.faults import Quota
from localcloud.services.compute import paths
from localcloud.services.compute.addresses import ADDRESS
from localcloud.services.compute.capacity import TAKES, cpus
from localcloud.services.compute.catalog import region_of
from localcloud.services.compute.disks import DISK
from localcloud.services.compute.records import Records
from localcloud.store import Json

_PLENTY = 100_000.0


class Quotas:
    def __init__(self, context: Context, records: Records) -> None:
        self._context = context
        self._records = records

    def of(self, project: str, region: str) -> list[Json]:
        return [
            {"metric": metric, "limit": self._limit(region, metric), "usage": float(used)}
            for metric, used in sorted(self._used(project, region).items())
        ]

    def _limit(self, region: str, metric: str) -> float:
        faults = self._context.faults.of(Quota, lambda each: (each.region, each.metric) == (region, metric))
        return min((each.limit for each in faults), default=_PLENTY)

    def _used(self, project: str, region: str) -> Mapping[str, float]:
        instances = [
            record
            for key, record in self._records.all(f"projects/{project}/")
            if region_of(paths.last(record.body["zone"])) == region
        ]
        running = [record for record in instances if record.status in TAKES]
        disks = [
            body
            for _, body in self._context.store.list(DISK, f"projects/{project}/")
            if region_of(paths.last(body["zone"])) == region
        ]
        addresses = self._context.store.list(ADDRESS, f"projects/{project}/regions/{region}/")
        plain = [paths.last(body["type"]) == "pd-standard" for body in disks]
        sizes = [int(body["sizeGb"]) for body in disks]
        return {
            "CPUS": sum(cpus(record) for record in running if not record.is_spot),
            "PREEMPTIBLE_CPUS": sum(cpus(record) for record in running if record.is_spot),
            "INSTANCES": len(instances),
            "STATIC_ADDRESSES": len(addresses),
            "IN_USE_ADDRESSES": sum(body["status"] == "IN_USE" for _, body in addresses)
            + sum(not record.static for record in running if record.ip),
            "DISKS_TOTAL_GB": sum(size for size, is_plain in zip(sizes, plain, strict=True) if is_plain),
            "SSD_TOTAL_GB": sum(size for size, is_plain in zip(sizes, plain, strict=True) if not is_plain),
        }
