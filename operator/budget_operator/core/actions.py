"""What a pass can do to the cloud: one small frozen class per call. Which of them are due is decided by
`plan` and `removal`; in which order and with which pauses they run, by `execution`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar

from budget_operator.core import artifact
from budget_operator.core.api import Intent
from budget_operator.core.artifact import Blob
from budget_operator.core.copied import FIELD
from budget_operator.core.errors import (
    BudgetError,
    CapacityExhausted,
    OperationFailed,
    ResourceNotReady,
)
from budget_operator.core.gateways import Cloud, FunctionRequest, InstanceRequest
from budget_operator.core.names import LABEL_MOVE, digest
from budget_operator.core.observed import OperationRef


class Room(StrEnum):
    """Parts of a deployment that fail and wait alone."""

    ARTIFACT = "artifact"
    KEEP_ALIVE = "keep-alive"
    INSTANCE = "instance"


@dataclass(frozen=True)
class Action(ABC):
    """One mutating call. If it starts an operation, `resource` is what has at most one at a time."""

    resource: ClassVar[str] = ""
    shared: ClassVar[bool] = False  # changes what other deployments use as well
    overtaken: ClassVar[type[BudgetError]] = OperationFailed  # what a preemption meanwhile means for it

    @property
    def key(self) -> str:
        """What the request id of a repeated attempt is found by."""
        return type(self).__name__

    @property
    def destination(self) -> str:
        """The zone that is given up, of all that a VM may move to, where the call is refused."""
        return ""

    @abstractmethod
    def perform(self, cloud: Cloud, request_id: str) -> OperationRef | None:
        """Make the call; the operation it started, if any."""


@dataclass(frozen=True)
class Call(Action):
    """A call that takes no request id and starts nothing that could be waited for."""

    def perform(self, cloud: Cloud, request_id: str) -> None:  # noqa: ARG002
        self.call(cloud)

    @abstractmethod
    def call(self, cloud: Cloud) -> None:
        """Make the call."""


@dataclass(frozen=True)
class CreateBucket(Call):
    shared = True
    region: str
    labels: Mapping[str, str]

    def call(self, cloud: Cloud) -> None:
        cloud.storage.create_bucket(self.region, self.labels)


@dataclass(frozen=True)
class DeleteBucket(Call):
    shared = True

    def call(self, cloud: Cloud) -> None:
        cloud.storage.delete_bucket()


@dataclass(frozen=True)
class Upload(Call):
    blob: Blob

    def call(self, cloud: Cloud) -> None:
        cloud.storage.upload(self.blob.name, self.blob.data, self.blob.content_type)


@dataclass(frozen=True)
class Copy(Call):
    copied: artifact.Copy

    def call(self, cloud: Cloud) -> None:
        cloud.storage.copy(FIELD, self.copied.bucket, self.copied.source, self.copied.name)


@dataclass(frozen=True)
class DeleteObject(Call):
    name: str

    def call(self, cloud: Cloud) -> None:
        cloud.storage.delete_object(self.name)


@dataclass(frozen=True)
class CreateTopic(Call):
    shared = True
    name: str
    labels: Mapping[str, str]

    def call(self, cloud: Cloud) -> None:
        cloud.pubsub.create_topic(self.name, self.labels)


@dataclass(frozen=True)
class DeleteTopic(Call):
    shared = True
    name: str

    def call(self, cloud: Cloud) -> None:
        cloud.pubsub.delete_topic(self.name)


@dataclass(frozen=True)
class JobRequest:
    """A Scheduler job as it should be."""

    name: str
    schedule: str
    time_zone: str
    topic: str
    data: bytes
    description: str


@dataclass(frozen=True)
class CreateJob(Call):
    shared = True
    job: JobRequest

    def call(self, cloud: Cloud) -> None:
        job = self.job
        cloud.scheduler.create_job(
            job.name, job.schedule, job.time_zone, job.topic, job.data, job.description
        )


@dataclass(frozen=True)
class UpdateJob(Call):
    shared = True
    job: JobRequest

    def call(self, cloud: Cloud) -> None:
        job = self.job
        cloud.scheduler.update_job(
            job.name, job.schedule, job.time_zone, job.topic, job.data, job.description
        )


@dataclass(frozen=True)
class DeleteJob(Call):
    shared = True
    name: str

    def call(self, cloud: Cloud) -> None:
        cloud.scheduler.delete_job(self.name)


@dataclass(frozen=True)
class CreateFunction(Call):
    shared = True
    request: FunctionRequest

    def call(self, cloud: Cloud) -> None:
        cloud.functions.create_function(self.request)


@dataclass(frozen=True)
class UpdateFunction(Call):
    shared = True
    request: FunctionRequest

    def call(self, cloud: Cloud) -> None:
        cloud.functions.update_function(self.request)


@dataclass(frozen=True)
class DeleteFunction(Call):
    shared = True
    name: str

    def call(self, cloud: Cloud) -> None:
        cloud.functions.delete_function(self.name)


@dataclass(frozen=True)
class InsertFirewall(Action):
    shared = True
    resource = "firewall"
    name: str
    network: str
    tag: str
    description: str

    def perform(self, cloud: Cloud, request_id: str) -> OperationRef:
        return cloud.compute.insert_firewall(self.name, self.network, self.tag, self.description, request_id)


@dataclass(frozen=True)
class DeleteFirewall(Action):
    shared = True
    resource = "firewall"
    name: str

    def perform(self, cloud: Cloud, request_id: str) -> OperationRef:
        return cloud.compute.delete_firewall(self.name, request_id)


@dataclass(frozen=True)
class ReserveAddress(Action):
    resource = "address"
    region: str
    name: str
    labels: Mapping[str, str]

    @property
    def key(self) -> str:
        return f"ReserveAddress {self.region}"

    def perform(self, cloud: Cloud, request_id: str) -> OperationRef:
        return cloud.compute.reserve_address(self.region, self.name, self.labels, request_id)


@dataclass(frozen=True)
class ReleaseAddress(Action):
    resource = "address"
    region: str
    name: str

    @property
    def key(self) -> str:
        return f"ReleaseAddress {self.region}"

    def perform(self, cloud: Cloud, request_id: str) -> OperationRef:
        return cloud.compute.release_address(self.region, self.name, request_id)


@dataclass(frozen=True)
class InsertInstance(Action):
    """The one call that may never happen twice: its intent is in the status before it is made."""

    resource = "instance"
    overtaken = CapacityExhausted  # the zone has no room for it
    request: InstanceRequest = field(repr=False)
    intent: Intent

    @property
    def destination(self) -> str:
        return self.intent.zone

    def perform(self, cloud: Cloud, request_id: str) -> OperationRef:
        return cloud.compute.insert_instance(self.request, request_id)


@dataclass(frozen=True)
class InstanceAction(Action):
    """A call on an existing instance."""

    resource = "instance"
    zone: str
    name: str

    @property
    def key(self) -> str:
        return f"{type(self).__name__} {self.zone}"


@dataclass(frozen=True)
class StartInstance(InstanceAction):
    overtaken = ResourceNotReady
    machine_type: str  # what the zone may be out of
    provisioning_model: str

    def perform(self, cloud: Cloud, request_id: str) -> OperationRef:
        return cloud.compute.start_instance(self.zone, self.name, request_id)


@dataclass(frozen=True)
class ResumeInstance(StartInstance):
    """Of one that is suspended, which cannot be started."""

    def perform(self, cloud: Cloud, request_id: str) -> OperationRef:
        return cloud.compute.resume_instance(self.zone, self.name, request_id)


@dataclass(frozen=True)
class StopInstance(InstanceAction):
    def perform(self, cloud: Cloud, request_id: str) -> OperationRef:
        return cloud.compute.stop_instance(self.zone, self.name, request_id)


@dataclass(frozen=True)
class DeleteInstance(InstanceAction):
    def perform(self, cloud: Cloud, request_id: str) -> OperationRef:
        return cloud.compute.delete_instance(self.zone, self.name, request_id)


@dataclass(frozen=True)
class SetMachineType(InstanceAction):
    machine_type: str

    @property
    def key(self) -> str:
        return f"SetMachineType {self.zone} {self.machine_type}"

    def perform(self, cloud: Cloud, request_id: str) -> OperationRef:
        return cloud.compute.set_machine_type(self.zone, self.name, self.machine_type, request_id)


@dataclass(frozen=True)
class ResizeDisk(InstanceAction):
    """Of the instance's boot disk."""

    disk: str
    gib: int

    @property
    def key(self) -> str:
        return f"ResizeDisk {self.zone} {self.gib}"

    def perform(self, cloud: Cloud, request_id: str) -> OperationRef:
        return cloud.compute.resize_disk(self.zone, self.disk, self.gib, request_id)


@dataclass(frozen=True)
class DeleteDisk(InstanceAction):
    """One that is attached to no instance."""

    resource = "disk"

    def perform(self, cloud: Cloud, request_id: str) -> OperationRef:
        return cloud.compute.delete_disk(self.zone, self.name, request_id)


@dataclass(frozen=True)
class SetMetadata(InstanceAction):
    changes: Mapping[str, str] = field(repr=False)

    @property
    def key(self) -> str:
        return f"SetMetadata {self.zone} {_fingerprint(self.changes)}"

    def perform(self, cloud: Cloud, request_id: str) -> OperationRef:
        return cloud.compute.set_metadata(self.zone, self.name, self.changes, request_id)


@dataclass(frozen=True)
class AnnounceMove(InstanceAction):
    """Write on a VM that is off where it moves to, so that nobody starts it meanwhile."""

    to: str

    @property
    def key(self) -> str:
        return f"AnnounceMove {self.zone} {self.to}"

    @property
    def destination(self) -> str:
        return self.to

    def perform(self, cloud: Cloud, request_id: str) -> OperationRef:
        return cloud.compute.set_labels(self.zone, self.name, {LABEL_MOVE: self.to}, request_id)


@dataclass(frozen=True)
class EndMove(InstanceAction):
    """Of a VM that stays where it is."""

    def perform(self, cloud: Cloud, request_id: str) -> OperationRef:
        return cloud.compute.set_labels(self.zone, self.name, {LABEL_MOVE: None}, request_id)


@dataclass(frozen=True)
class DetachAddress(InstanceAction):
    """From a VM that moves (`to` a zone), or that is off on purpose: whoever has the address serves."""

    access_config: str
    to: str = ""

    @property
    def destination(self) -> str:
        return self.to

    def perform(self, cloud: Cloud, request_id: str) -> OperationRef:
        return cloud.compute.delete_access_config(self.zone, self.name, self.access_config, request_id)


@dataclass(frozen=True)
class AttachAddress(InstanceAction):
    address: str

    def perform(self, cloud: Cloud, request_id: str) -> OperationRef:
        return cloud.compute.add_access_config(self.zone, self.name, self.address, request_id)


@dataclass(frozen=True)
class AddTag(InstanceAction):
    tag: str

    def perform(self, cloud: Cloud, request_id: str) -> OperationRef:
        return cloud.compute.add_tag(self.zone, self.name, self.tag, request_id)


@dataclass(frozen=True)
class SetLabels(InstanceAction):
    changes: Mapping[str, str]

    @property
    def key(self) -> str:
        return f"SetLabels {self.zone} {_fingerprint(self.changes)}"

    def perform(self, cloud: Cloud, request_id: str) -> OperationRef:
        return cloud.compute.set_labels(self.zone, self.name, self.changes, request_id)


def _fingerprint(changes: Mapping[str, str]) -> str:
    return digest(*(word for item in sorted(changes.items()) for word in item))
