"""A cloud and an API server in memory, for passes over deployments: time is a number that tests turn, every
mutating call can crash before or after its effect.

They implement the protocols of `core.gateways`; that those tell the truth is tested in contract/ and e2e/.
"""

import io
import itertools
import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from budget_operator.core.artifact import Blob
from budget_operator.core.desired import WANTED_RUNNING, Parts
from budget_operator.core.errors import (
    AlreadyExists,
    BudgetError,
    InvalidSpec,
    NotFound,
    PreconditionFailed,
    ResourceNotReady,
)
from budget_operator.core.gateways import Cloud, Door, FunctionRequest, InstanceRequest, Scan
from budget_operator.core.names import LABEL_WANTED, METADATA_CONFIG, Owner, Shared, region_of
from budget_operator.core.observed import (
    Address,
    Bucket,
    CertificateReport,
    Content,
    Contents,
    Disk,
    Firewall,
    Function,
    GuestReport,
    Host,
    Instance,
    InstanceStatus,
    Inventory,
    Job,
    Listed,
    Object,
    OperationRef,
    OperationState,
    PowerChange,
    PowerEvent,
    PowerKind,
    Probe,
    Stored,
    Topic,
)
from budget_operator.core.ownership import OWNER_OBJECT
from budget_operator.core.settings import Settings
from budget_operator.reconcile import Means, Reconciler
from dev.simulation.apiserver import ApiServer, Crash, Journal

REGIONS = ("us-central1", "us-east1", "us-west4")
START = datetime(2026, 11, 24, 12, tzinfo=UTC)
OPERATION_SECONDS = 4
BOOT_SECONDS = 10
ROLLOUT_SECONDS = 5
BUILD_SECONDS = 10
COPIED = b"copied: "
"""Before the size and checksum of what was copied, which stand for its content."""

SETTINGS = Settings(
    project="proj",
    zones=("us-central1-a", "us-central1-b"),
    bucket="bucket",
    image="registry/server:1",
    function_source=Path("unused"),
    logs_command="logs {name} {project} {zone}",
)
PARTS = Parts(
    "#!/bin/bash start", "#!/bin/bash stop", {"main.py": b"def restart(): ...", "requirements.txt": b""}
)


@dataclass
class Clock:
    """Time that only tests move. `off`: how far the operator's machine has set its clock ahead."""

    now: datetime = START
    off: timedelta = timedelta(0)

    def __call__(self) -> datetime:
        return self.now

    def wall(self) -> datetime:
        return self.now + self.off

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@dataclass
class FakeOperation:
    """Done at a time, with an error or an effect."""

    ref: OperationRef
    done_at: datetime
    error: str | None = None
    effect: Callable[[], None] = lambda: None
    settled: bool = False


@dataclass
class FakeCloud:
    """Google Cloud: all gateways in one."""

    clock: Clock
    journal: Journal
    vms: dict[tuple[str, str], Instance] = field(default_factory=dict)  # by zone and name
    ips: dict[tuple[str, str], Address] = field(default_factory=dict)  # by region and name
    power: list[PowerChange] = field(default_factory=list)
    disks_left: dict[tuple[str, str], Disk] = field(default_factory=dict)  # those that have outlived a VM
    operations: dict[str, FakeOperation] = field(default_factory=dict)
    by_request: dict[str, OperationRef] = field(default_factory=dict)
    the_bucket: Bucket | None = None
    blobs: dict[str, bytes] = field(default_factory=dict)
    generations: dict[str, int] = field(default_factory=dict)
    """Of those that are written over."""
    sources: dict[str, list[Listed]] = field(default_factory=dict)
    """What lies in buckets of users."""
    looks: int = 0
    """At these."""
    the_owner: Stored | None = None
    the_topic: Topic | None = None
    the_function: Function | None = None
    the_job: Job | None = None
    the_firewall: Firewall | None = None
    sold_out: set[str] = field(default_factory=set)  # zones
    unknown: set[str] = field(default_factory=set)  # scopes that do not answer
    down: dict[str, BudgetError] = field(default_factory=dict)  # parts of the inventory that fail
    refuse: dict[str, BudgetError] = field(default_factory=dict)  # mutating calls that fail, by name
    absent: set[str] = field(default_factory=set)  # zones and machine types that do not exist
    offers_down: BudgetError | None = None
    offers_read: int = 0
    failing_builds: int = 0
    guest_failure: dict[str, str] = field(default_factory=dict)
    unpullable: set[str] = field(default_factory=set)  # images
    certificates: dict[str, CertificateReport] = field(default_factory=dict)  # by instance id
    running_image: dict[str, str] = field(default_factory=dict)  # by instance id
    payloads: list[object] = field(default_factory=list)
    predictions_fail: bool = False
    silent: bool = False  # requests to endpoints fail
    booted_at: dict[str, datetime] = field(default_factory=dict)  # by instance id
    changed_at: dict[str, datetime] = field(default_factory=dict)
    powered: dict[str, list[PowerEvent]] = field(default_factory=dict)  # by instance id
    histories_read: int = 0
    reports_read: int = 0
    requests: int = 0
    snapshots_taken: int = 0
    cached: Inventory | None = None
    lag_seconds: float = 0.0  # how long a new VM is not seen by anybody
    visible_at: dict[tuple[str, str], datetime] = field(default_factory=dict)
    happened: datetime = START  # when what is settled just now did
    _numbers: Any = field(default_factory=lambda: itertools.count(1))

    @property
    def gateways(self) -> Cloud:
        return Cloud(self, self, self, self, self, self, self)

    @property
    def empty(self) -> bool:
        self.settle()
        shared = (self.the_bucket, self.the_topic, self.the_function, self.the_job, self.the_firewall)
        return not (self.vms or self.ips or any(shared))

    # --- time ---

    def settle(self) -> None:
        """Let everything happen whose time has come."""
        for operation in list(self.operations.values()):
            if not operation.settled and operation.done_at <= self.clock.now:
                operation.settled = True
                self.happened = operation.done_at
                operation.effect()
        self.happened = self.clock.now

    def _begin(
        self,
        scope: str,
        request_id: str,
        effect: Callable[[], None] = lambda: None,
        error: str | None = None,
    ) -> OperationRef:
        ref = OperationRef(f"operation-{next(self._numbers)}", scope)
        done_at = self.clock.now + timedelta(seconds=OPERATION_SECONDS)
        self.operations[ref.name] = FakeOperation(ref, done_at, error, effect)
        self.by_request[request_id] = ref
        return ref

    def _mutate(self, call: str, request_id: str, effect: Callable[[], OperationRef]) -> OperationRef:
        def once() -> OperationRef:
            self.settle()
            self._refuse(call)
            return self.by_request.get(request_id) or effect()

        started: OperationRef = self.journal.mutate(call, once)
        return started

    def _call(self, call: str, effect: Callable[[], None]) -> None:
        def once() -> None:
            self.settle()
            self._refuse(call)
            effect()

        self.journal.mutate(call, once)

    def _refuse(self, call: str) -> None:
        word = call.split(maxsplit=1)[0]
        for what, error in self.refuse.items():
            if what == word or (" " in what and call.startswith(what)):
                raise error

    # --- compute: looking ---

    def snapshot(self, newer_than: datetime | None = None) -> Inventory:
        """Shared for some seconds, like the real one."""
        old = self.cached
        fresh = old is not None and self.clock.now - old.taken_at < timedelta(seconds=5)
        if old is not None and fresh and (newer_than is None or old.taken_at >= newer_than):
            return old
        self.cached = self._picture()
        return self.cached

    def resting(self) -> tuple[Inventory, timedelta]:
        old, life = self.cached, timedelta(seconds=30)
        found = old if old and self.clock.now - old.taken_at < life else self.snapshot()
        return found, life - (self.clock.now - found.taken_at)

    def awaited(self, newer_than: datetime) -> timedelta | None:
        return None

    def _picture(self) -> Inventory:
        self.settle()
        self.snapshots_taken += 1
        if "all" in self.down:
            raise self.down["all"]
        seen = [
            vm
            for key, vm in self.vms.items()
            if f"zones/{vm.zone}" not in self.unknown and self._visible(key)
        ]

        def part(word: str, value: Any) -> Any:
            return None if word in self.down else value

        return Inventory(
            taken_at=self.clock.now,
            instances=tuple(vm for vm in seen if vm.labels),
            addresses=tuple(
                ip for ip in self.ips.values() if ip.labels and f"regions/{ip.region}" not in self.unknown
            ),
            power=tuple(self.power),
            unknown=frozenset(self.unknown | set(self.down)),
            bucket=part("bucket", self.the_bucket),
            owner=part("owner", self.the_owner),
            topic=part("topic", self.the_topic),
            function=part("function", self.the_function),
            job=part("job", self.the_job),
            firewall=part("firewall", self.the_firewall),
            problems=dict(self.down),
        )

    def _visible(self, key: tuple[str, str]) -> bool:
        return self.visible_at.get(key, START) <= self.clock.now

    def forget(self) -> None:
        self.cached = None

    def instances(self, label: str, value: str) -> Scan[Instance]:
        raise NotImplementedError

    def addresses(self, label: str, value: str) -> Scan[Address]:
        raise NotImplementedError

    def disks(self, label: str, value: str) -> Scan[Disk]:
        if "disks" in self.down:
            raise self.down["disks"]
        return Scan(tuple(each for each in self.disks_left.values() if each.labels.get(label) == value))

    def disk(self, zone: str, name: str) -> Disk | None:
        self.settle()
        return self.disks_left.get((zone, name))

    def delete_disk(self, zone: str, name: str, request_id: str) -> OperationRef:
        def effect() -> OperationRef:
            return self._begin(f"zones/{zone}", request_id, lambda: self._disk_gone(zone, name))

        return self._mutate(f"delete_disk {zone} {name}", request_id, effect)

    def _disk_gone(self, zone: str, name: str) -> None:
        self.disks_left.pop((zone, name), None)

    def power_changes(self, since: datetime) -> Scan[PowerChange]:
        raise NotImplementedError

    def instance(self, zone: str, name: str) -> Instance | None:
        self.settle()
        if f"zones/{zone}" in self.unknown:
            raise BudgetError(f"{zone} does not answer")
        return self.vms.get((zone, name)) if self._visible((zone, name)) else None

    def address(self, region: str, name: str) -> Address | None:
        self.settle()
        return self.ips.get((region, name))

    def zone(self, name: str) -> bool:
        return self._offered(name)

    def machine_type(self, zone: str, name: str) -> bool:
        return self._offered(zone, name, f"{zone}/{name}")

    def zones_with(self, machine_type: str) -> Scan[str]:
        self.offers_read += 1
        if self.offers_down is not None:
            raise self.offers_down
        zones = (f"{region}-{letter}" for region in REGIONS for letter in "ab")
        return Scan(
            tuple(each for each in zones if not {machine_type, f"{each}/{machine_type}"} & self.absent)
        )

    def _offered(self, *words: str) -> bool:
        self.offers_read += 1
        if self.offers_down is not None:
            raise self.offers_down
        return not self.absent.intersection(words)

    def firewall(self, name: str) -> Firewall | None:
        return self.the_firewall

    def operation(self, ref: OperationRef) -> OperationState | None:
        self.settle()
        found = self.operations.get(ref.name)
        if found is None:
            return None
        if not found.settled:
            return OperationState(ref, done=False)
        return OperationState(ref, True, found.error, found.error or "")

    def guest_report(self, zone: str, name: str) -> GuestReport:
        self.settle()
        self.reports_read += 1
        vm = self.vms.get((zone, name))
        if vm is None or vm.id not in self.booted_at:
            return GuestReport()
        target = json.loads(vm.metadata[METADATA_CONFIG])["revision"]
        failure = self.guest_failure
        serves = self._serves(vm)
        return GuestReport(
            phase="failed" if failure else ("serving" if serves else "load"),
            target=target,
            active=self._active(vm),
            boot={"engine": 1.0, "load": 2.04},
            failure_reason=failure.get("reason", ""),
            failure_message=failure.get("message", ""),
            failure_log=failure.get("log", ""),
            failure_revision=target if failure else "",
            ca_certificate=self.ca(vm),
            certificate=self.certificates.get(vm.id, CertificateReport()),
            host=self._host(vm),
        )

    def _host(self, vm: Instance) -> Host:
        """The wanted image runs if it can be pulled, else the last that did."""
        wanted: str = json.loads(vm.metadata[METADATA_CONFIG])["image"]
        if wanted in self.unpullable:
            return Host(self.running_image.get(vm.id, ""), "ImagePullFailed", f"{wanted}: not found")
        self.running_image[vm.id] = wanted
        return Host(wanted)

    def ca(self, vm: Instance) -> str:
        """The root lives on the disk: another VM has another one."""
        return f"PEM {vm.id}"

    # --- compute: changing ---

    def insert_instance(self, request: InstanceRequest, request_id: str) -> OperationRef:
        def effect() -> OperationRef:
            key = (request.zone, request.name)
            if key in self.vms:
                raise AlreadyExists(request.name)
            if key in self.disks_left:
                raise AlreadyExists(f"projects/p/zones/{request.zone}/disks/{request.name} exists")
            scope = f"zones/{request.zone}"
            self._free(request.address)
            if request.zone in self.sold_out:
                return self._begin(scope, request_id, error="ZONE_RESOURCE_POOL_EXHAUSTED")
            self.visible_at[key] = self.clock.now + timedelta(seconds=self.lag_seconds)
            self.vms[key] = Instance(
                name=request.name,
                zone=request.zone,
                id=str(next(self._numbers)),
                status=InstanceStatus.PROVISIONING,
                machine_type=request.machine_type,
                provisioning_model=request.provisioning_model,
                external_ip=request.address,
                labels=dict(request.labels),
                label_fingerprint="f",
                metadata=dict(request.metadata),
                metadata_fingerprint="f",
                disk=request.name,
                disk_gib=request.disk_gib,
                access_config="External NAT",
                tags=(request.network_tag,),
                created=self.clock.now,
            )
            return self._begin(scope, request_id, lambda: self._boot(*key))

        return self._mutate(f"insert_instance {request.zone} {request.name}", request_id, effect)

    def _boot(self, zone: str, name: str) -> None:
        vm = self.vms.get((zone, name))
        if vm is not None and vm.status is InstanceStatus.PROVISIONING:
            self._power(vm, PowerKind.ON)
            self.vms[zone, name] = replace(vm, status=InstanceStatus.RUNNING, started_at=self.happened)
            self.booted_at[vm.id] = self.happened
            self.changed_at.pop(vm.id, None)

    def start_instance(self, zone: str, name: str, request_id: str) -> OperationRef:
        def effect() -> OperationRef:
            vm = self._vm(zone, name)
            scope = f"zones/{zone}"
            if vm.status is InstanceStatus.STOPPING:
                raise ResourceNotReady(f"{name} is stopping")
            if vm.status is not InstanceStatus.TERMINATED:
                return self._begin(scope, request_id)
            if zone in self.sold_out:
                return self._begin(scope, request_id, error="ZONE_RESOURCE_POOL_EXHAUSTED")
            self.vms[zone, name] = replace(vm, status=InstanceStatus.PROVISIONING)
            begun = self.clock.now
            return self._begin(scope, request_id, lambda: self._started(zone, name, begun))

        return self._mutate(f"start_instance {zone} {name}", request_id, effect)

    def _started(self, zone: str, name: str, begun: datetime) -> None:
        vm = self.vms.get((zone, name))
        if vm is not None and vm.status is InstanceStatus.PROVISIONING:
            self._boot(zone, name)
            self._tell_of("start", zone, name, begun)

    def _tell_of(self, kind: str, zone: str, name: str, begun: datetime) -> None:
        operation = f"operation-{next(self._numbers)}"
        self.power.append(PowerChange(operation, name, zone, begun, kind, self.happened))

    def resume_instance(self, zone: str, name: str, request_id: str) -> OperationRef:
        def effect() -> OperationRef:
            vm, scope = self._vm(zone, name), f"zones/{zone}"
            if vm.status is not InstanceStatus.SUSPENDED:
                raise ResourceNotReady(f"{name} is not suspended")
            if zone in self.sold_out:
                return self._begin(scope, request_id, error="ZONE_RESOURCE_POOL_EXHAUSTED")
            self.vms[zone, name] = replace(vm, status=InstanceStatus.PROVISIONING)
            return self._begin(scope, request_id, lambda: self._resumed(zone, name))

        return self._mutate(f"resume_instance {zone} {name}", request_id, effect)

    def _resumed(self, zone: str, name: str) -> None:
        """It goes on where it was, without a boot."""
        self.vms[zone, name] = replace(self._vm(zone, name), status=InstanceStatus.RUNNING)

    def stop_instance(self, zone: str, name: str, request_id: str) -> OperationRef:
        def effect() -> OperationRef:
            vm = self._vm(zone, name)
            if vm.status is InstanceStatus.SUSPENDED:
                raise ResourceNotReady(f"{name} is suspended")
            self.vms[zone, name] = replace(vm, status=InstanceStatus.STOPPING)
            self._tell_of("stop", zone, name, self.clock.now)
            return self._begin(f"zones/{zone}", request_id, lambda: self._turn_off(zone, name))

        return self._mutate(f"stop_instance {zone} {name}", request_id, effect)

    def _turn_off(self, zone: str, name: str) -> None:
        vm = self.vms.get((zone, name))
        if vm is not None:
            self._power(vm, PowerKind.OFF)
            self.vms[zone, name] = replace(vm, status=InstanceStatus.TERMINATED, stopped_at=self.happened)
            self.booted_at.pop(vm.id, None)

    def simulate_maintenance(self, zone: str, name: str, request_id: str) -> OperationRef:
        def effect() -> OperationRef:
            self.preempt(name)
            return self._begin(f"zones/{zone}", request_id)

        return self._mutate(f"simulate_maintenance {zone} {name}", request_id, effect)

    def delete_instance(self, zone: str, name: str, request_id: str) -> OperationRef:
        def effect() -> OperationRef:
            vm = self._vm(zone, name)
            self.vms[zone, name] = replace(vm, status=InstanceStatus.STOPPING)
            return self._begin(f"zones/{zone}", request_id, lambda: self._gone(zone, name))

        return self._mutate(f"delete_instance {zone} {name}", request_id, effect)

    def _gone(self, zone: str, name: str) -> None:
        vm = self.vms.pop((zone, name), None)
        if vm is not None:
            self._power(vm, PowerKind.GONE)

    def _power(self, vm: Instance, kind: PowerKind) -> None:
        self.powered.setdefault(vm.id, []).append(PowerEvent(self.clock.now, kind))

    def power_events(self, instance_id: str) -> Scan[PowerEvent]:
        self.histories_read += 1
        return Scan(tuple(self.powered.get(instance_id, ())))

    def resize_disk(self, zone: str, name: str, gib: int, request_id: str) -> OperationRef:
        def effect() -> OperationRef:
            if gib <= self._vm(zone, name).disk_gib:
                raise InvalidSpec(f"{gib} is not larger")
            return self._begin(f"zones/{zone}", request_id, lambda: self._grown(zone, name, gib))

        return self._mutate(f"resize_disk {zone} {gib}", request_id, effect)

    def _grown(self, zone: str, name: str, gib: int) -> None:
        if (zone, name) in self.vms:
            self.vms[zone, name] = replace(self.vms[zone, name], disk_gib=gib)

    def set_machine_type(self, zone: str, name: str, machine_type: str, request_id: str) -> OperationRef:
        def effect() -> OperationRef:
            vm = self._vm(zone, name)
            if vm.status is not InstanceStatus.TERMINATED:
                raise ResourceNotReady(f"{name} is not stopped")
            self.vms[zone, name] = replace(vm, machine_type=machine_type)
            return self._begin(f"zones/{zone}", request_id)

        return self._mutate(f"set_machine_type {zone} {machine_type}", request_id, effect)

    def set_metadata(self, zone: str, name: str, changes: Mapping[str, str], request_id: str) -> OperationRef:
        def effect() -> OperationRef:
            vm = self._vm(zone, name)
            config = json.loads({**vm.metadata, **changes}[METADATA_CONFIG])
            assert config["bundle"] in self.blobs, "the word before the objects"
            assert self.promised(config["bundle"]) <= self.blobs.keys(), "the word before what is copied"
            self.vms[zone, name] = replace(vm, metadata={**vm.metadata, **changes})
            self.changed_at[vm.id] = self.clock.now
            return self._begin(f"zones/{zone}", request_id)

        return self._mutate(f"set_metadata {zone} {' '.join(sorted(changes))}", request_id, effect)

    def set_labels(
        self, zone: str, name: str, changes: Mapping[str, str | None], request_id: str
    ) -> OperationRef:
        def effect() -> OperationRef:
            vm = self._vm(zone, name)
            labels = {key: value for key, value in {**vm.labels, **changes}.items() if value is not None}
            self.vms[zone, name] = replace(vm, labels=labels)
            return self._begin(f"zones/{zone}", request_id)

        return self._mutate(f"set_labels {zone}", request_id, effect)

    def add_tag(self, zone: str, name: str, tag: str, request_id: str) -> OperationRef:
        def effect() -> OperationRef:
            vm = self._vm(zone, name)
            self.vms[zone, name] = replace(vm, tags=(*vm.tags, tag))
            return self._begin(f"zones/{zone}", request_id)

        return self._mutate(f"add_tag {zone}", request_id, effect)

    def add_access_config(self, zone: str, name: str, address: str, request_id: str) -> OperationRef:
        def effect() -> OperationRef:
            vm = self._vm(zone, name)
            if vm.access_config:
                raise AlreadyExists(name)
            self._free(address)
            self.vms[zone, name] = replace(vm, access_config="External NAT", external_ip=address)
            return self._begin(f"zones/{zone}", request_id)

        return self._mutate(f"add_access_config {zone} {name}", request_id, effect)

    def delete_access_config(self, zone: str, name: str, access_config: str, request_id: str) -> OperationRef:
        def effect() -> OperationRef:
            vm = self._vm(zone, name)
            if access_config == vm.access_config:
                self.vms[zone, name] = replace(vm, access_config="", external_ip=None)
            return self._begin(f"zones/{zone}", request_id)

        return self._mutate(f"delete_access_config {zone} {name}", request_id, effect)

    def _free(self, address: str) -> None:
        if any(vm.external_ip == address for vm in self.vms.values()):
            raise ResourceNotReady(f"{address} is in use")

    def _vm(self, zone: str, name: str) -> Instance:
        if (zone, name) not in self.vms:
            raise NotFound(name)
        return self.vms[zone, name]

    def reserve_address(
        self, region: str, name: str, labels: Mapping[str, str], request_id: str
    ) -> OperationRef:
        def effect() -> OperationRef:
            if (region, name) in self.ips:
                raise AlreadyExists(name)
            number = next(self._numbers)
            ip, made = f"10.0.0.{number}", self.clock.now
            self.ips[region, name] = Address(name, region, ip, "RESERVED", dict(labels), created=made)
            return self._begin(f"regions/{region}", request_id)

        return self._mutate(f"reserve_address {region}", request_id, effect)

    def release_address(self, region: str, name: str, request_id: str) -> OperationRef:
        def effect() -> OperationRef:
            found = self.ips.get((region, name))
            if found is None:
                raise NotFound(name)
            if any(vm.external_ip == found.address for vm in self.vms.values()):
                raise ResourceNotReady("in use")
            del self.ips[region, name]
            return self._begin(f"regions/{region}", request_id)

        return self._mutate(f"release_address {region}", request_id, effect)

    def insert_firewall(
        self, name: str, network: str, tag: str, description: str, request_id: str
    ) -> OperationRef:
        def effect() -> OperationRef:
            if self.the_firewall is not None:
                raise AlreadyExists(name)
            path = network if network.startswith("projects/") else f"projects/proj/{network}"
            self.the_firewall = Firewall(name, description, (tag,), ("tcp:443", "tcp:80"), path)
            return self._begin("global", request_id)

        return self._mutate("insert_firewall", request_id, effect)

    def delete_firewall(self, name: str, request_id: str) -> OperationRef:
        def effect() -> OperationRef:
            if self.the_firewall is None:
                raise NotFound(name)
            self.the_firewall = None
            return self._begin("global", request_id)

        return self._mutate("delete_firewall", request_id, effect)

    # --- storage ---

    def bucket(self) -> Bucket | None:
        return self.the_bucket

    def create_bucket(self, region: str, labels: Mapping[str, str]) -> None:
        def effect() -> None:
            if self.the_bucket is not None:
                raise AlreadyExists("bucket")
            self.the_bucket = Bucket("bucket", dict(labels))

        self._call("create_bucket", effect)

    def delete_bucket(self) -> None:
        def effect() -> None:
            self.the_bucket = self.the_owner = None
            self.blobs.clear()

        self._call("delete_bucket", effect)

    def promised(self, bundle: str) -> set[str]:
        """The objects that a bundle names."""
        with zipfile.ZipFile(io.BytesIO(self.blobs[bundle])) as opened:
            manifest = json.loads(opened.read("manifest.json"))
        return {each["object"] for each in manifest.get("copied", {}).get("files", ())}

    def objects(self, prefix: str) -> Contents:
        if self.the_bucket is None:
            raise NotFound("bucket")
        owner = {} if self.the_owner is None else {OWNER_OBJECT: self.the_owner.data}
        held = {**self.blobs, **owner}
        return {name: _content(data) for name, data in held.items() if name.startswith(prefix)}

    def contents(self, prefix: str) -> tuple[Object, ...]:
        if "contents" in self.down:
            raise self.down["contents"]
        names = () if self.the_bucket is None else self.objects(prefix)
        return tuple(Object(name, len(self.blobs.get(name, b"")), 1, START) for name in names)

    def read(self, name: str) -> Stored | None:
        if name == OWNER_OBJECT:
            return self.the_owner
        return Stored(self.blobs[name], self.generations.get(name, 1)) if name in self.blobs else None

    def write(self, name: str, data: bytes, content_type: str, generation: int) -> int:
        if name != OWNER_OBJECT:
            self._call(f"write {name}", lambda: self._put(name, data, generation))
            return self.generations[name]

        def effect() -> None:
            if (0 if self.the_owner is None else self.the_owner.generation) != generation:
                raise PreconditionFailed(name)
            self.the_owner = Stored(data, next(self._numbers))

        if self.the_owner is not None and _cluster(data) == _cluster(self.the_owner.data):
            effect()  # a renewal, which is no news
        else:
            self._call(f"write {name}", effect)
        assert self.the_owner is not None
        return self.the_owner.generation

    def _put(self, name: str, data: bytes, generation: int) -> None:
        if (self.generations.get(name, 1) if name in self.blobs else 0) != generation:
            raise PreconditionFailed(name)
        self.blobs[name], self.generations[name] = data, next(self._numbers)

    def listed(self, field: str, bucket: str, prefix: str, most: int) -> tuple[Listed, ...]:
        self.looks += 1
        if "listed" in self.refuse:
            raise self.refuse["listed"]
        if bucket not in self.sources:
            raise NotFound(bucket)
        found = sorted(self.sources[bucket], key=lambda each: each.name)
        return tuple(each for each in found if each.name.startswith(prefix))[:most]

    def copy(self, field: str, bucket: str, source: Listed, name: str) -> None:
        def effect() -> None:
            if self.the_bucket is None or source not in self.sources.get(bucket, ()):
                raise NotFound(source.name)
            self.blobs[name] = COPIED + json.dumps([source.size, source.crc32c]).encode()

        self._call(f"copy {name}", effect)

    def upload(self, name: str, data: bytes, content_type: str) -> None:
        def effect() -> None:
            if self.the_bucket is None:
                raise NotFound("bucket")
            self.blobs[name] = data

        self._call(f"upload {name}", effect)

    def delete_object(self, name: str) -> None:
        def effect() -> None:
            self.blobs.pop(name, None)
            if name == OWNER_OBJECT:
                self.the_owner = None

        self._call(f"delete_object {name}", effect)

    # --- keep-alive ---

    def topic(self, name: str) -> Topic | None:
        return self.the_topic

    def create_topic(self, name: str, labels: Mapping[str, str]) -> None:
        def effect() -> None:
            if self.the_topic is not None:
                raise AlreadyExists(name)
            self.the_topic = Topic(name, dict(labels))

        self._call("create_topic", effect)

    def delete_topic(self, name: str) -> None:
        self._call("delete_topic", lambda: setattr(self, "the_topic", None))

    def job(self, name: str) -> Job | None:
        return self.the_job

    def create_job(
        self, name: str, schedule: str, time_zone: str, topic: str, data: bytes, description: str
    ) -> None:
        def effect() -> None:
            if self.the_job is not None:
                raise AlreadyExists(name)
            if self.the_topic is None:
                raise NotFound(topic)
            self.the_job = Job(name, "ENABLED", schedule, time_zone, topic, description, data)

        self._call("create_job", effect)

    def update_job(
        self, name: str, schedule: str, time_zone: str, topic: str, data: bytes, description: str
    ) -> None:
        def effect() -> None:
            self.the_job = Job(name, "ENABLED", schedule, time_zone, topic, description, data)

        self._call("update_job", effect)

    def delete_job(self, name: str) -> None:
        self._call("delete_job", lambda: setattr(self, "the_job", None))

    def function(self, name: str) -> Function | None:
        self.settle()
        return self.the_function

    def create_function(self, request: FunctionRequest) -> None:
        def effect() -> None:
            if self.the_function is not None:
                raise AlreadyExists(request.name)
            assert request.source_object in self.blobs
            self._build(request)

        self._call("create_function", effect)

    def update_function(self, request: FunctionRequest) -> None:
        self._call("update_function", lambda: self._build(request))

    def _build(self, request: FunctionRequest) -> None:
        self.the_function = Function(
            request.name,
            "DEPLOYING",
            request.source_object,
            request.topic,
            dict(request.environment),
            dict(request.labels),
            "",
            request.runtime,
            request.service_account or "chosen-by-google",
            request.build_service_account,
            request.trigger_service_account,
        )
        done_at = self.clock.now + timedelta(seconds=BUILD_SECONDS)
        ref = OperationRef(f"build-{next(self._numbers)}", "functions")
        self.operations[ref.name] = FakeOperation(ref, done_at, effect=self._built)

    def _built(self) -> None:
        if self.the_function is not None and self.the_function.state == "DEPLOYING":
            failed = self.failing_builds > 0
            self.failing_builds -= failed
            state, message = ("FAILED", "the build broke") if failed else ("ACTIVE", "")
            self.the_function = replace(self.the_function, state=state, message=message)

    def delete_function(self, name: str) -> None:
        def effect() -> None:
            if self.the_function is None:
                return
            self.the_function = replace(self.the_function, state="DELETING")
            done_at = self.clock.now + timedelta(seconds=BUILD_SECONDS)
            ref = OperationRef(f"delete-{next(self._numbers)}", "functions")
            self.operations[ref.name] = FakeOperation(
                ref, done_at, effect=lambda: setattr(self, "the_function", None)
            )

        self._call("delete_function", effect)

    # --- endpoints ---

    def _serves(self, vm: Instance) -> bool:
        booted = self.booted_at.get(vm.id)
        if booted is None or vm.status is not InstanceStatus.RUNNING:
            return False
        return bool(self._host(vm).image) and (self.clock.now - booted).total_seconds() >= BOOT_SECONDS

    def _active(self, vm: Instance) -> str | None:
        """The target, some seconds after it was told; the first one after the boot."""
        target: str = json.loads(vm.metadata[METADATA_CONFIG])["revision"]
        if not self._serves(vm):
            return None
        changed = self.changed_at.get(vm.id)
        settled = changed is None or (self.clock.now - changed).total_seconds() >= ROLLOUT_SECONDS
        if settled and not self.guest_failure:
            self._last_active = target
        return getattr(self, "_last_active", None)

    def _endpoint(self, door: Door) -> Instance | None:
        self.settle()
        self.requests += 1
        for vm in self.vms.values():
            if door.ip == vm.external_ip and self._serves(vm) and self._verifies(vm, door):
                return None if self.silent else vm
        return None

    def _verifies(self, vm: Instance, door: Door) -> bool:
        """Its own authority signs for its address alone."""
        tls = json.loads(vm.metadata[METADATA_CONFIG])["tls"]
        if tls["mode"] == "Internal":
            return door == Door(f"https://{vm.external_ip}", door.ip, self.ca(vm))
        if tls["mode"] == "Off":
            return door.url == f"http://{vm.external_ip}"
        name = self.certificates.get(vm.id, CertificateReport())
        return name.is_valid and door == Door(f"https://{name.name}", door.ip, tls["caBundle"], public=True)

    def ready(self, door: Door) -> Probe:
        vm = self._endpoint(door)
        if vm is None and any(
            door.ip == each.external_ip and self._serves(each) for each in self.vms.values()
        ):
            return Probe(False, "the certificate is not valid" if not self.silent else "connection refused")
        if vm is None or self._active(vm) is None:
            return Probe(False, "connection refused")
        return Probe(True, "ok", self._active(vm), certificate_ok=True)

    def many_ready(self, doors: Sequence[Door]) -> Mapping[Door, Probe]:
        return {door: self.ready(door) for door in doors}

    def predict(self, door: Door, token: str, payload: object) -> Probe:
        vm = self._endpoint(door)
        self.payloads.append(payload)
        if vm is None or self.predictions_fail:
            return Probe(False, "status 500", None, certificate_ok=True)
        return Probe(True, "ok", self._active(vm), certificate_ok=True)

    # --- what happens to VMs ---

    def preempt(self, name: str) -> None:
        """Google takes the VM away."""
        self.settle()
        key = next(key for key in self.vms if key[1] == name)
        for running in self.operations.values():
            if not running.settled and self.vms[key].status is InstanceStatus.PROVISIONING:
                running.error = "UNSUPPORTED_OPERATION"  # what a boot ends with that was overtaken
        self._turn_off(*key)
        operation = f"systemevent-{next(self._numbers)}"
        self.power.append(PowerChange(operation, name, key[0], self.clock.now))

    def suspend(self, name: str) -> None:
        """Somebody else does it."""
        self.settle()
        key = next(key for key in self.vms if key[1] == name)
        self.vms[key] = replace(self.vms[key], status=InstanceStatus.SUSPENDED)

    def tick(self) -> None:
        """The keep-alive, as the function does it."""
        self.settle()
        for (zone, name), vm in list(self.vms.items()):
            wanted = vm.labels.get(LABEL_WANTED) == WANTED_RUNNING and not vm.destination
            if wanted and vm.status is InstanceStatus.TERMINATED:
                self.start_instance(zone, name, f"tick-{next(self._numbers)}")


def _content(data: bytes) -> Content:
    """As a list tells it."""
    if data.startswith(COPIED):
        return Content(*json.loads(data.removeprefix(COPIED)))
    return Blob("", data, "").content


def _cluster(claim: bytes) -> str:
    cluster: str = json.loads(claim)["cluster"]
    return cluster


class World:
    """Cloud, API server, clock and an operator that may die at any call."""

    def __init__(self, settings: Settings = SETTINGS) -> None:
        self.settings = settings
        self.clock = Clock()
        self.journal = Journal(check=self.check)
        self.kube = ApiServer(self.clock, self.journal)
        self.cloud = FakeCloud(self.clock, self.journal)
        self.shared = Shared(settings.installation)
        self.crashes = 0
        self.fence: Callable[[], None] = lambda: None
        self.reconciler = self.start_operator()

    def start_operator(self) -> Reconciler:
        self.reconciler = Reconciler(
            self.settings,
            self.kube,
            Means(self.cloud.gateways, self.clock, self.clock.wall, lambda: 1.0, self.fence),
            PARTS,
        )
        return self.reconciler

    def owner(self, name: str, namespace: str = "default") -> Owner:
        return Owner(self.settings.installation, namespace, name)

    def vm(self, name: str) -> Instance | None:
        self.cloud.settle()
        found = [vm for vm in self.cloud.vms.values() if vm.name == self.owner(name).cloud_name]
        return found[0] if found else None

    def check(self) -> None:
        """Never two; but one that moves away, without its address, for as long as another is made."""
        vms = [vm for vm in self.cloud.vms.values() if vm.labels]
        for names in (
            [vm.name for vm in vms if not vm.destination],
            [vm.name for vm in vms if vm.external_ip],
        ):
            assert len(names) == len(set(names)), f"a second VM: {names}"
        addresses = [ip.name for ip in self.cloud.ips.values() if ip.labels]
        assert len(addresses) == len(set(addresses)), f"a second address: {addresses}"

    def pass_(self, name: str, namespace: str = "default") -> float | None:
        """One pass; a crash starts a new process."""
        try:
            return self.reconciler.reconcile(namespace, name).after
        except Crash:
            self.crashes += 1
            self.start_operator()
            return 0.0

    def drive(self, until: Callable[[], bool], *names: str, seconds: float = 900.0) -> float:
        """Pass after pass in due order until the condition holds; the seconds that took."""
        begun = self.clock.now
        due = dict.fromkeys(names, self.clock.now)
        for _ in range(3000):
            if until():
                return (self.clock.now - begun).total_seconds()
            if not due:
                break
            name = min(due, key=lambda key: due[key])
            self.clock.now = max(self.clock.now, due[name])
            if (self.clock.now - begun).total_seconds() > seconds:
                break
            after = self.pass_(name)
            if after is None:
                del due[name]
            else:
                due[name] = self.clock.now + timedelta(seconds=max(after, 0.05))
        states = {name: self.kube.objects.get(("default", name), {}).get("status") for name in names}
        raise AssertionError(f"not reached: {json.dumps(states, indent=1)}\n{self.journal.calls[-20:]}")

    def is_ready(self, name: str) -> bool:
        found = self.kube.objects.get(("default", name))
        return (
            found is not None
            and self.kube.condition(name, "Ready")[0] == "True"
            and self.kube.condition(name, "Reconciling")[0] == "False"
            and self.kube.status(name)["observedGeneration"] == found["metadata"]["generation"]
        )

    def is_gone(self, *names: str) -> bool:
        return not any(("default", name) in self.kube.objects for name in names)

    def up(self, name: str = "iris", spec: dict[str, Any] | None = None) -> float:
        """Apply and wait until it is Ready."""
        self.kube.apply(name, spec)
        return self.drive(lambda: self.is_ready(name), name)

    @property
    def region(self) -> str:
        return region_of(self.settings.zones[0])
