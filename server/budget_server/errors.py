"""Typed errors of the web side.

`CallerError` and what derives from it becomes an HTTP answer (`routes` installs the one handler); the
others stop the process. Every message says what to do and may be shown to the caller: no secret, no
traceback.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, ClassVar

from starlette.exceptions import HTTPException


class BudgetServerError(Exception):
    """Everything this package raises on purpose."""


class SettingsError(BudgetServerError):
    """The environment does not describe a server; the message names the variable."""


class LoadFailed(BudgetServerError):
    """The user's code could not be imported, made or loaded."""

    reason: ClassVar[str] = "LoadFailed"

    def __init__(self, message: str, log: str) -> None:
        super().__init__(message)
        self.message = message
        self.log = log


class OutOfMemory(LoadFailed):
    """There was no memory left for loading."""

    reason = "OutOfMemory"


class DiskFull(LoadFailed):
    """There was no room left on the disk for what loading writes."""

    reason = "DiskFull"


class WorkerDied(LoadFailed):
    """A worker ended while it loaded, without a word; process 1 knows whether the kernel killed it."""

    reason = "WorkerDied"


class CallerError(BudgetServerError):
    """An answer other than success: its status, a stable code for programs, a text for people."""

    status: int = HTTPStatus.BAD_REQUEST
    code: ClassVar[str] = "BadRequest"
    default_headers: ClassVar[Mapping[str, str]] = {}

    def __init__(self, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.headers: Mapping[str, str] = {**self.default_headers, **(headers or {})}

    @property
    def content(self) -> dict[str, Any]:
        """The body of the answer."""
        return {"code": self.code, "detail": self.detail}


class Unauthorized(CallerError):
    """No login, a wrong one, or a token that is not (or no longer) ours."""

    status = HTTPStatus.UNAUTHORIZED
    code = "Unauthorized"
    default_headers: ClassVar[Mapping[str, str]] = {"WWW-Authenticate": "Bearer"}


class BodyTooLarge(CallerError):
    """The body is larger than this server takes."""

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    code = "BodyTooLarge"


class InvalidBody(CallerError):
    """The body is not what the route takes."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    code = "InvalidBody"


class NotReady(CallerError):
    """The model is still loading, or failed to."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    code = "NotReady"
    default_headers: ClassVar[Mapping[str, str]] = {"Retry-After": "5"}


class PredictFailed(CallerError):
    """The user's predict raised."""

    status = HTTPStatus.INTERNAL_SERVER_ERROR
    code = "PredictFailed"


class Refused(CallerError):
    """The user's predict raised an HTTPException: its status, headers and detail are passed on."""

    code = "Refused"

    def __init__(self, error: HTTPException) -> None:
        super().__init__(str(error.detail), error.headers)
        self.status = error.status_code
        self._detail = error.detail

    @property
    def content(self) -> dict[str, Any]:
        """The detail as it was raised, which FastAPI lets be any JSON value."""
        return {"code": self.code, "detail": self._detail}


class NotEncodable(CallerError):
    """predict returned something that JSON cannot hold; the message names where and which type."""

    status = HTTPStatus.INTERNAL_SERVER_ERROR
    code = "NotEncodable"


class TooManyRequests(CallerError):
    """More than this server does at a time, or more failed logins than one client may have."""

    status = HTTPStatus.TOO_MANY_REQUESTS
    code = "TooManyRequests"
    default_headers: ClassVar[Mapping[str, str]] = {"Retry-After": "1"}


class RequestTimeout(CallerError):
    """The body comes too slowly."""

    status = HTTPStatus.REQUEST_TIMEOUT
    code = "RequestTimeout"
    default_headers: ClassVar[Mapping[str, str]] = {"Connection": "close"}


class InvalidImage(CallerError):
    """The upload is no image, a broken one, or one that is too large to decode."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    code = "InvalidImage"


class NotFound(CallerError):
    """No such route, or no such model."""

    status = HTTPStatus.NOT_FOUND
    code = "NotFound"


class MethodNotAllowed(CallerError):
    """The route takes other methods."""

    status = HTTPStatus.METHOD_NOT_ALLOWED
    code = "MethodNotAllowed"


class Internal(CallerError):
    """A mistake of ours, or of a response object that the predictor made."""

    status = HTTPStatus.INTERNAL_SERVER_ERROR
    code = "Internal"


class ClientGone(CallerError):
    """The caller hung up before its turn came; nobody reads this answer."""

    status = HTTPStatus.BAD_REQUEST
    code = "ClientGone"
