"""What is there: frozen pictures of the cloud, as gateways return them and `plan` reads them.

Names and states are Google's own words. Times are aware datetimes in UTC. What should be there is in
`desired`.
"""

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from typing import TypeAlias, TypeVar

from budget_operator.core.errors import BudgetError
from budget_operator.core.names import LABEL_MOVE

T = TypeVar("T")


class InstanceStatus(StrEnum):
    """Compute Engine's instance states (discovery document `Instance.status`)."""

    PROVISIONING = "PROVISIONING"
    STAGING = "STAGING"
    RUNNING = "RUNNING"
    PENDING = "PENDING"
    PENDING_STOP = "PENDING_STOP"
    STOPPING = "STOPPING"
    SUSPENDING = "SUSPENDING"
    SUSPENDED = "SUSPENDED"
    REPAIRING = "REPAIRING"
    DEPROVISIONING = "DEPROVISIONING"
    STOPPED = "STOPPED"
    TERMINATED = "TERMINATED"


OFF = frozenset({InstanceStatus.TERMINATED, InstanceStatus.STOPPED})
GOING_DOWN = frozenset(
    {
        InstanceStatus.STOPPING,
        InstanceStatus.PENDING_STOP,
        InstanceStatus.SUSPENDING,
        InstanceStatus.DEPROVISIONING,
    }
)
COMING_UP = frozenset({InstanceStatus.PROVISIONING, InstanceStatus.STAGING, InstanceStatus.PENDING})
#: In none of these is the machine charged for; its disk is.
UNCHARGED = OFF | COMING_UP | {InstanceStatus.SUSPENDED}
PROVISIONING = {"SPOT": "Spot", "STANDARD": "Standard"}


@dataclass(frozen=True)
class Instance:
    """One Compute Engine VM."""

    name: str
    zone: str
    id: str
    status: InstanceStatus
    machine_type: str
    provisioning_model: str  # SPOT or STANDARD
    external_ip: str | None
    labels: Mapping[str, str]
    label_fingerprint: str
    metadata: Mapping[str, str]
    metadata_fingerprint: str
    disk: str = ""  # name of the boot disk
    disk_gib: int = 0  # its size; 0 = not told
    access_config: str = ""  # name of what gives it its external address
    tags: tuple[str, ...] = ()  # for the network's firewall rules
    tags_fingerprint: str = ""
    started_at: datetime | None = None  # when it came up last, and when it went off last
    stopped_at: datetime | None = None
    created: datetime | None = None

    @property
    def is_cut_off(self) -> bool:
        """Whether it has no external address, and will not have one when it runs."""
        return not (self.access_config or self.external_ip)

    @property
    def destination(self) -> str:
        """The zone that it is being moved to; empty if it stays."""
        return self.labels.get(LABEL_MOVE, "")

    @property
    def provisioning(self) -> str | None:
        """In the words of a spec; None for what it does not know."""
        return PROVISIONING.get(self.provisioning_model)


@dataclass(frozen=True)
class Address:
    """One regional static address."""

    name: str
    region: str
    address: str
    status: str  # RESERVING, RESERVED or IN_USE
    labels: Mapping[str, str]
    id: str = ""
    created: datetime | None = None


@dataclass(frozen=True)
class Disk:
    """One zonal disk. `detached`: when it was last taken from a VM."""

    name: str
    zone: str
    id: str
    kind: str  # pd-balanced, …
    gib: int
    labels: Mapping[str, str]
    users: tuple[str, ...]  # names of the VMs that it is attached to
    created: datetime | None = None
    detached: datetime | None = None


@dataclass(frozen=True)
class OperationRef:
    """Where a Compute operation can be polled."""

    name: str
    scope: str  # "zones/Z", "regions/R" or "global"
    doing: str = field(default="", compare=False)  # what it does, for people; empty = not known


@dataclass(frozen=True)
class OperationState:
    """A polled operation. `error_code` is Google's code ("ZONE_RESOURCE_POOL_EXHAUSTED"), or None."""

    ref: OperationRef
    done: bool
    error_code: str | None = None
    error_message: str = ""


PREEMPTED = "compute.instances.preempted"
#: Google's types of the operations that take a VM down, and of those that bring it up again.
DOWN = (PREEMPTED, "compute.instances.hostError", "compute.instances.guestTerminate", "stop", "suspend")
UP = ("compute.instances.automaticRestart", "start", "resume")


@dataclass(frozen=True)
class PowerChange:
    """One operation that took a VM down or brought it up, and did not fail."""

    operation: str
    instance: str
    zone: str
    at: datetime  # when it began
    kind: str = PREEMPTED  # Google's type
    ended: datetime | None = None  # None: it is under way


class PowerKind(StrEnum):
    """What an operation did to a VM's power."""

    ON = "on"
    OFF = "off"
    TAKEN = "taken"  # Google told that it takes it away, some time before it was off
    GONE = "gone"  # with its disk


@dataclass(frozen=True)
class PowerEvent:
    """One operation on a VM, whoever asked for it."""

    at: datetime
    kind: PowerKind


@dataclass(frozen=True)
class Bucket:
    """The installation's bucket."""

    name: str
    labels: Mapping[str, str]
    region: str = ""  # or a multi-region


@dataclass(frozen=True)
class Object:
    """One object of the installation's bucket, without its content."""

    name: str
    size: int
    generation: int
    created: datetime


@dataclass(frozen=True, slots=True)
class Content:
    """What is known of an object's content where it was listed.

    CRC32C, and not MD5, because every object has it, also one that was put together from parts or copied from
    such a one. A list leaves it out for objects that are encrypted with a key of the project's own.
    """

    size: int
    crc32c: str  # in base64; empty: not told

    def may_be(self, other: "Content") -> bool:
        """Whether nothing that is known of both tells them apart."""
        told = self.crc32c and other.crc32c
        return self.size == other.size and (not told or self.crc32c == other.crc32c)


Contents: TypeAlias = Mapping[str, Content]  # by the object's name


@dataclass(frozen=True)
class Stored:
    """One small object of the bucket, as it was read or written."""

    data: bytes
    generation: int


@dataclass(frozen=True)
class Listed:
    """An object of somebody's bucket, without its content."""

    name: str
    generation: int
    size: int
    crc32c: str  # in base64, as is the other one
    md5: str = ""  # empty: it was put together from parts
    encoding: str = ""  # Content-Encoding


@dataclass(frozen=True)
class Topic:
    """The keep-alive topic. `subscribed`: somebody gets its messages."""

    name: str
    labels: Mapping[str, str]
    subscribed: bool = True


@dataclass(frozen=True)
class Function:
    """The keep-alive function. `state` is Cloud Functions' word (ACTIVE, DEPLOYING, FAILED, …)."""

    name: str
    state: str
    source_object: str
    topic: str
    environment: Mapping[str, str]
    labels: Mapping[str, str]
    message: str = ""
    runtime: str = ""
    service_account: str = ""  # e-mails
    build_service_account: str = ""
    trigger_service_account: str = ""
    as_made: bool = True  # its entry point, time limit, ingress and instances are what every one is given


@dataclass(frozen=True)
class Job:
    """A Cloud Scheduler job. `state` is ENABLED, PAUSED, DISABLED or UPDATE_FAILED."""

    name: str
    state: str
    schedule: str
    time_zone: str
    topic: str
    description: str
    data: bytes = b""  # of the message that it publishes


@dataclass(frozen=True)
class Firewall:
    """The firewall rule that opens 80 and 443."""

    name: str
    description: str
    target_tags: tuple[str, ...]
    allowed: tuple[str, ...]  # "tcp:443", or "tcp" for all of its ports; sorted
    network: str = ""  # "projects/…/networks/…"; empty = not told
    source_ranges: tuple[str, ...] = ("0.0.0.0/0",)
    direction: str = "INGRESS"
    priority: int = 1000
    disabled: bool = False
    further: tuple[str, ...] = ()  # names of other fields that change whom it lets through


@dataclass(frozen=True)
class Inventory:
    """One snapshot of everything of this installation in the project.

    Instances and addresses are those with the installation's label; bucket, topic, function, job and firewall
    are looked up by name, whoever they belong to; so is the object that names the installation's owner.
    `unknown` holds the scopes ("zones/Z", "regions/R") and the words ("bucket", "owner", "topic", "function",
    "job", "firewall", "power") that did not answer: nothing in them is created, released or forgotten.
    `problems` has the error of each that gave one. `taken_at` is the steady clock's.
    """

    taken_at: datetime
    instances: tuple[Instance, ...] = ()
    addresses: tuple[Address, ...] = ()
    power: tuple[PowerChange, ...] = ()  # what took VMs down and brought them up
    unknown: frozenset[str] = frozenset()
    bucket: Bucket | None = None
    owner: Stored | None = None
    topic: Topic | None = None
    function: Function | None = None
    job: Job | None = None
    firewall: Firewall | None = None
    problems: Mapping[str, BudgetError] = field(default_factory=dict)

    def instances_of(self, name: str) -> tuple[Instance, ...]:
        """Those with this name, in any zone."""
        return self._instances.get(name, ())

    def addresses_of(self, name: str) -> tuple[Address, ...]:
        """Those with this name, in any region."""
        return self._addresses.get(name, ())

    def power_of(self, name: str) -> tuple[PowerChange, ...]:
        """What took instances with this name down and brought them up."""
        return self._power.get(name, ())

    @cached_property
    def shared(self) -> str:
        """What all deployments use, to compare; without the owner's claim, which is renewed all the time."""
        return sys.intern(repr((self.bucket, self.topic, self.function, self.job, self.firewall)))

    @cached_property
    def _instances(self) -> Mapping[str, tuple[Instance, ...]]:
        return _grouped((each.name, each) for each in self.instances)

    @cached_property
    def _addresses(self) -> Mapping[str, tuple[Address, ...]]:
        return _grouped((each.name, each) for each in self.addresses)

    @cached_property
    def _power(self) -> Mapping[str, tuple[PowerChange, ...]]:
        return _grouped((each.instance, each) for each in self.power)


def _grouped(pairs: Iterable[tuple[str, T]]) -> dict[str, tuple[T, ...]]:
    found: dict[str, tuple[T, ...]] = {}
    for name, each in pairs:
        found[name] = (*found.get(name, ()), each)
    return found


@dataclass(frozen=True)
class Host:
    """What the host script says: the image that runs, and why the wanted one does not."""

    image: str | None = None  # empty: none answers yet; None: not told, as by scripts of older operators
    reason: str = ""
    message: str = ""
    replaced: str = ""  # the image that took another one's place last
    down_seconds: float | None = None  # for how long nobody was answered then


@dataclass(frozen=True)
class CertificateReport:
    """What the VM says about its certificate from an ACME authority."""

    name: str = ""  # the one it serves, or is to be served
    reason: str = ""
    message: str = ""
    retry_at: float | None = None  # seconds since 1970

    @property
    def is_valid(self) -> bool:
        """Whether it claims to have one."""
        return self.reason == "Issued"


@dataclass(frozen=True)
class GuestReport:
    """What the VM says about itself (guest attributes `budgetml/…`): untrusted, bounded, cleaned."""

    phase: str = ""
    target: str = ""
    active: str | None = None
    boot: Mapping[str, float] = field(default_factory=dict)
    failure_reason: str = ""
    failure_message: str = ""
    failure_log: str = ""
    failure_revision: str = ""
    recreated: str = ""  # the revision for which another one was stopped, memory being short
    ca_certificate: str = ""
    certificate: CertificateReport = CertificateReport()
    host: Host = Host()
    noticed_at: datetime | None = None  # when it read that Google would take it away, if it ever did


@dataclass(frozen=True)
class Probe:
    """The outcome of one real request through the public URL."""

    ok: bool
    message: str
    revision: str | None = None
    certificate_ok: bool = False
