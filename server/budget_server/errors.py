"""Typed errors of the web side.

`CallerError` and what derives from it becomes an HTTP answer (`routes` installs the one handler); the
others stop the process. Every message says what to do and may be shown to the caller: no secret, no
traceback.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import ClassVar


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


class CallerError(BudgetServerError):
    """An answer other than success, with its status and headers."""

    status: ClassVar[HTTPStatus] = HTTPStatus.BAD_REQUEST
    headers: ClassVar[Mapping[str, str]] = {}


class Unauthorized(CallerError):
    """No login, a wrong one, or a token that is not (or no longer) ours."""

    status = HTTPStatus.UNAUTHORIZED
    headers: ClassVar[Mapping[str, str]] = {"WWW-Authenticate": "Bearer"}


class TooLarge(CallerError):
    """The login form is larger than any real one."""

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE


class InvalidBody(CallerError):
    """The body is not what the route takes."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY


class NotReady(CallerError):
    """The model is still loading, or failed to."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    headers: ClassVar[Mapping[str, str]] = {"Retry-After": "5"}


class PredictFailed(CallerError):
    """The user's predict raised."""

    status = HTTPStatus.INTERNAL_SERVER_ERROR


class NotEncodable(CallerError):
    """predict returned something that JSON cannot hold; the message names where and which type."""

    status = HTTPStatus.INTERNAL_SERVER_ERROR
