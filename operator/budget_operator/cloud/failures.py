"""Where vendor exceptions end: every error of a Google client becomes one of `core.errors`, chained.

The class says what happens next; the message says what was being done and repeats Google's own text. What
the error of a finished Compute operation means is in `core.operations`.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from google.api_core import exceptions as api
from google.auth import exceptions as auth
from google.protobuf.json_format import ParseError
from requests.exceptions import RequestException

from budget_operator.core import errors
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
    401: errors.PermissionDenied,
    404: errors.NotFound,
    408: errors.Unavailable,
    412: errors.PreconditionFailed,
    429: errors.RateLimited,
}
_TEXT_LIMIT = 1000


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
        return errors.PermissionDenied(f"{text}. Google does not accept the operator's credentials.")
    return errors.Unavailable(text)


def _from_answer(error: api.GoogleAPICallError, status: int, doing: str) -> errors.BudgetError:
    reasons = _reasons(error)
    text = f"{doing}: {_clip(error.message or type(error).__name__)}"
    if reasons & _STOCK_OUT or any(error_class(word) is errors.CapacityExhausted for word in reasons):
        return errors.CapacityExhausted(text)
    if status == 403:
        return _forbidden(error, reasons, text)
    if status == 400:
        return _bad_request(reasons, text)
    if status == 409:
        return _conflict(reasons, text)
    if status == 401:
        text = f"{text}. Google does not accept the operator's credentials."
    return _BY_STATUS.get(status, errors.Unavailable if status >= 500 else errors.OperationFailed)(text)


def _forbidden(error: api.GoogleAPICallError, reasons: set[str], text: str) -> errors.BudgetError:
    if reasons & _RATE:
        return errors.RateLimited(text)
    if reasons & _QUOTA:
        return errors.QuotaExceeded(text)
    if reasons & {"SERVICE_DISABLED", "accessNotConfigured"}:
        service = (error.metadata or {}).get("service", "")
        remedy = f"gcloud services enable {service}" if service else "enable the API"
        return errors.PermissionDenied(f"{text} (SERVICE_DISABLED: {remedy})")
    permission = (error.metadata or {}).get("permission", "")
    if permission and permission not in text:
        return errors.PermissionDenied(f"{text} (missing permission: {permission})")
    return errors.PermissionDenied(text)


def _bad_request(reasons: set[str], text: str) -> errors.BudgetError:
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
    found = {item.get("reason", "") for item in error.errors if isinstance(item, dict)}
    found |= {item.get("code", "") for item in error.errors if isinstance(item, dict)}
    found.add(error.reason or "")
    found.add(_status_word(error))
    return {word for word in found if isinstance(word, str) and word}


def _status_word(error: api.GoogleAPICallError) -> str:
    """The canonical code ("FAILED_PRECONDITION") of a REST answer; the exception itself does not keep it."""
    answer = getattr(error, "response", None)
    try:
        body = answer.json() if answer is not None else {}
        return str(body["error"]["status"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return ""


def _clip(text: str) -> str:
    return text if len(text) <= _TEXT_LIMIT else text[: _TEXT_LIMIT - 1] + "…"
