"""Bad things made to happen on purpose. Each is a resource: kept in the store, listed, removed.

What a fault is stands here, with the questions that services ask about those in force. Faults of calls are
made by `gate`, those of machines by `services.compute`.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, field_validator
from pydantic.alias_generators import to_camel

from localcloud.store import Json, Store

KIND = "localcloud.fault"
_F = TypeVar("_F", bound="Fault")
Service = Literal["compute", "storage", "pubsub", "cloudscheduler", "cloudfunctions"]
Api = Literal[
    Service, "run", "eventarc", "cloudbuild", "artifactregistry", "logging", "iam", "cloudresourcemanager",
    "serviceusage",
]  # fmt: skip
Text = Annotated[str, Field(min_length=1)]
# A month: clocks and threads cannot wait for ever, and nobody waits for longer.
Seconds = Annotated[float, Field(ge=0, le=31 * 24 * 3600)]


class Fault(BaseModel):
    """What all have: `kind` says which one it is, `id` is given by the store."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        alias_generator=to_camel,
        validate_by_name=True,
        serialize_by_alias=True,
        allow_inf_nan=False,
    )

    id: str = ""


class CallFault(Fault):
    """Calls that match `method` and `path` (a regular expression searched in the path) fail or are late.

    `when` before: nothing happens; after: the call takes effect and its answer is lost. With `code` 0 nothing
    fails, and the answer is only late: `latency` seconds pass before, or after, the call takes effect.
    `count` calls are met; 0: all.
    """

    kind: Literal["call"] = "call"
    path: Text
    method: str = ""
    code: int = Field(default=503, ge=0, le=599)
    reason: str = "backendError"
    count: int = Field(default=1, ge=0)
    when: Literal["before", "after"] = "before"
    latency: Seconds = 0.0

    @field_validator("code")
    @classmethod
    def _is_failure(cls, value: int) -> int:
        if value and value < 400:
            raise ValueError("must be 0, or a status of a failure: 400 to 599")
        return value

    @field_validator("path")
    @classmethod
    def _is_expression(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"is not a regular expression: {error}") from error
        return value


class StockOut(Fault):
    """A zone has no machines of this type and provisioning model; empty: of any.

    `when` operation: the call succeeds and its operation fails; request: the call fails.
    """

    kind: Literal["stock-out"]
    zone: Text
    machine_type: str = ""
    model: Literal["", "SPOT", "STANDARD"] = ""
    code: Literal["ZONE_RESOURCE_POOL_EXHAUSTED", "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS"] = (
        "ZONE_RESOURCE_POOL_EXHAUSTED"
    )
    when: Literal["operation", "request"] = "operation"


class Quota(Fault):
    """No more than `limit` processors (CPUS, or PREEMPTIBLE_CPUS for Spot) may run in a region."""

    kind: Literal["quota"]
    region: Text
    metric: Literal["CPUS", "PREEMPTIBLE_CPUS"] = "CPUS"
    limit: float = Field(default=0, ge=0)
    when: Literal["operation", "request"] = "operation"


class DisabledApi(Fault):
    """An API of the project is not enabled."""

    kind: Literal["disabled-api"]
    service: Api


class FreshApi(Fault):
    """An API was enabled just now: what would change something gets 400 until `seconds` have passed."""

    kind: Literal["fresh-api"]
    service: Service
    seconds: Seconds = Field(gt=0)
    since: datetime | None = None


class PermissionDenied(Fault):
    """The caller lacks a permission such as `compute.instances.start`; `*` stands for anything."""

    kind: Literal["permission-denied"]
    permission: Text


class RateLimit(Fault):
    """No more reads or writes of a service in one minute."""

    kind: Literal["rate-limit"]
    service: Service
    calls: Literal["read", "write"]
    per_minute: int = Field(ge=0)


class SchedulerBound(Fault):
    """The project may have Scheduler jobs in one location only, that of its App Engine app."""

    kind: Literal["scheduler-bound"]
    location: Text


class NoScheduler(Fault):
    """A region has no Cloud Scheduler."""

    kind: Literal["no-scheduler"]
    location: Text


class Duplicates(Fault):
    """Pub/Sub delivers each message more often to subscriptions whose names match."""

    kind: Literal["duplicates"]
    subscription: Text = "*"
    copies: int = Field(default=1, ge=1, le=10)


class Disorder(Fault):
    """Pub/Sub holds every second message back for a while, so that later ones overtake it."""

    kind: Literal["disorder"]
    subscription: Text = "*"
    seconds: Seconds = Field(gt=0)


class SilentZone(Fault):
    """A zone does not answer when all zones are listed."""

    kind: Literal["silent-zone"]
    zone: Text


class RefusedField(Fault):
    """No new instance may have a field, such as `scheduling.preemptionNoticeDuration`."""

    kind: Literal["refused-field"]
    field: Text


class SlowBoot(Fault):
    """Instances whose names match stay in STAGING for longer."""

    kind: Literal["slow-boot"]
    instance: Text = "*"
    seconds: Seconds = Field(gt=0)


class CrashingVm(Fault):
    """Instances whose names match lose their power this long after each start."""

    kind: Literal["crashing-vm"]
    instance: Text
    seconds: Seconds = 0


class BrokenModel(Fault):
    """Guests of simulated instances whose names match do not serve, and say why."""

    kind: Literal["broken-model"]
    instance: Text = "*"
    reason: str = Field(default="LoadFailed", pattern="^[A-Za-z0-9]{1,64}$")
    message: Text = "A fault asked for with localcloud's control API."


AnyFault = Annotated[
    CallFault
    | StockOut
    | Quota
    | DisabledApi
    | FreshApi
    | PermissionDenied
    | RateLimit
    | SchedulerBound
    | NoScheduler
    | Duplicates
    | Disorder
    | SilentZone
    | RefusedField
    | SlowBoot
    | CrashingVm
    | BrokenModel,
    Field(discriminator="kind"),
]
_ADAPTER: TypeAdapter[AnyFault] = TypeAdapter(AnyFault)


def parse(document: Json) -> AnyFault:
    """The fault that a document describes; without `kind` it is one of calls.

    Raises:
        pydantic.ValidationError: it is none.
    """
    return _ADAPTER.validate_python({"kind": "call"} | document)


class Faults:
    """The faults that are in force."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._read: tuple[tuple[int, ...], tuple[AnyFault, ...]] | None = None  # as of which revision

    def add(self, fault: AnyFault, now: datetime) -> str:
        """Returns the fault's id."""
        name = uuid.uuid4().hex[:12]
        since = {"since": now} if isinstance(fault, FreshApi) else {}
        made = fault.model_copy(update={"id": name, **since})
        self._store.insert(KIND, name, made.model_dump(mode="json"))
        return name

    def remove(self, name: str) -> bool:
        """False if there is none of that id."""
        return self._store.delete(KIND, name)

    def clear(self) -> None:
        with self._store.transaction():
            for name, _ in self._store.list(KIND):
                self._store.delete(KIND, name)

    def all(self) -> tuple[AnyFault, ...]:
        """Asked for several times in each call, so they are read again only after one was written."""
        revision, read = self._store.revisions(KIND), self._read
        if read is None or read[0] != revision:
            found = tuple(_ADAPTER.validate_python(body) for _, body in self._store.list(KIND))
            read = self._read = (revision, found)
        return read[1]

    def of(self, kind: type[_F], holds: Callable[[_F], bool] = lambda _: True) -> Iterator[_F]:
        """Those of one kind of which something holds."""
        for fault in self.all():
            if isinstance(fault, kind) and holds(fault):
                yield fault

    def take(self, method: str, path: str) -> CallFault | None:
        """The fault for this call, if any; a counted one goes down by one."""
        if not self.all():  # nearly always; a transaction would make every call wait
            return None
        with self._store.transaction():
            found = next(self.of(CallFault, lambda each: _meets(each, method, path)), None)
            if found is not None and found.count == 1:
                self._store.delete(KIND, found.id)
            elif found is not None and found.count:
                left = found.model_copy(update={"count": found.count - 1})
                self._store.put(KIND, found.id, left.model_dump(mode="json"))
            return found

    def stock_out(self, zone: str, machine_type: str, spot: bool, when: str) -> StockOut | None:
        """Why there is no such machine."""
        model = "SPOT" if spot else "STANDARD"
        return next(
            self.of(
                StockOut,
                lambda each: (
                    (each.zone, each.when) == (zone, when)
                    and each.machine_type in ("", machine_type)
                    and each.model in ("", model)
                ),
            ),
            None,
        )

    def fresh(self, service: str, now: datetime) -> bool:
        """Whether an API is not ready yet."""
        return any(
            each.since is not None and now < each.since + timedelta(seconds=each.seconds)
            for each in self.of(FreshApi, lambda each: each.service == service)
        )

    def copies(self, subscription: str) -> int:
        """How often a message is delivered in addition."""
        found = self.of(Duplicates, lambda each: fnmatchcase(subscription, each.subscription))
        return sum(each.copies for each in found)

    def held_back(self, subscription: str) -> float:
        """Seconds that every second message waits."""
        found = self.of(Disorder, lambda each: fnmatchcase(subscription, each.subscription))
        return sum(each.seconds for each in found)

    def boot_delay(self, instance: str) -> float:
        """Seconds that this instance's boot takes longer."""
        return sum(
            each.seconds for each in self.of(SlowBoot, lambda each: fnmatchcase(instance, each.instance))
        )

    def crash_after(self, instance: str) -> float | None:
        """Seconds after which this instance loses its power; None: it does not."""
        found = self.of(CrashingVm, lambda each: fnmatchcase(instance, each.instance))
        return min((each.seconds for each in found), default=None)

    def broken_model(self, instance: str) -> BrokenModel | None:
        """Why this instance's model does not serve; None: it does."""
        return next(self.of(BrokenModel, lambda each: fnmatchcase(instance, each.instance)), None)


def _meets(fault: CallFault, method: str, path: str) -> bool:
    return fault.method in ("", method) and re.search(fault.path, path) is not None
