"""Every condition type and reason, one documented constant each, and the arithmetic of conditions.

`Ready` is computed here and nowhere else. Which reason applies is found out by `plan`, `serving` and
`errors`; when a condition is written is the business of `status`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Literal

from budget_operator.core.api import Condition
from budget_operator.core.errors import BudgetError

TriState = Literal["True", "False", "Unknown"]


class Type(StrEnum):
    """Condition types."""

    READY = "Ready"  # a real request through the public URL just succeeded, and the VM comes back by itself
    ARTIFACT_UPLOADED = "ArtifactUploaded"  # code and sealed credentials lie in the bucket
    KEEP_ALIVE_ARMED = "KeepAliveArmed"  # topic, Scheduler job and function would start this VM
    INSTANCE_RUNNING = "InstanceRunning"  # the VM is RUNNING
    MODEL_SERVING = "ModelServing"  # the model answers
    CERTIFICATE_VALID = "CertificateValid"  # TLS of the endpoint was verified
    WITHIN_BUDGET = "WithinBudget"  # the month has cost less than spec.budget; only where there is one
    RECONCILING = "Reconciling"  # abnormal if True: something is being changed or retried
    STALLED = "Stalled"  # abnormal if True: nothing helps but a change by its owner


DEPENDENCIES = (
    Type.ARTIFACT_UPLOADED,
    Type.KEEP_ALIVE_ARMED,
    Type.INSTANCE_RUNNING,
    Type.MODEL_SERVING,
    Type.CERTIFICATE_VALID,
)
ABNORMAL = frozenset({Type.RECONCILING, Type.STALLED})


class Reason(StrEnum):
    """Condition reasons; Events carry the same words."""

    # All is well.
    SERVING = "Serving"  # Ready: every part is in order
    UPLOADED = "Uploaded"  # ArtifactUploaded
    ARMED = "Armed"  # KeepAliveArmed
    RUNNING = "Running"  # InstanceRunning
    ANSWERING = "Answering"  # ModelServing: a request through the public URL succeeded
    VERIFIED = "Verified"  # CertificateValid
    TLS_OFF = "TLSOff"  # CertificateValid: there is none, as spec.endpoint.tls.mode wants it
    WITHIN_BUDGET = "WithinBudget"  # WithinBudget: the month costs less than spec.budget.monthly so far
    BUDGET_NEARLY_SPENT = (
        "BudgetNearlySpent"  # WithinBudget: so much of it is gone as spec.budget.warnAt says
    )
    PRICE_UNKNOWN = "PriceUnknown"  # WithinBudget: there is no price of something that was paid for
    UP_TO_DATE = "UpToDate"  # Reconciling=False, Stalled=False

    # On the way.
    UPLOADING = "Uploading"  # code or credentials are not in the bucket yet
    ARMING = "Arming"  # a part of the keep-alive, or its label on the VM, is being made
    FUNCTION_DEPLOYING = "FunctionDeploying"  # Google builds the keep-alive function
    PROVISIONING = "Provisioning"  # firewall, address or VM are being made
    STARTING = "Starting"  # the VM is on its way up
    STOPPING = "Stopping"  # the VM is on its way down
    SUSPENDED = "Suspended"  # the VM is off, as spec.suspend wants it
    BUDGET_EXCEEDED = "BudgetExceeded"  # the month's budget is spent; with onExceeded Stop the VM is off
    RESUMING = "Resuming"  # somebody suspended the VM; it goes on where it was
    CHANGING_MACHINE_TYPE = "ChangingMachineType"  # the VM stops, changes its type and starts
    GROWING_DISK = "GrowingDisk"  # the disk grows; then the VM stops and starts, and its file system grows
    RECREATING = "Recreating"  # the VM is replaced because a field cannot be changed in place
    MOVING = (
        "Moving"  # the VM's zone is sold out: another one is made in another zone, behind the same address
    )
    BOOTING = "Booting"  # the VM runs and has not said anything yet
    LOADING = "Loading"  # the VM prepares the model
    UPDATING = "Updating"  # another revision or image than the wanted one serves
    NOT_ANSWERING = "NotAnswering"  # requests through the public URL fail
    INSTANCE_NOT_RUNNING = "InstanceNotRunning"  # nothing can serve
    ORDERING = "Ordering"  # the VM orders its certificate
    CERTIFICATE_PENDING = "CertificatePending"  # the VM has not published its certificate authority yet
    NAME_NOT_RESOLVED = "NameNotResolved"  # the endpoint's name has no A record yet
    WRONG_ADDRESS = "WrongAddress"  # its A record points elsewhere
    FOREIGN_AAAA = "ForeignAAAA"  # it has an AAAA record, which is not this VM
    ORDER_FAILED = "OrderFailed"  # the authority did not sign
    DIRECTORY_UNREACHABLE = "DirectoryUnreachable"  # the authority does not answer
    NO_PUBLIC_ADDRESS = "NoPublicAddress"  # the VM has no address that an authority could reach
    NOT_VERIFIED = "NotVerified"  # the endpoint's certificate could not be verified
    DELETING = "Deleting"  # the deployment is being removed
    PREEMPTED = "Preempted"  # an Event: Google took the VM away
    IMAGE_REPLACED = "ImageReplaced"  # an Event: another image of the server runs
    RECREATED_FOR_MEMORY = "RecreatedForMemory"  # an Event: memory does not hold two models
    DRILL_STARTED = "DrillStarted"  # an Event: Google is asked to preempt the VM
    DRILL_RECOVERED = "DrillRecovered"  # an Event: it serves again, after so many seconds
    DRILL_REFUSED = "DrillRefused"  # an Event: nothing was preempted, and why
    RETAINED = "Retained"  # an Event: the object goes, everything in the cloud stays and works on
    ABANDONED = "Abandoned"  # an Event: the object goes, and nobody looked at what is left in the cloud
    UNKNOWN = "Unknown"  # not looked at yet

    # Told by the VM.
    REQUIREMENTS_FAILED = "RequirementsFailed"  # the requirements could not be installed
    LOAD_FAILED = "LoadFailed"  # load() raised, or took longer than startupSeconds
    ARTIFACT_INVALID = "ArtifactInvalid"  # what lies in the bucket is not what the operator uploaded
    CODE_INVALID = "CodeInvalid"  # the code is not where spec.predictor says, or cannot be unpacked
    READINESS_FAILED = "ReadinessFailed"  # the prediction with readiness.payload did not succeed
    OUT_OF_MEMORY = "OutOfMemory"  # installing, load or predict wanted more memory than the machine has
    DISK_FULL = "DiskFull"  # installing or load wrote more than the disk holds
    IMAGE_PULL_FAILED = "ImagePullFailed"  # the VM could not pull the server's image
    GUEST_FAILED = "GuestFailed"  # the VM told a failure without a reason we know

    # `errors`.
    INTERNAL_ERROR = "InternalError"
    INVALID_SPEC = "InvalidSpec"
    REFERENCE_MISSING = "ReferenceMissing"
    NAME_CONFLICT = "NameConflict"
    OWNED_ELSEWHERE = "OwnedElsewhere"
    NOT_FOUND = "NotFound"
    ALREADY_EXISTS = "AlreadyExists"
    PRECONDITION_FAILED = "PreconditionFailed"
    RESOURCE_NOT_READY = "ResourceNotReady"
    CAPACITY_EXHAUSTED = "CapacityExhausted"
    QUOTA_EXCEEDED = "QuotaExceeded"
    PERMISSION_DENIED = "PermissionDenied"
    RATE_LIMITED = "RateLimited"
    CLOUD_UNAVAILABLE = "CloudUnavailable"
    OPERATION_FAILED = "OperationFailed"


IN_MOTION = frozenset(
    {
        Reason.UPLOADING,
        Reason.ARMING,
        Reason.FUNCTION_DEPLOYING,
        Reason.PROVISIONING,
        Reason.STARTING,
        Reason.STOPPING,
        Reason.SUSPENDED,
        Reason.BUDGET_EXCEEDED,
        Reason.RESUMING,
        Reason.CHANGING_MACHINE_TYPE,
        Reason.GROWING_DISK,
        Reason.RECREATING,
        Reason.MOVING,
        Reason.BOOTING,
        Reason.LOADING,
        Reason.UPDATING,
        Reason.INSTANCE_NOT_RUNNING,
        Reason.CERTIFICATE_PENDING,
        Reason.ORDERING,
        Reason.DELETING,
        Reason.UNKNOWN,
    }
)
MESSAGE_LIMIT = 2048


@dataclass(frozen=True)
class Verdict:
    """What one pass found about one condition."""

    status: TriState
    reason: str
    message: str = ""


Verdicts = Mapping[Type, Verdict]


def because(error: BudgetError, status: TriState = "False") -> Verdict:
    """The verdict of something that this error keeps from being True."""
    return Verdict(status, error.reason, error.sentence)


def timestamp(moment: datetime) -> str:
    """Kubernetes' form of a time: UTC, whole seconds."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def find(conditions: Iterable[Condition], kind: Type) -> Condition | None:
    """The condition of this type."""
    return next((condition for condition in conditions if condition.type == kind), None)


def is_true(conditions: Iterable[Condition], kind: Type) -> bool:
    """Whether the condition is there and True."""
    found = find(conditions, kind)
    return found is not None and found.status == "True"


def kept(conditions: Iterable[Condition], kind: Type, message: str) -> Verdict:
    """What was known before, for a pass that could not look; Unknown if nothing was."""
    found = find(conditions, kind)
    if found is None:
        return Verdict("Unknown", Reason.UNKNOWN, message)
    return Verdict(found.status, found.reason, found.message)


def not_seen(conditions: Iterable[Condition], kind: Type, error: BudgetError) -> Verdict:
    """What is there stays true; of what was only on its way nothing is known any more but the error."""
    found = find(conditions, kind)
    if found is not None and found.status == "True":
        return Verdict(found.status, found.reason, found.message)
    return because(error, "Unknown")


def ready(verdicts: Verdicts) -> Verdict:
    """True if all of DEPENDENCIES are; otherwise the cause: trouble before what only waits for it."""
    lacking = [(kind, verdicts[kind]) for kind in DEPENDENCIES if verdicts[kind].status != "True"]
    if not lacking:
        return Verdict("True", Reason.SERVING, "a request through the public URL succeeded")
    status: TriState = "False" if any(verdict.status == "False" for _, verdict in lacking) else "Unknown"
    kind, cause = min(lacking, key=lambda each: (each[1].reason in IN_MOTION, each[1].status != "False"))
    return Verdict(status, cause.reason, f"{kind}: {cause.message or cause.reason}")


def merged(
    previous: Iterable[Condition], verdicts: Verdicts, generation: int, now: datetime
) -> tuple[Condition, ...]:
    """The conditions to write: lastTransitionTime moves only where the status flips."""
    before = {condition.type: condition for condition in previous}
    written = []
    for kind in Type:
        if kind not in verdicts:
            continue
        verdict, old = verdicts[kind], before.get(kind)
        same = old is not None and old.status == verdict.status
        written.append(
            Condition(
                type=kind,
                status=verdict.status,
                reason=verdict.reason,
                message=verdict.message[:MESSAGE_LIMIT],
                observed_generation=generation,
                last_transition_time=old.last_transition_time if same and old else timestamp(now),
            )
        )
    return tuple(written)


def is_warning(condition: Condition) -> bool:
    """Whether an Event about this condition deserves attention."""
    if condition.type == Type.STALLED:
        return condition.status == "True"
    if condition.type == Type.WITHIN_BUDGET:
        return condition.reason != Reason.WITHIN_BUDGET
    if condition.type == Type.RECONCILING:
        return condition.status == "True" and condition.reason not in IN_MOTION
    return condition.status != "True" and condition.reason not in IN_MOTION
