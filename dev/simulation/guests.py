"""Stands for the guests of simulated VMs: what they tell, and what they answer."""

import json
from collections.abc import Iterable

from budget_operator.core.gateways import Door
from budget_operator.core.observed import Probe
from localcloud.mounted import Mounted
from localcloud.services.compute.guest import GuestAttributes
from localcloud.services.compute.records import Record, Records


def _configuration(record: Record) -> dict[str, str]:
    found: dict[str, str] = json.loads(record.metadata().get("budget-config", "{}"))
    return found


def tell(cloud: Mounted, instances: Iterable[str]) -> None:
    """Those of them that run have told what they serve."""
    guests, records = GuestAttributes(cloud.context.store), Records(cloud.context.store)
    for key in instances:
        record = records.get(key)
        if record is None or record.status != "RUNNING":
            continue
        revision = _configuration(record).get("revision", "")
        told = json.dumps({"phase": "serving", "target": revision, "active": revision, "boot": {"load": 1.0}})
        if guests.all(key).get("budgetml/state") != told:
            guests.put(key, "budgetml", "state", told)


class SimulatedProber:
    """`core.gateways.Prober`: asks the VM that has the address."""

    def __init__(self, cloud: Mounted) -> None:
        self._cloud = cloud

    def ready(self, door: Door) -> Probe:
        found = Records(self._cloud.context.store).with_address(door.ip)
        if found is None or found[1].status != "RUNNING":
            return Probe(False, "GET /healthz/ready: no answer within 3 s")
        return Probe(True, "status 200", revision=_configuration(found[1]).get("revision"))

    def predict(self, door: Door, token: str, payload: object) -> Probe:
        return self.ready(door)
