"""For everything that can go wrong: what the status says, that it recovers by itself, and that what worked
keeps working.

A row is a fault and the words that somebody with only kubectl must find.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, get_args

import pytest

from budget_operator.core.errors import CapacityExhausted, PermissionDenied, QuotaExceeded
from budget_operator.core.memory import REFUSED_FOR
from budget_operator.core.serving import ADVICE, GUEST_REASONS, RETRIED
from budget_operator.core.status import WAITS_FOR_CHANGE
from budget_operator.reconcile.execution import TYPE_RETRY
from dev.paths import ROOT
from dev.simulation.month import problems
from dev.simulation.world import DURATIONS, NAMESPACE, ZONES, World, vm, world
from localcloud.faults import AnyFault, parse
from tests.simulation.acts import (
    EVENTS,
    FRESH,
    NAME,
    REGION,
    SPEC,
    ZONE,
    Fault,
    denied,
    look_again,
)
from tests.simulation.roles import BOUND, listed

TOLD_WITHIN, WELL_WITHIN = 240.0, 2100.0  # seconds
STEP = 10.0

MINUTELY, PAUSES = "tried again every minute", "tried again with growing pauses"
SECONDLY, HALF_MINUTELY = "tried again every few seconds", "tried again every half minute"
HELPS = re.compile(r"tried again|looked at again|nothing is made in the meantime|BUDGET_[A-Z]+|spec\.[a-z]+")
NOISE = re.compile(r"https?://|requestId|operation-\d|\{\"|Traceback")


@dataclass(frozen=True)
class Row:
    """`serves`: Ready stays True for as long as the fault is there."""

    event: str
    faults: tuple[Fault, ...]
    condition: str
    reason: str
    words: tuple[str, ...]
    serves: bool = False

    def __str__(self) -> str:
        first = self.faults[0]
        about = "-".join(str(value) for key, value in first.items() if key != "count")
        return f"{self.event}-{about}"


def rows(*given: tuple[Any, ...]) -> list[Row]:
    return [Row(event, _tuple(faults), *rest) for event, faults, *rest in given]


def _tuple(faults: Fault | tuple[Fault, ...]) -> tuple[Fault, ...]:
    return faults if isinstance(faults, tuple) else (faults,)


# --- stock-outs and quotas ---


def sold_out(when: str, details: str = "") -> tuple[Fault, ...]:
    code = f"ZONE_RESOURCE_POOL_EXHAUSTED{details}"
    return tuple({"kind": "stock-out", "zone": zone, "code": code, "when": when} for zone in ZONES)


def used_up(when: str) -> Fault:
    return {"kind": "quota", "region": REGION, "metric": "PREEMPTIBLE_CPUS", "when": when}


FULL = ("InstanceRunning", "CapacityExhausted")
SPENT = ("InstanceRunning", "QuotaExceeded")
NO_ZONE = (*ZONES, "SPOT e2-medium", CapacityExhausted.remedy, "each zone is tried again half an hour after")
THIS_ZONE = (f"start instance {vm(NAME)} in {ZONE}", CapacityExhausted.remedy, HALF_MINUTELY)
METRIC = ("PREEMPTIBLE_CPUS", REGION, QuotaExceeded.remedy, MINUTELY)

CAPACITY = rows(
    ("create", sold_out("operation"), *FULL, NO_ZONE),
    ("create", sold_out("request"), *FULL, NO_ZONE),
    ("create", sold_out("operation", "_WITH_DETAILS"), *FULL, NO_ZONE),
    ("create", sold_out("request", "_WITH_DETAILS"), *FULL, NO_ZONE),
    ("lose", sold_out("operation"), *FULL, (*THIS_ZONE, "ZONE_RESOURCE_POOL_EXHAUSTED")),
    ("lose", sold_out("request"), *FULL, THIS_ZONE),
    ("lose", sold_out("operation", "_WITH_DETAILS"), *FULL, THIS_ZONE),
    ("lose", sold_out("request", "_WITH_DETAILS"), *FULL, THIS_ZONE),
    ("change", sold_out("operation"), *FULL, THIS_ZONE),
    ("create", used_up("operation"), *SPENT, METRIC),
    ("create", used_up("request"), *SPENT, METRIC),
    ("lose", used_up("operation"), *SPENT, METRIC),
    ("lose", used_up("request"), *SPENT, METRIC),
)


# --- the five services, whole ---

SERVICES = {  # what cannot be looked at without it, and what is made with it first
    "compute": ("InstanceRunning", "list instances", "create firewall rule"),
    "storage": ("ArtifactUploaded", "get bucket", "create bucket"),
    "pubsub": ("KeepAliveArmed", "get topic", "create topic"),
    "cloudscheduler": ("KeepAliveArmed", "get Scheduler job", "create Scheduler job"),
    "cloudfunctions": ("KeepAliveArmed", "get function", "create function"),
}
PATHS = {
    "compute": "/compute/",
    "storage": "/storage/",
    "pubsub": "/topics/",
    "cloudscheduler": "/jobs",
    "cloudfunctions": "/functions",
}
REMOVED_FIRST = {
    "compute": "delete instance",
    "storage": "delete object",
    "pubsub": "delete topic",
    "cloudscheduler": "delete Scheduler job",
    "cloudfunctions": "delete function",
}


def _of_services() -> Iterator[tuple[Any, ...]]:
    for service, (condition, looks, makes) in SERVICES.items():
        host = f"{service}.googleapis.com"
        off = ("PermissionDenied", (looks, host, f"gcloud services enable {host}", MINUTELY))
        new = (host, "enabled recently", SECONDLY)
        many = (host, "requests per minute", PAUSES)
        down = ("CloudUnavailable", (looks, "asked for with localcloud", PAUSES))
        late = ("CloudUnavailable", (looks, "no answer within 20", PAUSES))
        yield "create", {"kind": "disabled-api", "service": service}, condition, *off
        yield "ready", {"kind": "disabled-api", "service": service}, "Stalled", *off, True
        yield "delete", {"kind": "disabled-api", "service": service}, "Stalled", *off
        fresh = {"kind": "fresh-api", "service": service, "seconds": 1e6}
        yield "create", fresh, condition, "ResourceNotReady", (makes, *new)
        yield "delete", fresh, "Reconciling", "ResourceNotReady", (REMOVED_FIRST[service], *new)
        reads = {"kind": "rate-limit", "service": service, "calls": "read", "perMinute": 0}
        writes = {**reads, "calls": "write"}
        yield "create", reads, condition, "RateLimited", (looks, *many)
        yield "create", writes, condition, "RateLimited", (makes, *many)
        yield "ready", reads, "Reconciling", "RateLimited", (looks, *many), True
        yield "delete", writes, "Reconciling", "RateLimited", (REMOVED_FIRST[service], *many)
        path = {"path": PATHS[service], "count": 0}
        yield "create", {**path, "code": 503}, condition, *down
        yield "ready", {**path, "code": 500}, "Reconciling", *down, True
        yield "delete", {**path, "code": 503, "when": "after"}, "Reconciling", *down
        yield "create", {**path, "code": 0, "latency": 45}, condition, *late
        yield "ready", {**path, "code": 0, "latency": 45}, "Reconciling", *late, True


# --- permissions: each that the operator uses, and the event that needs it ---

PERMISSIONS: dict[str, tuple[str, str, str]] = {  # event, condition, what was being done
    "compute.instances.list": ("create", "InstanceRunning", "list instances"),
    "compute.addresses.list": ("create", "InstanceRunning", "list addresses"),
    "compute.globalOperations.list": ("ready", "Stalled", "list operations"),
    "storage.buckets.get": ("create", "ArtifactUploaded", "get bucket simulated-budgetml"),
    "pubsub.topics.get": ("create", "KeepAliveArmed", "get topic"),
    "cloudscheduler.jobs.get": ("create", "KeepAliveArmed", "get Scheduler job"),
    "cloudfunctions.functions.get": ("create", "KeepAliveArmed", "get function"),
    "compute.firewalls.get": ("create", "InstanceRunning", "get firewall rule"),
    "compute.machineTypes.get": ("create", "InstanceRunning", "get machine type e2-medium in us-central1-a"),
    "compute.machineTypes.list": ("anywhere", "InstanceRunning", "list machine types"),
    "compute.zones.get": ("misspell", "InstanceRunning", "get zone us-central1-a"),
    "compute.instances.get": ("create", "InstanceRunning", f"get instance {vm(NAME)} in us-central1-a"),
    "compute.addresses.get": ("create", "InstanceRunning", f"get address {vm(NAME)} in us-central1"),
    # Whether there is no such object is not told without it.
    "storage.objects.list": ("create", "ArtifactUploaded", "read owner in bucket simulated-budgetml"),
    "storage.buckets.create": ("create", "ArtifactUploaded", "create bucket simulated-budgetml"),
    "storage.objects.create": ("create", "ArtifactUploaded", "write owner to bucket simulated-budgetml"),
    "storage.objects.get": ("create", "ArtifactUploaded", "read owner in bucket simulated-budgetml"),
    "pubsub.topics.create": ("create", "KeepAliveArmed", "create topic"),
    "cloudscheduler.jobs.create": ("create", "KeepAliveArmed", "create Scheduler job"),
    "cloudfunctions.functions.create": ("create", "KeepAliveArmed", "create function"),
    "compute.firewalls.create": ("create", "InstanceRunning", "create firewall rule"),
    "compute.addresses.create": ("create", "InstanceRunning", f"reserve address {vm(NAME)} in us-central1"),
    "compute.instances.create": ("create", "InstanceRunning", f"create instance {vm(NAME)} in us-central1-a"),
    **dict.fromkeys(
        (
            "compute.disks.create",
            "compute.disks.setLabels",
            "compute.subnetworks.use",
            "compute.subnetworks.useExternalIp",
            "compute.addresses.use",
            "compute.instances.setServiceAccount",
            "compute.instances.setTags",
        ),
        ("create", "InstanceRunning", f"create instance {vm(NAME)} in us-central1-a"),
    ),
    "compute.addresses.setLabels": (
        "create",
        "InstanceRunning",
        f"reserve address {vm(NAME)} in us-central1",
    ),
    # For the VM too; what the whole installation waits for is told first.
    "iam.serviceAccounts.actAs": ("create", "KeepAliveArmed", "create function"),
    "compute.networks.updatePolicy": ("create", "InstanceRunning", "create firewall rule"),
    "compute.instances.start": ("lose", "InstanceRunning", f"start instance {vm(NAME)} in us-central1-a"),
    "compute.instances.resume": ("suspend", "InstanceRunning", f"resume instance {vm(NAME)}"),
    "compute.instances.stop": ("change", "Stalled", f"stop instance {vm(NAME)} in us-central1-a"),
    "compute.instances.setMachineType": (
        "change",
        "Stalled",
        f"set the machine type of instance {vm(NAME)}",
    ),
    "compute.instances.deleteAccessConfig": (
        "move",
        "InstanceRunning",
        f"take the address of instance {vm(NAME)} in us-central1-a",
    ),
    "compute.instances.addAccessConfig": ("stay", "InstanceRunning", "to instance"),
    "compute.disks.resize": ("change", "Stalled", f"resize disk {vm(NAME)} in us-central1-a to 30 GiB"),
    "compute.instances.setMetadata": ("change", "Stalled", f"set the metadata of instance {vm(NAME)}"),
    "compute.instances.setLabels": ("upgrade", "KeepAliveArmed", f"set the labels of instance {vm(NAME)}"),
    "cloudscheduler.jobs.update": ("upgrade", "KeepAliveArmed", "update Scheduler job"),
    "cloudscheduler.jobs.enable": ("pause", "KeepAliveArmed", "update Scheduler job"),
    "cloudfunctions.functions.update": ("upgrade", "KeepAliveArmed", "update function"),
    "compute.zoneOperations.get": ("change", "Stalled", "look how this ends: set the labels of"),
    "compute.instances.delete": ("delete", "Stalled", f"delete instance {vm(NAME)} in us-central1-a"),
    "compute.addresses.delete": ("delete", "Stalled", f"release address {vm(NAME)} in us-central1"),
    "compute.firewalls.delete": ("delete", "Stalled", "delete firewall rule"),
    "storage.objects.delete": ("delete", "Stalled", f"delete object code/{vm(NAME)}"),
    "storage.buckets.delete": ("delete", "Stalled", "delete bucket simulated-budgetml"),
    "pubsub.topics.delete": ("delete", "Stalled", "delete topic"),
    "cloudscheduler.jobs.delete": ("delete", "Stalled", "delete Scheduler job"),
    "cloudfunctions.functions.delete": ("delete", "Stalled", "delete function"),
}
# What is there tells as well how these operations ended. The VM's report is missed only where it explains. A
# drill that is refused is no condition's business; that it says why is in test_drill.
# Disks without a VM concern no deployment: the log tells, and the command that lists and deletes them.
NOT_MISSED = {
    "compute.instances.simulateMaintenanceEvent",
    "compute.globalOperations.get",
    "compute.regionOperations.get",
    "compute.instances.getGuestAttributes",
    "compute.disks.delete",
    "compute.disks.get",
    "compute.disks.list",
}


def _of_permissions() -> Iterator[tuple[Any, ...]]:
    for permission, (event, condition, doing) in PERMISSIONS.items():
        again = TYPE_RETRY if permission == "compute.instances.setMachineType" else MINUTELY
        words = (doing, permission, PermissionDenied.remedy, again)
        yield event, denied(permission), condition, "PermissionDenied", words


# --- the rest ---

UNSEEN = ("CloudUnavailable", ("zones/us-central1-a does not answer", PAUSES))
TIED = {"kind": "scheduler-bound", "location": "europe-west1"}
ABSENT = {"kind": "no-scheduler", "location": REGION}
ELSEWHERE = ("get Scheduler job", "europe-west1", "set BUDGET_SCHEDULER_LOCATION=europe-west1")
NOWHERE = ("us-central1 has no Cloud Scheduler", "set BUDGET_SCHEDULER_LOCATION", MINUTELY)
SLOW = {"kind": "slow-boot", "seconds": 600, "instance": "*"}
CRASHING = {"kind": "crashing-vm", "instance": "*", "seconds": 40}

OTHERS = rows(
    ("create", TIED, "Stalled", "InvalidSpec", ELSEWHERE),
    ("ready", TIED, "Stalled", "InvalidSpec", ELSEWHERE, True),
    ("delete", TIED, "Stalled", "InvalidSpec", ELSEWHERE),
    ("create", ABSENT, "KeepAliveArmed", "PermissionDenied", NOWHERE),
    ("ready", ABSENT, "Stalled", "PermissionDenied", NOWHERE, True),
    ("create", {"kind": "silent-zone", "zone": ZONE}, "InstanceRunning", *UNSEEN),
    ("delete", {"kind": "silent-zone", "zone": ZONE}, "Reconciling", *UNSEEN),
    ("create", {"kind": "refused-field", "field": "labels"}, "Stalled", "InvalidSpec", ("resource.labels",)),
    ("create", SLOW, "InstanceRunning", "Provisioning", ("is being made in us-central1-a",)),
    ("lose", SLOW, "InstanceRunning", "Starting", (f"{vm(NAME)} in us-central1-a is STAGING",)),
    ("ready", CRASHING, "InstanceRunning", "Starting", ("is TERMINATED and is being started",)),
)


def _of_models() -> Iterator[tuple[Any, ...]]:
    for reason in sorted({*GUEST_REASONS, "SomethingNew"}):
        fault = {"kind": "broken-model", "reason": reason, "message": "the VM's own words"}
        shown = reason if reason in GUEST_REASONS else "GuestFailed"
        words = ("the VM's own words", ADVICE.get(shown, ""), RETRIED)
        yield "create", fault, "ModelServing", shown, words
    yield "ready", {"kind": "broken-model"}, "ModelServing", "LoadFailed", (RETRIED,)


#: Faults of messages, which start a VM all the same; what they do is tested further below.
UNHEARD = {"duplicates", "disorder"}
ROWS = [
    *CAPACITY,
    *rows(*_of_services()),
    *rows(*_of_permissions()),
    *OTHERS,
    *rows(*_of_models()),
]


# --- what is looked at ---


def states(made: World, kind: str) -> tuple[str, str, str]:
    return made.kube.condition(NAME, kind) if (NAMESPACE, NAME) in made.kube.objects else ("", "", "")


def is_told(made: World, row: Row) -> bool:
    status, reason, message = states(made, row.condition)
    bad = "True" if row.condition in ("Reconciling", "Stalled") else ("False", "Unknown")
    return status in bad and reason == row.reason and all(word in message for word in row.words)


def wait(made: World, holds: Callable[[], bool], seconds: float, always: Callable[[], bool]) -> bool:
    for _ in range(int(seconds / STEP)):
        made.run(STEP)
        assert always(), "what worked does not any longer"
        if holds():
            return True
    return False


def secrets(made: World) -> Iterable[str]:
    return [value.decode("latin-1") for held in made.kube.secrets.values() for value in held.values()]


def check_words(made: World, hidden: Iterable[str]) -> None:
    """Nothing that is told holds a secret, or what only a program could read."""
    document = made.kube.objects.get((NAMESPACE, NAME), {})
    told = json.dumps([document.get("status", {}), made.kube.events], ensure_ascii=False)
    assert not [secret for secret in hidden if len(secret) > 8 and secret in told]
    for condition in document.get("status", {}).get("conditions", ()):
        assert not NOISE.search(condition["message"]), condition
        trouble = condition["reason"] in (
            "PermissionDenied",
            "RateLimited",
            "CloudUnavailable",
            "QuotaExceeded",
        )
        helps = HELPS.search(condition["message"]) or condition["message"] == WAITS_FOR_CHANGE
        assert not trouble or helps, condition


def check_ready_names_it(made: World, row: Row) -> None:
    """Who looks at one line only, with `kubectl get -o wide`, finds the cause too."""
    status, reason, message = states(made, "Ready")
    if row.event == "delete" or status == "True":
        return
    assert reason == row.reason, message
    assert row.words[0] in message


def recovers(made: World, row: Row) -> bool:
    if row.event == "delete":
        gone = lambda: not made.kube.objects and problems(made, []) == []  # noqa: E731
        return wait(made, gone, WELL_WITHIN, lambda: True)
    if row.event == "misspell":
        made.apply(NAME, SPEC)
    if TYPE_RETRY in row.words:
        made.run(REFUSED_FOR.total_seconds())
        made.preempt(NAME)
        return wait(made, lambda: states(made, "Stalled")[0] == "False", WELL_WITHIN, lambda: True)
    return wait(made, lambda: not problems(made, [NAME]), WELL_WITHIN, lambda: True)


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_it_is_told_and_recovers_by_itself(row: Row) -> None:
    with world(kept=1, durations=replace(DURATIONS, watch=10)) as made:
        if row.event not in FRESH:
            made.apply(NAME, SPEC)
            made.run(120)
            assert problems(made, [NAME]) == []
        for fault in row.faults:
            made.cloud.context.faults.add(parse(fault), made.clock.now())
        EVENTS[row.event](made)
        always = (lambda: states(made, "Ready")[0] == "True") if row.serves else (lambda: True)
        told = wait(made, lambda: is_told(made, row), TOLD_WITHIN, always)
        assert told, made.kube.objects[NAMESPACE, NAME].get("status", {}).get("conditions")
        hidden = secrets(made)
        check_words(made, hidden)
        check_ready_names_it(made, row)
        made.cloud.context.faults.clear()
        assert recovers(made, row), [states(made, "Ready"), problems(made, [NAME])]
        check_words(made, hidden)


def test_what_serves_serves_on_whatever_is_denied_or_gone() -> None:
    """Of what a Ready deployment does not need nothing need be told."""
    faults = [
        *(denied(permission) for permission in (*PERMISSIONS, *NOT_MISSED)),
        *({"kind": "silent-zone", "zone": zone} for zone in ZONES),
        *sold_out("operation"),
        used_up("request"),
        {"kind": "refused-field", "field": "labels"},
        SLOW,
        {"path": "/", "code": 500, "count": 0},
    ]
    with world(kept=1) as made:
        made.apply(NAME, SPEC)
        made.run(120)
        for fault in faults:
            number = made.cloud.context.faults.add(parse(fault), made.clock.now())
            assert not wait(made, lambda: states(made, "Ready")[0] != "True", 60, lambda: True), fault
            made.cloud.context.faults.remove(number)
        made.run(300)
        assert states(made, "Reconciling")[0] == "False"
        assert problems(made, [NAME]) == []


def test_every_permission_of_the_operators_roles_is_in_the_table() -> None:
    assert {*PERMISSIONS, *NOT_MISSED} == listed(*BOUND["operator"])


def test_every_kind_of_fault_is_in_the_table() -> None:
    kinds = {get_args(each.model_fields["kind"].annotation)[0] for each in get_args(get_args(AnyFault)[0])}
    told = {parse(fault).kind for row in ROWS for fault in row.faults}
    assert told | UNHEARD == kinds


def test_the_report_that_cannot_be_read_is_told_where_it_is_missed() -> None:
    with world(kept=1) as made:
        made.settings = replace(made.settings, tls_mode="Internal")
        made.operator = made.new_operator()
        number = made.cloud.context.faults.add(
            parse(denied("compute.instances.getGuestAttributes")), made.clock.now()
        )
        made.apply(NAME, SPEC)
        made.run(120)
        for condition in ("CertificateValid", "Ready"):
            status, reason, message = states(made, condition)
            assert (status, reason) == ("False", "PermissionDenied")
            assert f"get guest attributes of {vm(NAME)} in {ZONE}" in message
            assert "compute.instances.getGuestAttributes" in message
        made.cloud.context.faults.remove(number)
        made.run(90)
        assert states(made, "CertificateValid")[1] != "PermissionDenied"


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/global/firewalls$"),
        ("POST", "/addresses$"),
        ("POST", "/instances$"),
        ("POST", "/storage/v1/b$"),
        ("POST", "/upload/"),
        ("PUT", "/topics/"),
        ("POST", "/jobs$"),
        ("POST", "/functions$"),
    ],
)
def test_an_answer_that_is_lost_doubles_nothing(method: str, path: str, when: str) -> None:
    lost = {"method": method, "path": path, "count": 2, "code": 503, "when": when}
    with world(kept=1) as made:
        made.cloud.context.faults.add(parse(lost), made.clock.now())
        made.apply(NAME, SPEC)
        assert wait(made, lambda: not problems(made, [NAME]), 300, lambda: True), states(made, "Reconciling")
        assert not [event for event in made.kube.events if event[1] in ("AlreadyExists", "InternalError")]
        made.delete(NAME)
        assert wait(made, lambda: not made.kube.objects, 300, lambda: True)
        assert problems(made, []) == []


@pytest.mark.parametrize("fault", [{"kind": "duplicates", "copies": 3}, {"kind": "disorder", "seconds": 20}])
def test_messages_that_come_twice_or_late_start_a_vm_once(fault: Fault) -> None:
    with world(kept=1) as made:
        made.apply(NAME, SPEC)
        made.run(120)
        made.operator = None
        made.cloud.context.faults.add(parse(fault), made.clock.now())
        made.preempt(NAME)
        made.run(300)
        starts = made.cloud.context.journal.entries(permission="compute.instances.start", effective=True)
        assert len(starts) == 1
        made.operator = made.new_operator()
        look_again(made)
        made.run(60)
        assert problems(made, [NAME]) == []


# --- the reference ---

SHOWN = [
    (sold_out("operation"), {}),
    ((denied("compute.instances.create"),), {}),
    ((), {"requirements": ["-r x"]}),
    (
        (
            {
                "kind": "broken-model",
                "reason": "RequirementsFailed",
                "message": "scikit-learn==9.9: no such version is in the index",
            },
        ),
        {},
    ),
]


@pytest.mark.parametrize(("faults", "spec"), SHOWN, ids=str)
def test_the_sentences_of_the_reference_are_those_of_the_operator(
    faults: tuple[Fault, ...], spec: dict[str, Any]
) -> None:
    with world(kept=1) as made:
        for fault in faults:
            made.cloud.context.faults.add(parse(fault), made.clock.now())
        made.apply("iris", {**SPEC, **spec})
        made.run(120)
        status, reason, message = made.kube.condition("iris", "Ready")
        told = [said for kind, why, said in made.kube.events if (kind, why) == ("Warning", reason)]
        assert told[-1] == f"Ready={status}: {message}"
        assert len(told) == (2 if reason == "CapacityExhausted" else 1), "of each zone that refuses"
        reference = (ROOT / "crds" / "README.md").read_text(encoding="utf-8")
        assert re.search(
            rf"Warning  {reason}  4m   budget-operator  Ready={status}: {re.escape(message)}\n", reference
        )
        assert f"`STATE` is `{made.kube.status('iris')['state']}`" in reference


# --- Events ---

HOURS = 1
LONG = [
    ("create", sold_out("operation")),
    ("lose", sold_out("operation")),
    ("create", ({"path": "/", "code": 503, "count": 0},)),
    ("create", (denied("compute.instances.create"),)),
    ("create", ({"kind": "call", "path": "/functions", "code": 503, "count": 0, "when": "after"},)),
    ("ready", ({"kind": "disabled-api", "service": "compute"},)),
    ("delete", (denied("compute.instances.delete"),)),
]


@pytest.mark.parametrize(("event", "faults"), LONG, ids=str)
def test_a_long_fault_is_told_once(event: str, faults: tuple[Fault, ...]) -> None:
    """Whatever the number of conditions; once more where a second zone or attempt shows what it is."""
    with world() as made:
        if event not in FRESH:
            made.apply(NAME, SPEC)
            made.run(120)
        for fault in faults:
            made.cloud.context.faults.add(parse(fault), made.clock.now())
        before = len(made.kube.events)
        EVENTS[event](made)
        made.run(HOURS * 3600)
        told = Counter(reason for _, reason, _ in made.kube.events[before:])
        assert max(told.values()) <= 2, told
        writes = made.kube.status_writes
        made.run(600)
        assert made.kube.status_writes - writes <= 2 * 600 / 30, "the intent and the end of each attempt"
