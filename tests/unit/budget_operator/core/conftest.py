"""One deployment that is all in order, for checks to find fault with."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import pytest

from budget_operator.core import artifact, placement
from budget_operator.core import desired as wishes
from budget_operator.core.api import parse_spec
from budget_operator.core.artifact import Login, Source
from budget_operator.core.desired import Desired
from budget_operator.core.names import Owner, Shared
from budget_operator.core.observed import (
    Address,
    Bucket,
    Content,
    Firewall,
    Function,
    Instance,
    InstanceStatus,
    Inventory,
    Job,
    Topic,
)
from budget_operator.core.steps import Observation, Situation
from dev.simulation.apiserver import CODE
from tests.unit.budget_operator.fakes import PARTS, SETTINGS

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
OWNER = Owner(SETTINGS.installation, "default", "iris")
SHARED = Shared(SETTINGS.installation)


def make_desired(**spec: Any) -> Desired:
    parsed = parse_spec({"predictor": {"inline": CODE}, **spec})
    source = Source({"predictor.py": CODE.encode()}, (), {}, Login("u", "p", "t"))
    key = bytes(32)
    made = artifact.build(parsed, "default/iris", OWNER.cloud_name, source, key)
    zones = placement.listed(parsed, SETTINGS.zones)
    assert zones is not None
    return wishes.build(SETTINGS, PARTS, OWNER, parsed, zones, made, key)


@dataclass
class Scene:
    """A deployment in order; tests replace parts of it."""

    desired: Desired = field(default_factory=make_desired)

    def __post_init__(self) -> None:
        wanted = self.desired
        self.instance = Instance(
            name=OWNER.cloud_name,
            zone="us-central1-a",
            id="1",
            status=InstanceStatus.RUNNING,
            machine_type=wanted.machine_type,
            provisioning_model=wanted.provisioning_model,
            external_ip="10.0.0.1",
            labels=dict(wanted.labels),
            label_fingerprint="f",
            metadata=dict(wanted.metadata),
            metadata_fingerprint="f",
            disk=OWNER.cloud_name,
            disk_gib=wanted.disk_gib,
            access_config="External NAT",
            tags=(SHARED.network_tag,),
        )
        self.address = Address(OWNER.cloud_name, "us-central1", "10.0.0.1", "IN_USE", OWNER.labels)
        function, job = wanted.keep_alive.function, wanted.keep_alive.job
        self.inventory = Inventory(
            taken_at=NOW,
            instances=(self.instance,),
            addresses=(self.address,),
            bucket=Bucket("bucket", SHARED.labels),
            topic=Topic(SHARED.keep_alive, SHARED.labels),
            function=Function(
                function.name,
                "ACTIVE",
                function.source_object,
                function.topic,
                dict(function.environment),
                SHARED.labels,
                runtime=function.runtime,
                service_account="chosen-by-google@p.iam.gserviceaccount.com",
            ),
            job=Job(job.name, "ENABLED", job.schedule, job.time_zone, job.topic, SHARED.mark, job.data),
            firewall=Firewall(
                SHARED.firewall,
                SHARED.mark,
                (SHARED.network_tag,),
                ("tcp:443", "tcp:80"),
                "projects/proj/global/networks/default",
            ),
        )

    @property
    def contents(self) -> dict[str, Content]:
        """What lies in the bucket where all is in order."""
        return {blob.name: blob.content for blob in self.desired.artifact.blobs}

    def seen(self, **changes: Any) -> Observation:
        usual: dict[str, Any] = {
            "inventory": self.inventory,
            "instance": self.instance,
            "address": self.address,
            "objects": self.contents,
        }
        return Observation(**{**usual, **changes})

    def situation(self, *, stalled: bool = False, **changes: Any) -> Situation:
        seen_fields = Observation.__dataclass_fields__
        seen = self.seen(**{key: value for key, value in changes.items() if key in seen_fields})
        usual: dict[str, Any] = {
            "owner": OWNER,
            "shared": SHARED,
            "seen": seen,
            "desired": None if stalled else self.desired,
            "zones": self.desired.zones,
            "sold_out": {},
            "refused_machine_type": None,
            "settled": True,
            "request_id": "new-id",
        }
        return Situation(
            **{**usual, **{key: value for key, value in changes.items() if key not in seen_fields}}
        )

    def with_instance(self, **changes: Any) -> Instance:
        return replace(self.instance, **changes)

    def with_inventory(self, **changes: Any) -> Inventory:
        return replace(self.inventory, **changes)


@pytest.fixture
def scene() -> Scene:
    return Scene()
