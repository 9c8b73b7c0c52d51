"""Requests prove, the VM's report only explains."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from budget_operator.core.api import Failure, Replacement, RevisionStatus, Status
from budget_operator.core.conditions import Reason, Type, Verdict, merged
from budget_operator.core.observed import GuestReport, Host, Probe
from budget_operator.core.serving import LOG_LIMIT, MESSAGE_LIMIT, Glimpse, Serving, judge
from budget_operator.core.status import recreation, replacement

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
OK = Probe(True, "ok", "new", certificate_ok=True)
REFUSED = Probe(False, "connection refused")
NEVER = Status()


def status(model: str = "True", reason: str = Reason.ANSWERING, active: str | None = "new") -> Status:
    verdicts = {
        Type.MODEL_SERVING: Verdict(model, reason),  # type: ignore[arg-type]
        Type.CERTIFICATE_VALID: Verdict("True", Reason.VERIFIED),
    }
    return Status(conditions=merged((), verdicts, 1, NOW), revision=RevisionStatus(active=active))


SERVED = status()


def glimpse(**changes: Any) -> Glimpse:
    usual: dict[str, Any] = {"running": True, "due": True, "target": "new", "ca": "PEM", "ready": OK}
    return Glimpse(**{**usual, **changes})


def told(found: Serving) -> tuple[str, str, str]:
    """Without the advice: what the VM or the endpoint said."""
    return found.model.status, found.model.reason, found.model.message.partition("; ")[0]


def test_an_answer_is_the_only_proof() -> None:
    found = judge(NEVER, glimpse())
    assert (found.model.status, found.certificate.status, found.active) == ("True", "True", "new")
    boast = GuestReport(phase="serving", target="new", active="new")
    assert judge(NEVER, glimpse(ready=REFUSED, report=boast)).model.status == "False"


def test_a_failing_prediction_is_no_proof() -> None:
    bad = Probe(False, "status 500", certificate_ok=True)
    found = judge(NEVER, glimpse(prediction=bad))
    assert told(found) == ("False", Reason.READINESS_FAILED, "status 500")
    assert found.failure is not None
    assert found.failure.reason == Reason.READINESS_FAILED
    assert found.certificate.status == "True"


def test_a_vm_that_is_off_serves_nothing() -> None:
    found = judge(SERVED, glimpse(running=False, due=False))
    assert (found.model.reason, found.active) == (Reason.INSTANCE_NOT_RUNNING, None)
    assert found.certificate.status == "True", "nothing was learnt about it"


def test_without_a_request_everything_is_kept() -> None:
    found = judge(SERVED, glimpse(due=False, ready=None))
    assert (found.model.status, found.active) == ("True", "new")
    assert judge(NEVER, glimpse(due=False, ready=None)).model.status == "Unknown"


def test_a_serving_endpoint_has_its_grace() -> None:
    short = glimpse(ready=REFUSED, failing_seconds=59.0, failure_seconds=60.0)
    assert judge(SERVED, short).model.status == "True"
    long = replace(short, failing_seconds=60.0)
    assert judge(SERVED, long).model == Verdict("False", Reason.NOT_ANSWERING, "connection refused")
    assert judge(NEVER, short).model.status == "False", "what never served has none"


def test_another_url_is_not_believed_before_it_answers() -> None:
    served = SERVED.model_copy(update={"endpoint": "https://192.0.2.1"})
    same = glimpse(ready=REFUSED, url="https://192.0.2.1")
    assert judge(served, same).model.status == "True"
    assert judge(served, replace(same, url="http://192.0.2.1")).model.status == "False"


@pytest.mark.parametrize(
    ("report", "reason"),
    [
        (None, Reason.BOOTING),
        (GuestReport(phase="boot"), Reason.BOOTING),
        (GuestReport(phase="environment"), Reason.LOADING),
        (GuestReport(phase="load"), Reason.LOADING),
        (GuestReport(phase="serving"), Reason.BOOTING),
    ],
)
def test_a_booting_vm_is_no_failure(report: GuestReport | None, reason: Reason) -> None:
    before = status("False", Reason.INSTANCE_NOT_RUNNING)
    assert judge(before, glimpse(ready=REFUSED, report=report)).model.reason == reason


def test_silence_stays_silence() -> None:
    before = status("False", Reason.NOT_ANSWERING)
    found = judge(before, glimpse(ready=REFUSED, report=GuestReport(phase="serving")))
    assert found.model.reason == Reason.NOT_ANSWERING


def failed(reason: str = "LoadFailed", revision: str = "new", **more: Any) -> GuestReport:
    return GuestReport(
        phase="failed", failure_reason=reason, failure_message="why", failure_revision=revision, **more
    )


def test_the_vms_reason_explains() -> None:
    found = judge(NEVER, glimpse(ready=REFUSED, report=failed(failure_log="Traceback")))
    assert told(found) == ("False", "LoadFailed", "why")
    assert found.failure == Failure(reason="LoadFailed", message="why", log="Traceback")


@pytest.mark.parametrize("reason", ["OutOfMemory", "DiskFull"])
def test_too_small_a_machine_is_told_apart(reason: str) -> None:
    found = judge(NEVER, glimpse(ready=REFUSED, report=failed(reason, failure_log="last lines")))
    assert told(found) == ("False", reason, "why")
    assert found.failure == Failure(reason=reason, message="why", log="last lines")


@pytest.mark.parametrize("reason", ["Ready", "rm -rf /", "x" * 100, "InternalError"])
def test_a_reason_we_do_not_know_is_not_repeated(reason: str) -> None:
    found = judge(NEVER, glimpse(ready=REFUSED, report=failed(reason)))
    assert found.model.reason == Reason.GUEST_FAILED


def test_the_failure_of_another_revision_does_not_count() -> None:
    found = judge(NEVER, glimpse(ready=REFUSED, report=failed(revision="old")))
    assert (found.model.reason, found.failure) == (Reason.BOOTING, None)


NO_IMAGE = Host("", "ImagePullFailed", "denied")
OLD_IMAGE = Host("r/s:1", "ImagePullFailed", "denied")


def test_an_image_that_cannot_be_pulled_explains_before_an_earlier_container_does() -> None:
    found = judge(NEVER, glimpse(ready=REFUSED, report=failed(host=NO_IMAGE)))
    assert told(found) == ("False", Reason.IMAGE_PULL_FAILED, "denied")


def test_a_container_that_runs_explains_before_the_host_does() -> None:
    found = judge(NEVER, glimpse(ready=REFUSED, report=failed(host=OLD_IMAGE), host=OLD_IMAGE))
    assert found.model.reason == "LoadFailed"
    other = judge(NEVER, glimpse(ready=REFUSED, report=failed(revision="old", host=OLD_IMAGE)))
    assert other.model.reason == Reason.IMAGE_PULL_FAILED


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        (None, None),
        (Host(), None),
        (Host(""), None),
        (Host("r/s:2"), None),
        (Host("r/s:1"), Reason.UPDATING),
        (OLD_IMAGE, Reason.IMAGE_PULL_FAILED),
        (Host("r/s:1", "Strange", "x"), Reason.GUEST_FAILED),
        (Host(None, "ImagePullFailed", "denied"), Reason.IMAGE_PULL_FAILED),
    ],
)
def test_another_image_than_the_wanted_one_is_in_motion(host: Host | None, reason: Reason | None) -> None:
    found = judge(SERVED, glimpse(image="r/s:2", host=host))
    assert found.model.status == "True"
    assert (found.lag.reason if found.lag is not None else None) == reason
    assert found.in_motion("new") == (reason is not None)


def test_a_vm_that_is_off_runs_no_image() -> None:
    assert judge(SERVED, glimpse(running=False, due=False, image="r/s:2", host=OLD_IMAGE)).lag is None


def test_what_the_vm_says_is_bounded() -> None:
    report = failed(failure_log="é" * 9999)
    found = judge(NEVER, glimpse(ready=REFUSED, report=replace(report, failure_message="m" * 9999)))
    assert found.failure is not None
    assert len(found.failure.message) == MESSAGE_LIMIT
    assert len(found.failure.log.encode()) <= LOG_LIMIT
    assert set(found.failure.log) == {"é"}


def test_a_failed_update_leaves_the_old_revision_serving() -> None:
    old = replace(OK, revision="old")
    found = judge(status(active="old"), glimpse(ready=old, report=failed()))
    assert (found.model.status, found.active) == ("True", "old")
    assert found.failure is not None
    assert found.in_motion("new")


def test_success_of_the_wanted_revision_clears_the_failure() -> None:
    before = SERVED.model_copy(update={"last_failure": Failure(reason="LoadFailed", message="x")})
    assert judge(before, glimpse()).failure is None
    assert not judge(before, glimpse()).in_motion("new")


def test_going_back_to_what_serves_clears_the_failure_without_a_request() -> None:
    before = SERVED.model_copy(update={"last_failure": Failure(reason="LoadFailed", message="x")})
    assert judge(before, glimpse(due=False, ready=None)).failure is None
    for target in ("newer", None):
        assert judge(before, glimpse(due=False, ready=None, target=target)).failure is not None


@pytest.mark.parametrize(
    ("ready", "status_", "reason"),
    [
        (Probe(False, "status 503", certificate_ok=True), "True", Reason.VERIFIED),
        (Probe(False, "the certificate is not valid: expired"), "False", Reason.NOT_VERIFIED),
        (REFUSED, "Unknown", Reason.UNKNOWN),
    ],
)
def test_the_certificate_is_judged_by_itself(ready: Probe, status_: str, reason: Reason) -> None:
    found = judge(NEVER, glimpse(ready=ready)).certificate
    assert (found.status, found.reason) == (status_, reason)


def test_without_an_authority_nothing_can_be_verified() -> None:
    found = judge(NEVER, glimpse(ca="", ready=None))
    assert (found.model.status, found.certificate.reason) == ("False", Reason.CERTIFICATE_PENDING)


def test_seconds_of_the_boot_are_cleaned() -> None:
    report = GuestReport(boot={"load": 1.26, "pull": float("nan"), "engine": -1.0, "artifact": 1e12})
    assert judge(NEVER, glimpse(report=report)).boot == {"load": 1.3}
    before = NEVER.model_copy(update={"boot": {"load": 9.0}})
    assert judge(before, glimpse()).boot == {"load": 9.0}


@pytest.mark.parametrize(
    ("before", "stopped_for", "told"),
    [
        ("old", "new", "new"),
        (None, "new", "new"),
        ("new", "new", None),
        ("old", "older", None),
        ("old", "", None),
    ],
    ids=["now", "after a silence", "told already", "another one", "both had room"],
)
def test_a_stop_for_want_of_memory_is_told_once_it_serves(
    before: str | None, stopped_for: str, told: str | None
) -> None:
    report = GuestReport(active="new", recreated=stopped_for)
    serving = judge(status(active=before), glimpse(report=report))
    assert serving.recreated == told
    assert [event.reason for event in recreation(serving)] == ([Reason.RECREATED_FOR_MEMORY] if told else [])


@pytest.mark.parametrize(
    ("host", "kept", "events"),
    [
        (Host("r/s:2", replaced="r/s:2", down_seconds=2.3), Replacement(image="r/s:2", down_seconds=2.3), 1),
        (Host("r/s:1", replaced="r/s:1", down_seconds=4.0), Replacement(image="r/s:1", down_seconds=4.0), 0),
        (Host("r/s:2"), Replacement(image="r/s:1", down_seconds=4.0), 0),
        (Host("r/s:2", replaced="r/s:2"), Replacement(image="r/s:1", down_seconds=4.0), 0),
    ],
    ids=["news", "told already", "an earlier one is kept", "without seconds"],
)
def test_a_replaced_image_is_told_once(host: Host, kept: Replacement, events: int) -> None:
    before = status(active="new").model_copy(
        update={"replacement": Replacement(image="r/s:1", down_seconds=4.0)}
    )
    serving = judge(before, glimpse(host=host))
    assert serving.replacement == kept
    told = replacement(before, serving)
    assert [event.reason for event in told] == [Reason.IMAGE_REPLACED] * events
