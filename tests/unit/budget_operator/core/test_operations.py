"""What the end of an operation means."""

import pytest

from budget_operator.core import actions, errors
from budget_operator.core.observed import OperationRef, OperationState
from budget_operator.core.operations import operation_error

REF = OperationRef("operation-1", "zones/us-central1-a")


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("ZONE_RESOURCE_POOL_EXHAUSTED", errors.CapacityExhausted),
        ("ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS", errors.CapacityExhausted),
        ("UNSUPPORTED_OPERATION", errors.OperationFailed),
        ("QUOTA_EXCEEDED", errors.QuotaExceeded),
        ("RESOURCE_NOT_READY", errors.ResourceNotReady),
        ("RESOURCE_OPERATION_RATE_EXCEEDED", errors.RateLimited),
        ("RESOURCE_NOT_FOUND", errors.NotFound),
        ("SOMETHING_NEW", errors.OperationFailed),
    ],
)
def test_codes(code: str, expected: type[errors.BudgetError]) -> None:
    found = operation_error(OperationState(REF, True, code, "Quota 'CPUS' exceeded."))
    assert type(found) is expected
    assert found is not None
    assert found.message == f"operation operation-1: {code}: Quota 'CPUS' exceeded."


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (actions.InsertInstance, errors.CapacityExhausted),
        (actions.StartInstance, errors.ResourceNotReady),
        (actions.SetMachineType, errors.OperationFailed),
    ],
)
def test_what_a_preemption_meanwhile_means(
    kind: type[actions.Action], expected: type[errors.BudgetError]
) -> None:
    cut = OperationState(REF, True, "UNSUPPORTED_OPERATION", "was preempted")
    assert type(operation_error(cut, kind.overtaken)) is expected
    full = OperationState(REF, True, "ZONE_RESOURCE_POOL_EXHAUSTED", "sold out")
    assert type(operation_error(full, kind.overtaken)) is errors.CapacityExhausted


def test_no_error_while_it_runs_or_when_it_succeeded() -> None:
    assert operation_error(OperationState(REF, False, "QUOTA_EXCEEDED")) is None
    assert operation_error(OperationState(REF, True)) is None
