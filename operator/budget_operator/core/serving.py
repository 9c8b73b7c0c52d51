"""What the VM serves: judged from real requests through the public URL, explained by what the VM says. Pure.

The VM's own report is untrusted: it explains why nothing answers, it never proves that something does.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from budget_operator.core.api import Failure, Replacement, Status
from budget_operator.core.conditions import Reason, Type, Verdict, because, find, is_true, kept, timestamp
from budget_operator.core.endpoint import INTERNAL, Tls
from budget_operator.core.errors import BudgetError
from budget_operator.core.observed import GuestReport, Host, Probe

MESSAGE_LIMIT = 1024
LOG_LIMIT = 4096
LONGEST_BOOT_SECONDS = 30 * 86_400.0
GUEST_REASONS = frozenset(
    {
        Reason.REQUIREMENTS_FAILED,
        Reason.LOAD_FAILED,
        Reason.ARTIFACT_INVALID,
        Reason.READINESS_FAILED,
        Reason.CODE_INVALID,
        Reason.OUT_OF_MEMORY,
        Reason.DISK_FULL,
        Reason.IMAGE_PULL_FAILED,
    }
)
# What helps, where the VM's own words do not say it.
ADVICE: Mapping[str, str] = {
    Reason.REQUIREMENTS_FAILED: "mend spec.requirements",
    Reason.LOAD_FAILED: "status.lastFailure.log has the server's last lines",
    Reason.ARTIFACT_INVALID: "may the VM's service account read the bucket?",
    Reason.CODE_INVALID: "mend spec.predictor",
    Reason.READINESS_FAILED: "compare spec.readiness.payload with what predict reads",
    Reason.IMAGE_PULL_FAILED: "mend spec.image (where it is not set, BUDGET_IMAGE), or let the VM's "
    "service account read that registry",
    Reason.GUEST_FAILED: "the command in status.logs shows the server's log",
}
RETRIED = "tried again with growing pauses, a new spec at once"
CERTIFICATE_REASONS = frozenset(
    {
        Reason.ORDERING,
        Reason.NAME_NOT_RESOLVED,
        Reason.WRONG_ADDRESS,
        Reason.FOREIGN_AAAA,
        Reason.ORDER_FAILED,
        Reason.RATE_LIMITED,
        Reason.DIRECTORY_UNREACHABLE,
        Reason.NO_PUBLIC_ADDRESS,
    }
)
_PREPARING = frozenset({"artifact", "environment", "load"})


@dataclass(frozen=True)
class Glimpse:
    """What one pass saw of the endpoint."""

    running: bool | None  # None: the VM's state could not be seen
    due: bool  # requests were made in this pass
    target: str | None  # the revision that should serve, if the spec is usable
    ca: str  # PEM; of the VM's own authority, or a private one
    tls: Tls = INTERNAL
    url: str = ""  # the public one; empty: not known
    image: str = ""  # the one that should run; empty = any
    host: Host | None = None  # what the VM last said about the one that does
    report: GuestReport | None = None
    unread: BudgetError | None = None  # why there is no report
    ready: Probe | None = None
    prediction: Probe | None = None
    failing_seconds: float = 0.0  # how long requests have been failing
    failure_seconds: float = 60.0  # how long a serving endpoint may

    @property
    def ok(self) -> bool:
        """Every request that was made succeeded."""
        return self.ready is not None and self.ready.ok and (self.prediction is None or self.prediction.ok)


@dataclass(frozen=True)
class Serving:
    """The judgement."""

    model: Verdict
    certificate: Verdict
    active: str | None
    failure: Failure | None
    boot: Mapping[str, float] = field(default_factory=dict)
    ca: str = ""
    url: str = ""  # the public one; empty: as it was
    lag: Failure | None = None  # another image runs than the wanted one, and why
    replacement: Replacement | None = None
    recreated: str | None = None  # the revision that serves as of now, and for which another one was stopped

    def in_motion(self, target: str | None) -> bool:
        """Something is expected to change by itself."""
        return self.model.status != "True" or self.updates(target) or self.lag is not None

    def updates(self, target: str | None) -> bool:
        """Another revision serves than the wanted one."""
        return target is not None and self.active != target


def judge(before: Status, glimpse: Glimpse) -> Serving:
    """Conditions, active revision and last failure after one glimpse."""
    judged = _judged(before, glimpse)
    recreated = _recreated(before, glimpse, judged.active)
    replacement = _replacement(glimpse.host) or before.replacement
    return replace(
        judged,
        ca=glimpse.ca,
        url=glimpse.url,
        lag=image_lag(glimpse),
        recreated=recreated,
        replacement=replacement,
    )


def _replacement(host: Host | None) -> Replacement | None:
    if host is None or not host.replaced or host.down_seconds is None:
        return None
    return Replacement(image=host.replaced, down_seconds=round(host.down_seconds, 1))


def _recreated(before: Status, glimpse: Glimpse, active: str | None) -> str | None:
    if glimpse.report is None or active is None or active == before.revision.active:
        return None
    return active if active == glimpse.report.recreated else None


def _judged(before: Status, glimpse: Glimpse) -> Serving:
    boot = _boot(glimpse.report) or before.boot
    if glimpse.running is False:
        down = Verdict("False", Reason.INSTANCE_NOT_RUNNING, "the VM is not running")
        certificate = kept(before.conditions, Type.CERTIFICATE_VALID, "the VM is not running")
        return Serving(down, certificate, None, _failure(before, glimpse), boot)
    if not glimpse.due:
        model = kept(before.conditions, Type.MODEL_SERVING, "not asked yet")
        certificate = kept(before.conditions, Type.CERTIFICATE_VALID, "not asked yet")
        # Who goes back to the revision that serves has undone what failed.
        undone = glimpse.target is not None and glimpse.target == before.revision.active
        failure = None if undone else before.last_failure
        return Serving(model, certificate, before.revision.active, failure, boot)
    if glimpse.ok:
        return _answering(before, glimpse, boot)
    if _forgiven(before, glimpse):
        model = kept(before.conditions, Type.MODEL_SERVING, "")
        return Serving(
            model, _certificate(before, glimpse), before.revision.active, before.last_failure, boot
        )
    failure = _failure(before, glimpse)
    return Serving(_silent(before, glimpse), _certificate(before, glimpse), None, failure, boot)


def _forgiven(before: Status, glimpse: Glimpse) -> bool:
    """Whether what serves may fail to answer for a while; a URL that has never answered may not."""
    served = is_true(before.conditions, Type.MODEL_SERVING) and glimpse.url in ("", before.endpoint)
    return served and glimpse.failing_seconds < glimpse.failure_seconds


def _answering(before: Status, glimpse: Glimpse, boot: Mapping[str, float]) -> Serving:
    active = active_revision(before, glimpse)
    message = "a request through the public URL succeeded"
    model = Verdict("True", Reason.ANSWERING, message)
    done = active is not None and active == glimpse.target and image_lag(glimpse) is None
    failure = None if done else _failure(before, glimpse)
    return Serving(model, _certificate(before, glimpse), active, failure, boot)


def active_revision(before: Status, glimpse: Glimpse) -> str | None:
    """The revision the endpoint names; else what the VM says; else what was known."""
    named = glimpse.ready.revision if glimpse.ready is not None else None
    told = glimpse.report.active if glimpse.report is not None else None
    return named or told or before.revision.active


def _silent(before: Status, glimpse: Glimpse) -> Verdict:
    """Why nothing answers, in the order of what helps most."""
    failure = guest_failure(glimpse)
    if failure is not None:
        return Verdict("False", failure.reason, sentence(failure))
    if glimpse.prediction is not None and not glimpse.prediction.ok:
        message = glimpse.prediction.message[:MESSAGE_LIMIT]
        return Verdict(
            "False", Reason.READINESS_FAILED, sentence(_told(Reason.READINESS_FAILED, message, ""))
        )
    missing = _missing_certificate(glimpse)
    if missing is not None and _is_about_tls(glimpse):
        return Verdict("Unknown", missing.reason, f"cannot be asked without a certificate: {missing.message}")
    seen = (
        glimpse.ready.message[:MESSAGE_LIMIT] if glimpse.ready is not None else "no certificate authority yet"
    )
    phase = glimpse.report.phase if glimpse.report is not None else ""
    if phase in _PREPARING:
        return Verdict("False", Reason.LOADING, f"the VM prepares the model (phase {phase})")
    if glimpse.unread is not None:
        seen += f"; what the VM says cannot be read: {glimpse.unread.sentence}"
    was = find(before.conditions, Type.MODEL_SERVING)
    served = was is not None and (was.status == "True" or was.reason == Reason.NOT_ANSWERING)
    if not served:
        return Verdict("False", Reason.BOOTING, f"the VM boots: {seen}")
    return Verdict("False", Reason.NOT_ANSWERING, seen)


def _missing_certificate(glimpse: Glimpse) -> Verdict | None:
    """Why there is none from the ACME authority yet, as the VM tells it."""
    told = glimpse.report.certificate if glimpse.report is not None else None
    if glimpse.tls.mode != "Acme" or told is None or told.reason not in CERTIFICATE_REASONS:
        return None
    message = told.message[:MESSAGE_LIMIT] or "the VM gave no message"
    if told.retry_at is not None:
        message += f"; tried again at {timestamp(datetime.fromtimestamp(told.retry_at, UTC))}"
    return Verdict("False", told.reason, message)


def _is_about_tls(glimpse: Glimpse) -> bool:
    seen = [probe for probe in (glimpse.ready, glimpse.prediction) if probe is not None]
    return any(word in probe.message for probe in seen for word in ("certificate", "TLS"))


def _certificate(before: Status, glimpse: Glimpse) -> Verdict:
    if glimpse.tls.mode == "Off":
        return Verdict(
            "True", Reason.TLS_OFF, "spec.endpoint.tls.mode is Off: whoever stands in front encrypts"
        )
    if glimpse.tls.mode == "Internal" and not glimpse.ca:
        message = "the VM has not told its certificate authority yet"
        pending = Verdict("False", Reason.CERTIFICATE_PENDING, message)
        return pending if glimpse.unread is None else because(glimpse.unread)
    seen = [probe for probe in (glimpse.ready, glimpse.prediction) if probe is not None]
    if any(probe.certificate_ok for probe in seen):
        return Verdict("True", Reason.VERIFIED, "the endpoint's certificate was verified")
    missing = _missing_certificate(glimpse)
    if missing is not None:
        return missing
    message = seen[0].message[:MESSAGE_LIMIT] if seen else ""
    if _is_about_tls(glimpse):
        return Verdict("False", Reason.NOT_VERIFIED, message)
    return kept(before.conditions, Type.CERTIFICATE_VALID, message)  # no connection says nothing about it


def guest_failure(glimpse: Glimpse) -> Failure | None:
    """What the VM says went wrong with the wanted revision, or with the image that it needs."""
    report = glimpse.report
    if report is None:
        return None
    host = _host_failure(report.host)
    if host is not None and not report.host.image:
        return host  # what a container said is from an earlier boot
    if report.failure_reason and report.failure_revision in ("", glimpse.target):
        return _told(report.failure_reason, report.failure_message, report.failure_log)
    return host


def image_lag(glimpse: Glimpse) -> Failure | None:
    """Why another image runs than the wanted one, if the VM says so."""
    host = glimpse.host
    if host is None or glimpse.running is False:
        return None
    failure = _host_failure(host)
    if failure is not None and host.image:
        message = f"{host.image} serves on: {sentence(failure)}"[:MESSAGE_LIMIT]
        return failure.model_copy(update={"message": message})
    if failure is None and host.image and glimpse.image and host.image != glimpse.image:
        message = f"{host.image} serves until the VM has {glimpse.image}"
        return Failure(reason=Reason.UPDATING, message=message[:MESSAGE_LIMIT])
    return failure


def _host_failure(host: Host) -> Failure | None:
    return _told(host.reason, host.message, "") if host.reason else None


def _told(reason: str, message: str, log: str) -> Failure:
    """A failure in the VM's words, as far as they are words we know."""
    known = reason in GUEST_REASONS
    return Failure(
        reason=reason if known else Reason.GUEST_FAILED,
        message=message[:MESSAGE_LIMIT] or "the VM gave no message",
        log=_tail(log),
    )


def sentence(failure: Failure) -> str:
    """What failed, what helps, and what happens by itself."""
    parts = (failure.message.rstrip(". "), ADVICE.get(failure.reason, ""), RETRIED)
    return "; ".join(part for part in parts if part)


def doubts_artifact(before: Status, judged: Serving) -> bool:
    """Whether the VM says now, and did not before, that what lies in the bucket is not what it should be."""
    told = judged.failure
    return told is not None and told.reason == Reason.ARTIFACT_INVALID and told != before.last_failure


def _failure(before: Status, glimpse: Glimpse) -> Failure | None:
    told = guest_failure(glimpse)
    if told is not None:
        return told
    if glimpse.prediction is not None and not glimpse.prediction.ok:
        message = glimpse.prediction.message[:MESSAGE_LIMIT]
        return Failure(reason=Reason.READINESS_FAILED, message=message)
    return before.last_failure


def _tail(log: str) -> str:
    return log.encode()[-LOG_LIMIT:].decode(errors="ignore")


def _boot(report: GuestReport | None) -> dict[str, float]:
    if report is None:
        return {}
    return {
        phase: round(seconds, 1)
        for phase, seconds in sorted(report.boot.items())
        if math.isfinite(seconds) and 0 <= seconds <= LONGEST_BOOT_SECONDS
    }
