"""The protocols through which `reconcile` reaches the world, in the core's own words.

`cloud/` implements the Google ones (one class per service), `cluster/kube.py` the Kubernetes ones. A look-up
returns None where nothing exists and raises `errors.BudgetError` where it could not tell; nobody may create
after a failed look-up. Mutations never retry by themselves and never wait for a long-running operation.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Generic, Literal, Protocol, TypeAlias, TypeVar

from budget_operator.core.observed import (
    Address,
    Bucket,
    Contents,
    Disk,
    Firewall,
    Function,
    GuestReport,
    Instance,
    Inventory,
    Job,
    Listed,
    Object,
    OperationRef,
    OperationState,
    PowerChange,
    PowerEvent,
    Probe,
    Stored,
    Topic,
)

T = TypeVar("T")

Named: TypeAlias = tuple[str, str]  # namespace and name
Document: TypeAlias = Mapping[str, Any]  # a live Kubernetes object, as the API server returns it

HTTPS_PORTS = ("80", "443")  # what the firewall rule opens


@dataclass(frozen=True)
class InstanceRequest:
    """Everything an instances.insert needs."""

    name: str
    zone: str
    machine_type: str
    provisioning_model: str  # SPOT or STANDARD
    disk_gib: int
    source_image: str
    network: str
    network_tag: str
    address: str  # the static IPv4 address for accessConfigs[0].natIP
    service_account: str  # e-mail; empty for none
    labels: Mapping[str, str]
    metadata: Mapping[str, str]


@dataclass(frozen=True)
class FunctionRequest:
    """Everything a functions.create or update needs."""

    name: str
    region: str
    runtime: str
    bucket: str
    source_object: str
    topic: str
    environment: Mapping[str, str]
    labels: Mapping[str, str]
    service_account: str = ""
    build_service_account: str = ""
    trigger_service_account: str = ""


@dataclass(frozen=True)
class Scan(Generic[T]):
    """A list over all scopes: what was found, and the scopes that did not answer."""

    items: tuple[T, ...]
    unknown: frozenset[str] = frozenset()


class Compute(Protocol):
    """Compute Engine."""

    def instances(self, label: str, value: str) -> Scan[Instance]: ...
    def instance(self, zone: str, name: str) -> Instance | None: ...
    def addresses(self, label: str, value: str) -> Scan[Address]: ...
    def address(self, region: str, name: str) -> Address | None: ...
    def disks(self, label: str, value: str) -> Scan[Disk]: ...
    def disk(self, zone: str, name: str) -> Disk | None: ...
    def power_changes(self, since: datetime) -> Scan[PowerChange]:
        """What has taken VMs of the project down and brought them up; operations that failed did not."""

    def power_events(self, instance_id: str) -> Scan[PowerEvent]:
        """Of one VM, that may be gone: as many as Google still knows, about two weeks of them."""

    def zone(self, name: str) -> bool:
        """Whether there is such a zone."""

    def machine_type(self, zone: str, name: str) -> bool:
        """Whether the zone, if there is one, offers the machine type."""

    def zones_with(self, machine_type: str) -> Scan[str]:
        """The zones of the project that offer the machine type."""

    def operation(self, ref: OperationRef) -> OperationState | None: ...
    def guest_report(self, zone: str, name: str) -> GuestReport: ...
    def insert_instance(self, request: InstanceRequest, request_id: str) -> OperationRef: ...
    def start_instance(self, zone: str, name: str, request_id: str) -> OperationRef: ...
    def resume_instance(self, zone: str, name: str, request_id: str) -> OperationRef: ...
    def stop_instance(self, zone: str, name: str, request_id: str) -> OperationRef: ...
    def simulate_maintenance(self, zone: str, name: str, request_id: str) -> OperationRef:
        """Of a Spot VM: preempt it, as Google does."""

    def delete_instance(self, zone: str, name: str, request_id: str) -> OperationRef: ...
    def set_machine_type(self, zone: str, name: str, machine_type: str, request_id: str) -> OperationRef: ...
    def resize_disk(self, zone: str, name: str, gib: int, request_id: str) -> OperationRef:
        """Larger only, whether the VM runs or not; its file system grows at the next boot."""

    def delete_disk(self, zone: str, name: str, request_id: str) -> OperationRef: ...
    def set_metadata(
        self, zone: str, name: str, changes: Mapping[str, str], request_id: str
    ) -> OperationRef: ...
    def set_labels(
        self, zone: str, name: str, changes: Mapping[str, str | None], request_id: str
    ) -> OperationRef:
        """None takes a label away."""

    def add_tag(self, zone: str, name: str, tag: str, request_id: str) -> OperationRef:
        """Beside the network tags that the instance has."""

    def add_access_config(self, zone: str, name: str, address: str, request_id: str) -> OperationRef:
        """Give an instance that has no external address this static one.

        Raises:
            AlreadyExists: it has an address.
            ResourceNotReady: another instance has this one.
        """

    def delete_access_config(
        self, zone: str, name: str, access_config: str, request_id: str
    ) -> OperationRef: ...
    def reserve_address(
        self, region: str, name: str, labels: Mapping[str, str], request_id: str
    ) -> OperationRef: ...
    def release_address(self, region: str, name: str, request_id: str) -> OperationRef: ...
    def firewall(self, name: str) -> Firewall | None: ...
    def insert_firewall(
        self, name: str, network: str, tag: str, description: str, request_id: str
    ) -> OperationRef: ...
    def delete_firewall(self, name: str, request_id: str) -> OperationRef: ...


class Storage(Protocol):
    """Cloud Storage: the installation's one bucket, and others that code is copied from."""

    def bucket(self) -> Bucket | None: ...
    def create_bucket(self, region: str, labels: Mapping[str, str]) -> None: ...
    def delete_bucket(self) -> None: ...
    def objects(self, prefix: str) -> Contents:
        """What lies in the bucket below a prefix.

        Raises:
            NotFound: there is no bucket.
        """

    def contents(self, prefix: str) -> tuple[Object, ...]:
        """The same with ages and generations; nothing where there is no bucket."""

    def listed(self, field: str, bucket: str, prefix: str, most: int) -> tuple[Listed, ...]:
        """The first objects of any bucket whose names begin with this; `field` of a spec names them.

        Raises:
            NotFound: there is no such bucket.
        """

    def copy(self, field: str, bucket: str, source: Listed, name: str) -> None:
        """An object of any bucket, in just this generation, into the installation's; not by way of here."""

    def upload(self, name: str, data: bytes, content_type: str) -> None: ...
    def delete_object(self, name: str) -> None: ...
    def read(self, name: str) -> Stored | None:
        """A small object; None if it, or the bucket, is not there."""

    def write(self, name: str, data: bytes, content_type: str, generation: int) -> int:
        """Write over this generation of the object (0: there is none); the new generation.

        Raises:
            PreconditionFailed: there is another one.
        """


class PubSub(Protocol):
    """Pub/Sub topics."""

    def topic(self, name: str) -> Topic | None: ...
    def create_topic(self, name: str, labels: Mapping[str, str]) -> None: ...
    def delete_topic(self, name: str) -> None: ...


class Scheduler(Protocol):
    """Cloud Scheduler jobs (in the region given at construction)."""

    def job(self, name: str) -> Job | None: ...
    def create_job(
        self, name: str, schedule: str, time_zone: str, topic: str, data: bytes, description: str
    ) -> None: ...
    def update_job(
        self, name: str, schedule: str, time_zone: str, topic: str, data: bytes, description: str
    ) -> None: ...
    def delete_job(self, name: str) -> None: ...


class Functions(Protocol):
    """Cloud Functions, second generation. Creates, updates and deletes are started, not waited for."""

    def function(self, name: str) -> Function | None: ...
    def create_function(self, request: FunctionRequest) -> None: ...
    def update_function(self, request: FunctionRequest) -> None: ...
    def delete_function(self, name: str) -> None: ...


class Snapshots(Protocol):
    """The shared inventory: one snapshot per project and cycle, however many deployments there are."""

    def snapshot(self, newer_than: datetime | None = None) -> Inventory: ...
    def resting(self) -> tuple[Inventory, timedelta]:
        """For a deployment at rest, and how long until there is a newer one: an older one will do, so that a
        minute has only so many calls.
        """

    def awaited(self, newer_than: datetime) -> timedelta | None:
        """For about how long such a one would have to be waited for, because another is being taken; None:
        not at all."""

    def forget(self) -> None: ...


@dataclass(frozen=True)
class Door:
    """What a caller of a deployment knows."""

    url: str
    ip: str  # where the URL's name leads, or should
    ca: str = ""  # PEM
    public: bool = False  # whether the public authorities are trusted as well


class Prober(Protocol):
    """Real requests to a deployment's public address, under its name, with a verified certificate."""

    def ready(self, door: Door) -> Probe: ...
    def many_ready(self, doors: Sequence[Door]) -> Mapping[Door, Probe]:
        """The same for many at once, over connections that are open; those that do not answer that way are
        left out, and have to be asked alone.
        """

    def predict(self, door: Door, token: str, payload: object) -> Probe: ...


class References(Protocol):
    """What a spec may refer to; each by its name, never listed."""

    def secret(self, namespace: str, name: str) -> Mapping[str, bytes] | None: ...

    def config_map(self, namespace: str, name: str) -> Mapping[str, bytes] | None:
        """Its files: `data` (as UTF-8) and `binaryData` together."""

    def ensure_secret(
        self, namespace: str, name: str, data: Mapping[str, bytes], owner: Document | None
    ) -> Mapping[str, bytes]:
        """Create the Secret if it is absent (with an ownerReference to `owner`); what it holds afterwards.

        Raises:
            ResourceNotReady: it goes with a predecessor of `owner` that had the same name.
        """


class Kubernetes(References, Protocol):
    """The API server. Every read is live; nothing here is cached. Failures are `errors.BudgetError`s:
    Unavailable where the server did not answer, PermissionDenied where RBAC refuses.
    """

    def cluster(self) -> str:
        """What tells this cluster from every other one."""

    def deployment(self, namespace: str, name: str) -> Document | None: ...

    def many_secrets(self, names: Sequence[Named]) -> Mapping[Named, Mapping[str, bytes] | None]:
        """What `secret` gives, for many at once; those that could not be read are left out."""

    def all_deployments(self) -> tuple[Document, ...]:
        """The metadata of every BudgetDeployment of the cluster, those being deleted included."""

    def add_finalizer(self, document: Document) -> Document:
        """Add `api.FINALIZER`, guarded by the document's resourceVersion; the new live document.

        Raises:
            PreconditionFailed: the document is stale.
            NotFound: it is gone.
        """

    def remove_finalizer(self, document: Document) -> None:
        """Remove `api.FINALIZER`, guarded in the same way. An object that is gone is a success."""

    def patch_status(self, document: Document, patch: Document) -> Document:
        """Apply a JSON merge patch to /status (nulls remove), with the document's resourceVersion.

        Raises:
            PreconditionFailed: the document is stale.
            NotFound: it is gone.
        """

    def delete_secret(self, namespace: str, name: str) -> None:
        """Delete the Secret. One that is gone is a success."""

    def event(
        self, document: Document, kind: Literal["Normal", "Warning"], reason: str, message: str
    ) -> None:
        """Record an Event about the object. Never raises: an Event must not fail a pass."""


@dataclass(frozen=True)
class Cloud:
    """Google Cloud as one pass sees it; `cloud.wiring` puts it together."""

    compute: Compute
    storage: Storage
    pubsub: PubSub
    scheduler: Scheduler
    functions: Functions
    snapshots: Snapshots
    prober: Prober
