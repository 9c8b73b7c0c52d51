"""Where vendor exceptions end: every error of a Google client becomes one of `core.errors`, chained.

The class says what happens next; the message says what was being done and repeats Google's own text. What
the error of a finished Compute operation means is in `core.operations`.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from google.api_core import exceptions as api
from google.auth import exceptions as auth
from google.protobuf.json_format import ParseError
from requests.exceptions import RequestException

from budget_operator.core import errors
from budget_operator.core.masking import masked
from budget_operator.core.operations import error_class

_VENDOR = (api.GoogleAPIError, auth.GoogleAuthError, RequestException, ParseError)
_RATE = {"rateLimitExceeded", "userRateLimitExceeded", "RATE_LIMIT_EXCEEDED", "RESOURCE_EXHAUSTED"}
_QUOTA = {"quotaExceeded", "QUOTA_EXCEEDED", "limitExceeded"}
_NOT_READY = {"resourceNotReady", "resourceInUseByAnotherResource", "RESOURCE_NOT_READY"}
_INVALID = {"invalid", "invalidParameter", "badRequest", "required", "parseError", "INVALID_ARGUMENT"}
_STOCK_OUT = {"resourcePoolExhausted", "zoneResourcePoolExhausted"}
# Cloud Functions and Eventarc say this for some minutes after their APIs have been enabled.
_SETTLING = ("few minutes", "recently", "propagat")
_BY_STATUS: dict[int, type[errors.BudgetError]] = {
    404: errors.NotFound,
    408: errors.Unavailable,
    412: errors.PreconditionFailed,
    429: errors.RateLimited,
}
_TEXT_LIMIT = 1000
_CREDENTIALS = (
    "Google does not accept the operator's credentials: mend BUDGET_CREDENTIALS or the pod's identity"
)
# Clients put the call before Google's words. It says nothing to people, and differs with each request id.
_CALL = re.compile(r"^[A-Z]+ https?://\S+: ", re.ASCII)
_OPERATION = re.compile(
    r"/operations/[-\w]+", re.ASCII
)  # no more than its place: its name is another each time


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Turn what a Google client raises into one of ours; `doing` names the call and the resource."""
    try:
        yield
    except _VENDOR as error:
        raise translate(error, doing) from error


def translate(error: Exception, doing: str) -> errors.BudgetError:
    """The operator's own error for a vendor exception."""
    if isinstance(error, api.GoogleAPICallError) and error.code is not None:
        return _from_answer(error, error.code, doing)
    text = f"{doing}: {_clip(str(error) or type(error).__name__)}"
    refused = isinstance(error, auth.GoogleAuthError) and not isinstance(error, auth.TransportError)
    if refused and not getattr(error, "retryable", False):
        return errors.PermissionDenied(text, remedy=_CREDENTIALS)
    return errors.Unavailable(text)


def _from_answer(error: api.GoogleAPICallError, status: int, doing: str) -> errors.BudgetError:
    reasons = _reasons(error)
    text = f"{doing}: {_clip(_words(error))}"
    if reasons & _STOCK_OUT or any(error_class(word) is errors.CapacityExhausted for word in reasons):
        return errors.CapacityExhausted(text)
    if status == 403:
        return _forbidden(error, reasons, text)
    if status == 400:
        return _bad_request(reasons, text)
    if status == 409:
        return _conflict(reasons, text)
    if status == 401:
        return errors.PermissionDenied(text, remedy=_CREDENTIALS)
    return _BY_STATUS.get(status, errors.Unavailable if status >= 500 else errors.OperationFailed)(text)


def _forbidden(error: api.GoogleAPICallError, reasons: set[str], text: str) -> errors.BudgetError:
    if reasons & _RATE:
        return errors.RateLimited(text)
    if reasons & _QUOTA:
        return errors.QuotaExceeded(text)
    if reasons & {"SERVICE_DISABLED", "accessNotConfigured"}:
        service = _about(error, "service")
        remedy = f"gcloud services enable {service}" if service else "enable the API"
        return errors.PermissionDenied(text, remedy=remedy)
    permission = _about(error, "permission")
    if permission and permission not in text:
        return errors.PermissionDenied(f"{text} (missing permission: {permission})")
    return errors.PermissionDenied(text)


def _bad_request(reasons: set[str], text: str) -> errors.BudgetError:
    if any(error_class(word) is errors.PermissionDenied for word in reasons):
        return errors.PermissionDenied(text)
    settling = any(word in text for word in _SETTLING)
    if reasons & _NOT_READY or "FAILED_PRECONDITION" in reasons or settling:
        return errors.ResourceNotReady(text)
    if reasons & _RATE:
        return errors.RateLimited(text)
    if reasons & _INVALID:
        return errors.InvalidSpec(text)
    return errors.OperationFailed(text)


def _conflict(reasons: set[str], text: str) -> errors.BudgetError:
    if "ABORTED" in reasons:  # another operation on the same function is still running
        return errors.ResourceNotReady(text)
    if "not empty" in text:  # an object was written into a bucket that is being deleted
        return errors.PreconditionFailed(text)
    return errors.AlreadyExists(text)


def _reasons(error: api.GoogleAPICallError) -> set[str]:
    """Every machine-readable word of the answer: legacy `reason`s, ErrorInfo's reason, `error.status`."""
    body = _body(error)
    items = [item for item in (*error.errors, *body.get("errors", ())) if isinstance(item, dict)]
    found = {item.get(key, "") for item in items for key in ("reason", "code")}
    found |= {detail.get("reason", "") for detail in _details(body)}
    found.add(body.get("status", ""))
    return {word for word in found if isinstance(word, str) and word}


def _about(error: api.GoogleAPICallError, key: str) -> str:
    """What ErrorInfo names: the service that is disabled, the permission that is missing."""
    named = [str(detail.get("metadata", {}).get(key, "")) for detail in _details(_body(error))]
    return next((name for name in named if name), "")


def _words(error: api.GoogleAPICallError) -> str:
    """Google's own text."""
    told = str(_body(error).get("message") or error.message or type(error).__name__)
    return _OPERATION.sub("", _CALL.sub("", told))


def _details(body: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [detail for detail in body.get("details", ()) if isinstance(detail, dict)]


def _body(error: api.GoogleAPICallError) -> Mapping[str, Any]:
    """The answer itself: exceptions do not keep its status, and those of uploads keep nothing of it apart."""
    answer = getattr(error, "response", None)
    try:
        body = answer.json()["error"] if answer is not None else {}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}
    return body if isinstance(body, dict) else {}


def _clip(text: str) -> str:
    text = masked(text)  # what is cut in two would not be known any more
    return text if len(text) <= _TEXT_LIMIT else text[: _TEXT_LIMIT - 1] + "…"
