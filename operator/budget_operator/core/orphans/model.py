"""The words: resources that bear the mark, what was seen of them, and what was found."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from budget_operator.core.artifact import own_prefixes
from budget_operator.core.names import Owner, Shared, digest, key_in, key_of
from budget_operator.core.observed import Disk, Inventory, Object


class Kind(StrEnum):
    """In the order in which they go: what others live by comes after them."""

    INSTANCE = "instance"
    DISK = "disk"
    ADDRESS = "address"
    JOB = "job"
    FUNCTION = "function"
    TOPIC = "topic"
    FIREWALL = "firewall"
    OBJECTS = "objects"  # of one deployment, below one prefix of the bucket
    BUCKET = "bucket"  # with what lies in it beside those


class Verdict(StrEnum):
    """What is said of a resource; of what a BudgetDeployment owns nothing is."""

    ORPHAN = "orphan"
    RETAINED = "retained"  # left on purpose
    NEW = "new"  # its object may still come
    COPY = "copy"  # has our labels and no name that we give: not ours to delete
    UNKNOWN = "unknown"  # what would tell cannot be seen


@dataclass(frozen=True)
class Resource:
    """Of one installation."""

    kind: Kind
    name: str
    place: str  # zone, region, bucket, or `global`
    id: str = ""  # tells it from a later one of the same name
    key: str = ""  # of the deployment that it was made for; empty: it is for all of them
    ours: bool = True  # its name is the one that we give
    created: datetime | None = None
    loose: bool = False  # a disk that no VM has
    detached: datetime | None = None  # and since when


@dataclass(frozen=True)
class Seen:
    """Everything that bears the mark, and who there is to own it.

    `owners`: of every BudgetDeployment that was there before or after the look at the cloud, so that none is
    missed that came or went meanwhile. `objects`: in the bucket; None: not looked at. `since`: when this
    cluster got the installation, if that is known. `unseen`: why something could not be seen, by scope or by
    the word for it.
    """

    inventory: Inventory
    owners: frozenset[Owner]
    disks: tuple[Disk, ...] = ()
    objects: tuple[Object, ...] | None = None
    since: datetime | None = None
    unseen: Mapping[str, str] = field(default_factory=dict)

    @property
    def silent(self) -> tuple[str, ...]:
        """Zones and regions that do not answer."""
        return tuple(sorted(word for word in self.unseen if "/" in word))


@dataclass(frozen=True)
class Found:
    """One line. `monthly`: dollars; None: not known."""

    resource: Resource
    verdict: Verdict
    why: str
    monthly: float | None = None


@dataclass(frozen=True)
class Report:
    """All lines, and what could not be seen."""

    found: tuple[Found, ...]
    seen: Seen

    @property
    def orphans(self) -> tuple[Found, ...]:
        """In the order in which they go."""
        order = list(Kind)
        mine = [each for each in self.found if each.verdict is Verdict.ORPHAN]
        return tuple(sorted(mine, key=lambda each: order.index(each.resource.kind)))


class End(StrEnum):
    """What became of an orphan that was to be deleted."""

    DELETED = "deleted"
    GONE = "gone"  # it was not there any more
    LEFT = "left"  # it is not what it was, or something else has to go before it
    FAILED = "failed"


@dataclass(frozen=True)
class Outcome:
    """Of one orphan."""

    found: Found
    end: End
    why: str = ""

    @property
    def is_over(self) -> bool:
        """Whether it is not there any more."""
        return self.end in (End.DELETED, End.GONE)


ROOTS = tuple(prefix.partition("/")[0] + "/" for prefix in own_prefixes("name"))
"""Below these each deployment has a folder with its name."""


def resources(seen: Seen, shared: Shared) -> Iterator[Resource]:
    """Everything that bears the mark, those of deployments first."""
    for vm in seen.inventory.instances:
        key = key_of(vm.labels)
        yield Resource(
            Kind.INSTANCE, vm.name, vm.zone, vm.id, key, _is_ours(vm.name, key), created=vm.created
        )
    for disk in seen.disks:
        key, loose = key_of(disk.labels), not disk.users
        ours, times = _is_ours(disk.name, key), (disk.created, loose, disk.detached)
        yield Resource(Kind.DISK, disk.name, disk.zone, disk.id, key, ours, *times)
    for ip in seen.inventory.addresses:
        key = key_of(ip.labels)
        ours = _is_ours(ip.name, key)
        yield Resource(Kind.ADDRESS, ip.name, ip.region, ip.id, key, ours, ip.created)
    yield from _shared(seen.inventory, shared)
    bucket = seen.inventory.bucket
    if bucket is not None and shared.owns(bucket.labels):
        yield from _folders(bucket.name, seen.objects or ())
        yield Resource(Kind.BUCKET, bucket.name, bucket.region)


def _is_ours(name: str, key: str) -> bool:
    return bool(key) and key_in(name) == key


def _shared(inventory: Inventory, shared: Shared) -> Iterator[Resource]:
    job, firewall = inventory.job, inventory.firewall
    topic, function = inventory.topic, inventory.function
    if job is not None and job.description == shared.mark:
        yield Resource(Kind.JOB, job.name, "")
    if function is not None and shared.owns(function.labels):
        yield Resource(Kind.FUNCTION, function.name, "")
    if topic is not None and shared.owns(topic.labels):
        yield Resource(Kind.TOPIC, topic.name, "global")
    if firewall is not None and firewall.description == shared.mark:
        yield Resource(Kind.FIREWALL, firewall.name, "global")


def _folders(bucket: str, objects: tuple[Object, ...]) -> Iterator[Resource]:
    folders: dict[str, list[Object]] = {}
    for each in objects:
        if each.name.startswith(ROOTS):
            folders.setdefault(folder_of(each.name), []).append(each)
    for folder, held in folders.items():
        key = key_in(folder.split("/")[1])
        newest = max(each.created for each in held)
        identity = digest(*sorted(f"{each.name}#{each.generation}" for each in held))
        yield Resource(Kind.OBJECTS, folder, bucket, identity, key, bool(key), newest)


def folder_of(name: str) -> str:
    """`code/budget-a-0/1/bundle.zip` -> `code/budget-a-0/`; of what lies beside the folders all of it."""
    root, _, rest = name.partition("/")
    deployment, slash, _ = rest.partition("/")
    return f"{root}/{deployment}{slash}"
