"""Every answer of Google's has one meaning for the operator."""

import json
from typing import Any

import pytest
import requests
from google.api_core import exceptions as api
from google.auth import exceptions as auth
from google.protobuf.json_format import ParseError

from budget_operator.cloud.failures import translate, translated
from budget_operator.core import errors
from budget_operator.core.artifact import encoded_key


def answer(status: int, error: dict[str, Any]) -> api.GoogleAPICallError:
    response = requests.Response()
    response.status_code = status
    response._content = json.dumps({"error": {"code": status, **error}}).encode()
    response.request = requests.Request("POST", "https://compute.googleapis.com/x").prepare()
    made: api.GoogleAPICallError = api.from_http_response(response)  # type: ignore[no-untyped-call]
    return made


def legacy(reason: str, message: str = "said Google") -> dict[str, Any]:
    return {"message": message, "errors": [{"reason": reason, "message": message}]}


def modern(status: str, message: str = "said Google", **info: Any) -> dict[str, Any]:
    details = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", **info}] if info else []
    return {"message": message, "status": status, "details": details}


@pytest.mark.parametrize(
    ("status", "error", "expected"),
    [
        (404, legacy("notFound"), errors.NotFound),
        (409, legacy("alreadyExists"), errors.AlreadyExists),
        (409, modern("ALREADY_EXISTS"), errors.AlreadyExists),
        (409, modern("ABORTED", "unable to queue the operation"), errors.ResourceNotReady),
        (409, legacy("conflict", "The bucket you tried to delete is not empty."), errors.PreconditionFailed),
        (412, legacy("conditionNotMet"), errors.PreconditionFailed),
        (403, legacy("rateLimitExceeded"), errors.RateLimited),
        (403, modern("PERMISSION_DENIED", reason="RATE_LIMIT_EXCEEDED"), errors.RateLimited),
        (403, legacy("quotaExceeded"), errors.QuotaExceeded),
        (403, legacy("forbidden"), errors.PermissionDenied),
        (401, legacy("authError"), errors.PermissionDenied),
        (400, legacy("resourceNotReady"), errors.ResourceNotReady),
        (400, legacy("resourceInUseByAnotherResource"), errors.ResourceNotReady),
        (400, modern("FAILED_PRECONDITION"), errors.ResourceNotReady),
        (
            400,
            modern("INVALID_ARGUMENT", "If you recently started to use Eventarc, it may take a few minutes"),
            errors.ResourceNotReady,
        ),
        (400, legacy("invalid"), errors.InvalidSpec),
        (400, modern("INVALID_ARGUMENT"), errors.InvalidSpec),
        (400, legacy("somethingNew"), errors.OperationFailed),
        (429, modern("RESOURCE_EXHAUSTED"), errors.RateLimited),
        (500, legacy("internalError"), errors.Unavailable),
        (503, legacy("backendError"), errors.Unavailable),
        (503, legacy("resourcePoolExhausted"), errors.CapacityExhausted),
        (
            503,
            {"message": "x", "errors": [{"code": "ZONE_RESOURCE_POOL_EXHAUSTED"}]},
            errors.CapacityExhausted,
        ),
        (418, legacy("teapot"), errors.OperationFailed),
    ],
)
def test_answer(status: int, error: dict[str, Any], expected: type[errors.BudgetError]) -> None:
    found = translate(answer(status, error), "start instance a")
    assert type(found) is expected
    assert error["message"] in found.message
    assert found.message.startswith("start instance a: ")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (requests.exceptions.ConnectionError("refused"), errors.Unavailable),
        (requests.exceptions.ReadTimeout("read timed out"), errors.Unavailable),
        (api.RetryError("gave up", cause=None), errors.Unavailable),  # type: ignore[no-untyped-call]
        (auth.TransportError("no metadata server"), errors.Unavailable),  # type: ignore[no-untyped-call]
        (auth.RefreshError("503 from the token server", retryable=True), errors.Unavailable),  # type: ignore[no-untyped-call]
        (auth.RefreshError("invalid_grant"), errors.PermissionDenied),  # type: ignore[no-untyped-call]
        (auth.DefaultCredentialsError("none"), errors.PermissionDenied),  # type: ignore[no-untyped-call]
        (ParseError("not JSON"), errors.Unavailable),
    ],
)
def test_without_an_answer(error: Exception, expected: type[errors.BudgetError]) -> None:
    assert type(translate(error, "list instances")) is expected


def test_a_disabled_api_names_the_remedy() -> None:
    error = modern(
        "PERMISSION_DENIED",
        "Cloud Scheduler API has not been used in project 1 before or it is disabled.",
        reason="SERVICE_DISABLED",
        metadata={"service": "cloudscheduler.googleapis.com"},
    )
    found = translate(answer(403, error), "get job")
    assert isinstance(found, errors.PermissionDenied)
    assert "; gcloud services enable cloudscheduler.googleapis.com; tried again" in found.sentence


def test_a_missing_permission_is_named_once() -> None:
    info = {"reason": "IAM_PERMISSION_DENIED", "metadata": {"permission": "cloudfunctions.functions.get"}}
    silent = translate(answer(403, modern("PERMISSION_DENIED", "denied", **info)), "get function")
    assert silent.message.endswith("(missing permission: cloudfunctions.functions.get)")
    said = "Permission 'cloudfunctions.functions.get' denied"
    spoken = translate(answer(403, modern("PERMISSION_DENIED", said, **info)), "get function")
    assert spoken.message.count("cloudfunctions.functions.get") == 1


def test_whoever_may_not_act_as_an_account_lacks_a_permission() -> None:
    said = "The user does not have access to service account 'vm@p'."
    found = translate(answer(400, legacy("SERVICE_ACCOUNT_ACCESS_DENIED", said)), "set the metadata of a")
    assert isinstance(found, errors.PermissionDenied)


def test_the_name_of_an_operation_is_left_out() -> None:
    said = (
        "Required 'compute.zoneOperations.get' permission for 'projects/p/zones/z/operations/operation-1-a'"
    )
    found = translate(answer(403, legacy("forbidden", said)), "look how this ends")
    assert found.message.endswith("permission for 'projects/p/zones/z'")


def test_text_is_bounded() -> None:
    assert len(translate(answer(400, legacy("invalid", "x" * 5000)), "create").message) < 1100


def test_vendor_exceptions_are_chained_and_others_pass() -> None:
    vendor = answer(404, legacy("notFound"))
    with pytest.raises(errors.NotFound) as caught, translated("get it"):
        raise vendor
    assert caught.value.__cause__ is vendor
    with pytest.raises(ZeroDivisionError), translated("a bug of ours"):
        raise ZeroDivisionError


def test_the_call_is_left_out_and_an_upload_is_read_like_any_answer() -> None:
    assert translate(answer(403, legacy("forbidden", "no")), "start a").message == "start a: no"
    info = {"reason": "SERVICE_DISABLED", "metadata": {"service": "storage.googleapis.com"}}
    refused = answer(403, modern("PERMISSION_DENIED", "it is disabled", **info))
    upload = api.from_http_status(  # type: ignore[no-untyped-call]
        403, f"POST https://x/upload?uploadType=multipart: {refused.response.text}", response=refused.response
    )
    found = translate(upload, "upload b")
    assert found.message == "upload b: it is disabled"
    assert found.remedy == "gcloud services enable storage.googleapis.com"


def test_of_a_key_that_is_repeated_nothing_is_left_where_the_text_is_cut() -> None:
    key = encoded_key(bytes(range(32)))
    message = "x" * 970 + f" '{key}' is not valid"
    assert key[:8] not in translate(answer(400, legacy("invalid", message)), "create instance a").message
