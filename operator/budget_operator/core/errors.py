"""The error tree of the operator: each class fixes its condition reason and what happens next.

Gateways turn vendor exceptions into these (the vendor's exception is chained); `reconcile` reads only
`reason` and `disposition`. Messages name the field or resource and the remedy, and never hold a secret.
"""

from enum import Enum


class Disposition(Enum):
    """What follows an error."""

    STALL = "stall"  # nothing helps but a new spec (or a changed Secret or ConfigMap)
    OBSERVE = "observe"  # the world is not as assumed: look again and plan anew
    WAIT = "wait"  # will clear by itself or by an administrator: retry at a known pace
    BACK_OFF = "back off"  # retry with growing, jittered pauses


class BudgetError(Exception):
    """Base of all errors the operator expects."""

    reason = "InternalError"
    disposition = Disposition.BACK_OFF

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class InvalidSpec(BudgetError):
    """The spec, or something it refers to, cannot work. The message names the field."""

    reason = "InvalidSpec"
    disposition = Disposition.STALL


class ReferenceMissing(InvalidSpec):
    """A ConfigMap, Secret or key that the spec refers to does not exist (yet)."""

    reason = "ReferenceMissing"


class NameConflict(BudgetError):
    """A cloud resource has the name we need but does not carry our mark; it is never touched."""

    reason = "NameConflict"
    disposition = Disposition.STALL


class OwnedElsewhere(BudgetError):
    """The installation belongs to another cluster: nothing may be changed from here."""

    reason = "OwnedElsewhere"
    disposition = Disposition.STALL


class NotFound(BudgetError):
    """The named cloud resource does not exist. Gateways return None from look-ups instead."""

    reason = "NotFound"
    disposition = Disposition.OBSERVE


class AlreadyExists(BudgetError):
    """A create found the name taken: look again, adopt only what carries our mark."""

    reason = "AlreadyExists"
    disposition = Disposition.OBSERVE


class PreconditionFailed(BudgetError):
    """A fingerprint, generation or resourceVersion was stale."""

    reason = "PreconditionFailed"
    disposition = Disposition.OBSERVE


class ResourceNotReady(BudgetError):
    """The resource is changing state (an instance that is STOPPING cannot start)."""

    reason = "ResourceNotReady"
    disposition = Disposition.WAIT


class CapacityExhausted(BudgetError):
    """The zone is sold out of this machine type (ZONE_RESOURCE_POOL_EXHAUSTED)."""

    reason = "CapacityExhausted"
    disposition = Disposition.WAIT


class QuotaExceeded(BudgetError):
    """A project quota is used up; the message repeats Google's text."""

    reason = "QuotaExceeded"
    disposition = Disposition.WAIT


class PermissionDenied(BudgetError):
    """The operator's credentials lack a permission, or an API is disabled."""

    reason = "PermissionDenied"
    disposition = Disposition.WAIT


class RateLimited(BudgetError):
    """Google refused a call because of its rate."""

    reason = "RateLimited"


class Unavailable(BudgetError):
    """Google did not answer, or answered 5xx."""

    reason = "CloudUnavailable"


class OperationFailed(BudgetError):
    """A long-running operation ended with an error that has no class of its own."""

    reason = "OperationFailed"
