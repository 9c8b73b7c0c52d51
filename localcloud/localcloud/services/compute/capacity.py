"""Whether there is a machine to be had: stock and quotas, as far as faults say that there is none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from localcloud.context import Context
from localcloud.errors import ApiError
from localcloud.faults import Quota
from localcloud.services.compute import paths
from localcloud.services.compute.catalog import MACHINES, region_of
from localcloud.services.compute.records import Record, Records

When = Literal["request", "operation"]
_SOLD_OUT = (
    "The zone '{}' does not have enough resources available to fulfill the request. "
    "Try a different zone, or try again later."
)
TAKES = ("PROVISIONING", "STAGING", "RUNNING", "STOPPING", "SUSPENDING")


@dataclass(frozen=True)
class Refusal:
    """Why not, as an operation tells it; `http` and `reason` are those of a refused request."""

    code: str
    message: str
    http: int
    reason: str

    def error(self) -> ApiError:
        return ApiError(self.http, self.reason, self.message)


class Capacity:
    """Asked when an instance is wanted (`request`), and once more when it is made (`operation`)."""

    def __init__(self, context: Context, records: Records) -> None:
        self._faults = context.faults
        self._records = records

    def refusal(self, key: str, record: Record, when: When) -> Refusal | None:
        """Why this instance cannot be had now."""
        zone = paths.last(record.body["zone"])
        found = self._faults.stock_out(zone, paths.last(record.body["machineType"]), record.is_spot, when)
        if found is not None:
            message = _SOLD_OUT.format(f"projects/{paths.project_of(key)}/zones/{zone}")
            return Refusal(found.code, message, 503, found.code)
        return self._over_quota(key, record, when)

    def check(self, key: str, record: Record) -> None:
        """Raises:
        ApiError: the request is refused.
        """
        found = self.refusal(key, record, "request")
        if found is not None:
            raise found.error()

    def _over_quota(self, key: str, record: Record, when: When) -> Refusal | None:
        region = region_of(paths.last(record.body["zone"]))
        metric = "PREEMPTIBLE_CPUS" if record.is_spot else "CPUS"
        limits = self._faults.of(
            Quota, lambda each: (each.region, each.metric, each.when) == (region, metric, when)
        )
        limit = min((each.limit for each in limits), default=None)
        if limit is None or self._used(key, region, record.is_spot) + cpus(record) <= limit:
            return None
        message = f"Quota '{metric}' exceeded.  Limit: {limit:.1f} in region {region}."
        return Refusal("QUOTA_EXCEEDED", message, 403, "quotaExceeded")

    def _used(self, key: str, region: str, spot: bool) -> int:
        """Processors of the others of the same kind that run in the project and region."""
        others = self._records.all(f"projects/{paths.project_of(key)}/")
        return sum(
            cpus(record)
            for other, record in others
            if other != key
            and record.is_spot == spot
            and record.status in TAKES
            and region_of(paths.last(record.body["zone"])) == region
        )


def cpus(record: Record) -> int:
    """The processors of its machine type."""
    return MACHINES[paths.last(record.body["machineType"])].cpus
