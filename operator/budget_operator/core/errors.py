"""The error tree of the operator: each class fixes its condition reason and what happens next.

Gateways turn vendor exceptions into these (the vendor's exception is chained); `reconcile` reads only
`reason` and `disposition`. Messages name the field or resource and repeat Google's words; `sentence` is for
people: what they can do, and whether it is tried again, comes with it. None of them ever holds a secret: what
Google repeats of a request is masked.
"""

from enum import Enum

from budget_operator.core.masking import masked
from budget_operator.core.roles import role_with


class Disposition(Enum):
    """What follows an error."""

    STALL = "stall"  # nothing helps but a new spec (or a changed Secret or ConfigMap)
    BLOCK = "block"  # nothing helps but an administrator; retry at a known pace, and what was true stays so
    OBSERVE = "observe"  # the world is not as assumed: look again and plan anew
    WAIT = "wait"  # will clear by itself: retry at a known pace
    BACK_OFF = "back off"  # retry with growing, jittered pauses


class BudgetError(Exception):
    """Base of all errors the operator expects."""

    reason = "InternalError"
    disposition = Disposition.BACK_OFF
    remedy = "the operator's log tells more"  # empty: there is none, or the message has it
    retry = "tried again with growing pauses, at least every five minutes"  # as `memory` paces it

    def __init__(self, message: str, *, remedy: str | None = None, retry: str | None = None) -> None:
        self.message = masked(message)
        super().__init__(self.message)
        self.remedy = type(self).remedy if remedy is None else remedy
        self.retry = type(self).retry if retry is None else retry

    @property
    def stalls(self) -> bool:
        """Whether somebody has to act."""
        return self.disposition in (Disposition.STALL, Disposition.BLOCK)

    @property
    def sentence(self) -> str:
        """What failed, what helps, and what happens by itself."""
        return "; ".join(part for part in (self.message.rstrip(". "), self.remedy, self.retry) if part)


class InvalidSpec(BudgetError):
    """The spec, or something it refers to, cannot work. The message names the field."""

    reason = "InvalidSpec"
    disposition = Disposition.STALL
    remedy = ""  # the field says it
    retry = ""


class ReferenceMissing(InvalidSpec):
    """A ConfigMap, Secret or key that the spec refers to does not exist (yet)."""

    reason = "ReferenceMissing"
    retry = "looked for every ten seconds"


class NameConflict(BudgetError):
    """A cloud resource has the name we need but does not carry our mark; it is never touched."""

    reason = "NameConflict"
    disposition = Disposition.STALL
    remedy = "rename or remove it: what is not ours is never touched"
    retry = "looked at again every minute"


class OwnedElsewhere(BudgetError):
    """The installation belongs to another cluster: nothing may be changed from here."""

    reason = "OwnedElsewhere"
    disposition = Disposition.STALL
    remedy = ""  # the message has it
    retry = ""


class NotFound(BudgetError):
    """The named cloud resource does not exist. Gateways return None from look-ups instead."""

    reason = "NotFound"
    disposition = Disposition.OBSERVE
    remedy = ""


class AlreadyExists(BudgetError):
    """A create found the name taken: look again, adopt only what carries our mark."""

    reason = "AlreadyExists"
    disposition = Disposition.OBSERVE
    remedy = ""


class PreconditionFailed(BudgetError):
    """A fingerprint, generation or resourceVersion was stale."""

    reason = "PreconditionFailed"
    disposition = Disposition.OBSERVE
    remedy = ""


class ResourceNotReady(BudgetError):
    """The resource is changing state (an instance that is STOPPING cannot start)."""

    reason = "ResourceNotReady"
    disposition = Disposition.WAIT
    remedy = ""
    retry = "tried again every few seconds"


class CapacityExhausted(BudgetError):
    """The zone is sold out of this machine type (ZONE_RESOURCE_POOL_EXHAUSTED)."""

    reason = "CapacityExhausted"
    disposition = Disposition.WAIT
    remedy = (
        "another zone (spec.placement.zones), another spec.machine.type or "
        "spec.machine.provisioning: Standard may have room"
    )
    retry = "tried again every half minute"


class QuotaExceeded(BudgetError):
    """A project quota is used up; the message repeats Google's text."""

    reason = "QuotaExceeded"
    disposition = Disposition.WAIT
    remedy = "have the quota raised (console: IAM & Admin, Quotas), or take a smaller spec.machine.type"
    retry = "tried again every minute"


class PermissionDenied(BudgetError):
    """The operator's credentials lack a permission, or an API is disabled."""

    reason = "PermissionDenied"
    disposition = Disposition.BLOCK
    remedy = "give the operator's service account a role with this permission"
    retry = "tried again every minute"

    def __init__(self, message: str, *, remedy: str | None = None, retry: str | None = None) -> None:
        role = "" if remedy is not None else role_with(message)
        super().__init__(message, remedy=f"{type(self).remedy}: {role}" if role else remedy, retry=retry)


class RateLimited(BudgetError):
    """Google refused a call because of its rate."""

    reason = "RateLimited"
    remedy = ""


class Unavailable(BudgetError):
    """Google did not answer, or answered 5xx."""

    reason = "CloudUnavailable"
    remedy = ""


class OperationFailed(BudgetError):
    """A long-running operation ended with an error that has no class of its own."""

    reason = "OperationFailed"
    remedy = ""
