"""What the end of a Compute Engine operation means in the operator's own errors.

Polling is the compute gateway's; what follows an error is its class's `disposition`.
"""

from budget_operator.core import errors
from budget_operator.core.observed import OperationState

# What a boot ends with when the Spot VM is preempted meanwhile; else it is what it says.
_OVERTAKEN = "UNSUPPORTED_OPERATION"
_BY_CODE: dict[str, type[errors.BudgetError]] = {
    "RESOURCE_POOL_EXHAUSTED": errors.CapacityExhausted,
    "QUOTA_EXCEEDED": errors.QuotaExceeded,
    "RESOURCE_NOT_READY": errors.ResourceNotReady,
    "RESOURCE_IN_USE_BY_ANOTHER_RESOURCE": errors.ResourceNotReady,
    "RESOURCE_OPERATION_RATE_EXCEEDED": errors.RateLimited,
    "RATE_LIMIT_EXCEEDED": errors.RateLimited,
    "PERMISSIONS_ERROR": errors.PermissionDenied,
    "SERVICE_ACCOUNT_ACCESS_DENIED": errors.PermissionDenied,
    "RESOURCE_NOT_FOUND": errors.NotFound,
    "RESOURCE_ALREADY_EXISTS": errors.AlreadyExists,
    "CONDITION_NOT_MET": errors.PreconditionFailed,
    "INVALID_FIELD_VALUE": errors.InvalidSpec,
    "INTERNAL_ERROR": errors.Unavailable,
    "SERVICE_UNAVAILABLE": errors.Unavailable,
}


def error_class(code: str) -> type[errors.BudgetError] | None:
    """The class of one of Compute Engine's upper-case error codes, or None if it has none of its own."""
    if code.startswith("ZONE_RESOURCE_POOL_EXHAUSTED"):  # also …_WITH_DETAILS
        return errors.CapacityExhausted
    return _BY_CODE.get(code)


def operation_error(
    state: OperationState, overtaken: type[errors.BudgetError] = errors.OperationFailed
) -> errors.BudgetError | None:
    """The error an operation ended with, or None while it runs or if it succeeded.

    `overtaken` is what it means for the action that a preemption ended it (`Action.overtaken`).
    """
    if not state.done or state.error_code is None:
        return None
    kind = overtaken if state.error_code == _OVERTAKEN else error_class(state.error_code)
    kind = kind or errors.OperationFailed
    text = state.error_message or "Google gave no message"
    # Its name differs each time: what failed for the same cause should read the same.
    return kind(f"{state.ref.doing or f'operation {state.ref.name}'}: {state.error_code}: {text}")
