"""Every condition type and reason can be reached: one that nothing leads to is a promise nobody keeps."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from typing import Any

import pytest

from budget_operator.cloud.compute import ComputeGateway
from budget_operator.core import budget, serving, status
from budget_operator.core.api import Budget, Replacement, RevisionStatus, Status
from budget_operator.core.budget import Spending, Terms
from budget_operator.core.conditions import Reason, Type, Verdict, merged
from budget_operator.core.endpoint import INTERNAL, Tls
from budget_operator.core.observed import CertificateReport, GuestReport, Host, Probe
from budget_operator.core.prices import table
from budget_operator.core.prices.model import Rates
from budget_operator.core.serving import CERTIFICATE_REASONS, GUEST_REASONS, Glimpse, Serving
from dev.simulation.world import NAMESPACE, World, world
from localcloud.faults import parse
from localcloud.services.compute.catalog import MACHINES
from tests.simulation.acts import EVENTS, NAME, SPEC, ZONE, Fault, denied, look_again, stop

INSERT = {"method": "POST", "path": "/instances$", "count": 0}
NOW = datetime(2026, 1, 1, tzinfo=UTC)
ACME = Tls(mode="Acme", host="api.example.com")
FINE = Probe(True, "ok", "new", certificate_ok=True)
REFUSED = Probe(False, "connection refused")
FOREIGN = Probe(False, "the certificate is not valid: self-signed certificate")


# --- in the simulation ---


def watched(made: World) -> set[str]:
    """Fills with every type and reason that is written into a status, and every Event's."""
    seen: set[str] = set()

    def look() -> None:
        for found in made.kube.objects.values():
            for condition in found.get("status", {}).get("conditions", ()):
                seen.update((condition["type"], condition["reason"]))
        seen.update(reason for _, reason, _ in made.kube.events)

    made.journal.check = look
    return seen


@cache
def life() -> set[str]:
    """Nothing goes wrong that Google or a user does not do."""
    with world() as made:
        seen = watched(made)
        for name, happens in EVENTS.items():
            if name in ("stay", "move"):  # in which zones sell out
                continue
            happens(made)
            made.run(400)
        return seen


@cache
def second_life() -> set[str]:
    with world() as made:
        seen = watched(made)
        made.apply(NAME, SPEC)
        made.run(120)
        stop(made)
        made.operator = made.new_operator()  # one that has just begun looks at once
        made.passes.add_all(made.clock.monotonic())
        made.run(120)
        for machine in ({"diskGiB": 30}, {"diskGiB": 30, "provisioning": "Standard"}):
            made.apply(NAME, {**SPEC, "machine": machine})
            made.run(300)
        return seen


def resumed() -> set[str]:
    """By the operator, because no tick does it first."""
    with world() as made:
        made.settings = replace(made.settings, schedule="0 0 1 1 *")
        made.operator = made.new_operator()
        seen = watched(made)
        made.apply(NAME, SPEC)
        made.run(300)
        EVENTS["suspend"](made)
        made.run(120)
        return seen


def faulty(fault: Fault, event: str = "create", **settings: Any) -> Callable[[], set[str]]:
    def scene() -> set[str]:
        with world(kept=1) as made:
            made.settings = replace(made.settings, **settings)
            made.operator = made.new_operator()
            seen = watched(made)
            if event != "create":
                made.apply(NAME, SPEC)
                made.run(120)
            made.cloud.context.faults.add(parse(fault), made.clock.now())
            EVENTS[event](made)
            made.run(400)
            return seen

    return scene


def wished(**spec: Any) -> Callable[[], set[str]]:
    def scene() -> set[str]:
        with world() as made:
            seen = watched(made)
            made.apply(NAME, {**SPEC, **spec})
            made.run(30)
            return seen

    return scene


def strange_bucket() -> set[str]:
    with world() as made:
        seen = watched(made)
        assert made.operator is not None
        made.operator.common.means.cloud.storage.create_bucket("us-central1", {})
        made.apply(NAME, SPEC)
        made.run(30)
        return seen


def building() -> set[str]:
    """Google builds the function anew, as it does for its own updates."""
    with world() as made:
        seen = watched(made)
        made.apply(NAME, SPEC)
        made.run(120)
        [(key, function)] = made.store.list("functions.function")
        made.store.put("functions.function", key, {**function, "state": "DEPLOYING"})
        look_again(made)
        made.run(30)
        return seen


def bug() -> set[str]:
    with world() as made, pytest.MonkeyPatch.context() as patch:
        seen = watched(made)
        patch.setattr(ComputeGateway, "insert_instance", lambda *_: 1 / 0)
        made.apply(NAME, SPEC)
        made.run(60)
        return seen


def retained() -> set[str]:
    with world() as made:
        seen = watched(made)
        made.apply(NAME, {**SPEC, "deletionPolicy": "Retain"})
        made.run(120)
        made.delete(NAME)
        made.run(60)
        return seen


def abandoned() -> set[str]:
    """Its owner has no hope left of a cloud that does not answer."""
    with world() as made:
        seen = watched(made)
        made.apply(NAME, SPEC)
        made.run(120)
        made.cloud.context.faults.add(parse(denied("*")), made.clock.now())
        metadata = made.kube.objects[NAMESPACE, NAME]["metadata"]
        metadata["annotations"] = {"budgetml.dev/abandon": metadata["uid"]}
        made.delete(NAME)
        made.run(60)
        return seen


def drilled_too_early() -> set[str]:
    with world() as made:
        seen = watched(made)
        made.apply(NAME, SPEC)
        EVENTS["drill"](made)
        made.run(60)
        return seen


def elsewhere() -> set[str]:
    """Another cluster with the same installation."""
    with world() as made:
        made.apply(NAME, SPEC)
        made.run(120)
        made.kube = made.new_cluster("another")
        made.operator = made.new_operator()
        seen = watched(made)
        made.apply(NAME, SPEC)
        made.run(60)
        return seen


def unpriced() -> set[str]:
    """Of its next machine type there is no price."""
    with world() as made:
        seen = watched(made)
        made.apply(NAME, SPEC)
        made.run(120)
        known = table.shipped().regions[ZONE.rpartition("-")[0]].machines
        machine = next(name for name in MACHINES if name not in known)
        made.apply(NAME, {**SPEC, "machine": {"type": machine}, "budget": {"monthly": 99}})
        made.run(120)
        return seen


def spent() -> set[str]:
    asked = Terms(Budget(monthly="15"), Rates(0.02, 0.004, 0.001, 0.006), releasable=True)
    return {budget.standing(asked, Spending(15.0, None, running=True), NOW).verdict.reason}


# --- by what the VM and the endpoint tell ---


def before(model: str = "False", active: str | None = None) -> Status:
    verdicts = {Type.MODEL_SERVING: Verdict(model, Reason.ANSWERING)}  # type: ignore[arg-type]
    return Status(conditions=merged((), verdicts, 1, NOW), revision=RevisionStatus(active=active))


def told(was: Status, **glimpse: Any) -> Callable[[], set[str]]:
    def scene() -> set[str]:
        seen = Glimpse(**{"running": True, "due": True, "target": "new", "ca": "PEM", **glimpse})
        judged = serving.judge(was, seen)
        lag = {judged.lag.reason} if judged.lag is not None else set()
        return {judged.model.reason, judged.certificate.reason, *lag}

    return scene


def event(found: Serving) -> Callable[[], set[str]]:
    events = (*status.recreation(found), *status.replacement(Status(), found))
    return lambda: {each.reason for each in events}


def _by_the_vm() -> Iterator[tuple[Reason, Callable[[], set[str]]]]:
    for reason in GUEST_REASONS:
        report = GuestReport(phase="failed", failure_reason=reason, failure_message="why")
        yield reason, told(before(), ready=REFUSED, report=report)
    for reason in CERTIFICATE_REASONS - {Reason.RATE_LIMITED}:
        report = GuestReport(certificate=CertificateReport(reason=reason, message="why"))
        yield reason, told(before(), ready=FOREIGN, report=report, tls=ACME)


ANSWERED = Serving(Verdict("True", Reason.ANSWERING), Verdict("True", Reason.VERIFIED), "new", None)
LIFE = (
    *(Reason.SERVING, Reason.UPLOADED, Reason.ARMED, Reason.RUNNING, Reason.ANSWERING, Reason.TLS_OFF),
    *(Reason.UP_TO_DATE, Reason.UPLOADING, Reason.ARMING, Reason.PROVISIONING, Reason.STARTING),
    *(Reason.CHANGING_MACHINE_TYPE, Reason.INSTANCE_NOT_RUNNING, Reason.DELETING),
    *(Reason.PREEMPTED, Reason.UNKNOWN, Reason.INVALID_SPEC),
    *(Reason.DRILL_STARTED, Reason.DRILL_RECOVERED),
)
SCENES: dict[Reason, Callable[[], set[str]]] = {
    **dict.fromkeys(LIFE, life),
    **dict.fromkeys((Reason.STOPPING, Reason.GROWING_DISK, Reason.RECREATING), second_life),
    **dict(_by_the_vm()),
    Reason.RESUMING: resumed,
    Reason.SUSPENDED: wished(suspend=True),
    Reason.WITHIN_BUDGET: wished(budget={"monthly": 99}),
    Reason.BUDGET_NEARLY_SPENT: wished(budget={"monthly": 99, "warnAt": 1}),
    Reason.BUDGET_EXCEEDED: spent,
    Reason.PRICE_UNKNOWN: unpriced,
    Reason.FUNCTION_DEPLOYING: building,
    Reason.REFERENCE_MISSING: wished(predictor={"configMap": {"name": "none"}}),
    Reason.NAME_CONFLICT: strange_bucket,
    Reason.INTERNAL_ERROR: bug,
    Reason.DRILL_REFUSED: drilled_too_early,
    Reason.RETAINED: retained,
    Reason.ABANDONED: abandoned,
    Reason.OWNED_ELSEWHERE: elsewhere,
    Reason.NOT_FOUND: faulty({**INSERT, "code": 404, "reason": "notFound"}),
    Reason.ALREADY_EXISTS: faulty({**INSERT, "code": 409, "reason": "alreadyExists"}),
    Reason.PRECONDITION_FAILED: faulty({**INSERT, "code": 412, "reason": "conditionNotMet"}),
    Reason.OPERATION_FAILED: faulty({**INSERT, "code": 418, "reason": "teapot"}),
    Reason.CLOUD_UNAVAILABLE: faulty({**INSERT, "code": 503}),
    Reason.RESOURCE_NOT_READY: faulty({"kind": "fresh-api", "service": "compute", "seconds": 1e6}),
    Reason.CAPACITY_EXHAUSTED: faulty({"kind": "stock-out", "zone": ZONE}, "lose"),
    Reason.MOVING: faulty({"kind": "stock-out", "zone": ZONE}, "lose"),
    Reason.QUOTA_EXCEEDED: faulty(
        {"kind": "quota", "region": "us-central1", "metric": "PREEMPTIBLE_CPUS", "limit": 0}
    ),
    Reason.PERMISSION_DENIED: faulty(denied("compute.instances.create")),
    Reason.RATE_LIMITED: faulty(
        {"kind": "rate-limit", "service": "compute", "calls": "write", "perMinute": 0}
    ),
    Reason.NOT_ANSWERING: faulty(denied("compute.instances.list"), "lose"),
    Reason.CERTIFICATE_PENDING: faulty({"kind": "broken-model"}, tls_mode="Internal"),
    Reason.GUEST_FAILED: faulty({"kind": "broken-model", "reason": "SomethingNew"}),
    Reason.BOOTING: told(before(), ready=REFUSED),
    Reason.LOADING: told(before(), ready=REFUSED, report=GuestReport(phase="load")),
    Reason.VERIFIED: told(before(), ready=FINE),
    Reason.NOT_VERIFIED: told(before(), ready=FOREIGN, tls=INTERNAL),
    Reason.UPDATING: told(before("True", "new"), ready=FINE, image="two", host=Host(image="one")),
    Reason.IMAGE_REPLACED: event(
        replace(ANSWERED, replacement=Replacement(image="two", down_seconds=3.0)),
    ),
    Reason.RECREATED_FOR_MEMORY: event(replace(ANSWERED, recreated="new")),
}


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_is_reached(reason: Reason) -> None:
    assert reason in SCENES, "delete it, or show how it comes about"
    assert reason in SCENES[reason]()


def test_every_condition_type_is_reached() -> None:
    assert set(Type) <= life() | SCENES[Reason.WITHIN_BUDGET]()
