"""Errors as Google's APIs answer them.

One class carries both renderings: the legacy form (Compute, Storage) with `errors[]`, and the
`google.rpc.Status` form (Pub/Sub, Scheduler, Functions) with `status`. Which one is used depends on the path.
"""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse, Response

_LEGACY = ("/compute/", "/storage/", "/upload/", "/download/", "/computeMetadata/")
_ERROR_INFO = "type.googleapis.com/google.rpc.ErrorInfo"
_USAGE_LIMITS = ("accessNotConfigured", "quotaExceeded", "rateLimitExceeded")
_STATUS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ALREADY_EXISTS",
    412: "FAILED_PRECONDITION",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


class ApiError(Exception):
    """An answer other than success: HTTP `code`, legacy `reason`, `message`, and `google.rpc` status name."""

    def __init__(self, code: int, reason: str, message: str, status: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.status = status or _STATUS.get(code, "UNKNOWN")
        self._details: list[dict[str, Any]] = []

    def because(self, reason: str, **metadata: str) -> ApiError:
        """With a `google.rpc.ErrorInfo`, which both forms may carry."""
        self._details = [
            {"@type": _ERROR_INFO, "reason": reason, "domain": "googleapis.com", "metadata": metadata}
        ]
        return self

    def legacy(self) -> dict[str, Any]:
        """The form of Compute and Storage."""
        domain = "usageLimits" if self.reason in _USAGE_LIMITS else "global"
        entry = {"message": self.message, "domain": domain, "reason": self.reason}
        return {"error": {"code": self.code, "message": self.message, "errors": [entry], **self._more()}}

    def rpc(self) -> dict[str, Any]:
        """The form of Pub/Sub, Scheduler and Functions."""
        return {"error": {"code": self.code, "message": self.message, "status": self.status, **self._more()}}

    def _more(self) -> dict[str, Any]:
        return {"status": self.status, "details": self._details} if self._details else {}


def render(path: str, error: ApiError) -> Response:
    """An answer in the form of the API that the path belongs to."""
    body = error.legacy() if path.startswith(_LEGACY) else error.rpc()
    return JSONResponse(body, status_code=error.code)


def not_found(resource: str) -> ApiError:
    """`resource` is the path of the missing thing, e.g. `projects/p/zones/z/instances/n`."""
    return ApiError(404, "notFound", f"The resource '{resource}' was not found")


def already_exists(resource: str) -> ApiError:
    return ApiError(409, "alreadyExists", f"The resource '{resource}' already exists")


def invalid(message: str) -> ApiError:
    """The request is wrong in itself."""
    return ApiError(400, "invalid", message)


def invalid_field(field: str, value: object, why: str = "") -> ApiError:
    return invalid(f"Invalid value for field '{field}': '{value}'. {why}".rstrip())


def conflict(message: str, reason: str = "conflict") -> ApiError:
    return ApiError(409, reason, message, "ABORTED")


def failed_precondition(message: str) -> ApiError:
    """A v1/v2 API refuses because of the resource's state (HTTP 400, FAILED_PRECONDITION)."""
    return ApiError(400, "failedPrecondition", message, "FAILED_PRECONDITION")


def condition_not_met(message: str) -> ApiError:
    """A fingerprint, etag or generation did not match (HTTP 412)."""
    return ApiError(412, "conditionNotMet", message)


def in_use(resource: str, user: str) -> ApiError:
    plural = resource.split("/")[-2] if resource.count("/") > 1 else "things"
    kind = plural.removesuffix("es") if plural.endswith("sses") else plural.removesuffix("s")
    message = f"The {kind} resource '{resource}' is already being used by '{user}'"
    return ApiError(400, "resourceInUseByAnotherResource", message)
