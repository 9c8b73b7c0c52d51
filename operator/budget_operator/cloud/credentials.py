"""Whom Google takes the operator for: its default credentials, as they are now.

A key file is replaced while the process runs, and the old key revoked, or its account was the wrong one. What
was read when the process began would be refused for ever; so the next call reads a file that has changed.
"""

import os
from pathlib import Path
from typing import Any

import google.auth
from google.auth.credentials import Credentials
from google.auth.environment_vars import CREDENTIALS
from google.auth.exceptions import DefaultCredentialsError

from budget_operator.core.errors import PermissionDenied

_SCOPE = "https://www.googleapis.com/auth/cloud-platform"


def look_up() -> Credentials:
    """Google's default credentials: of the file that is named, or of where the process runs.

    Raises:
        PermissionDenied: there are none.
    """
    try:
        found, _ = google.auth.default(scopes=[_SCOPE])
    except DefaultCredentialsError as error:
        raise PermissionDenied(
            f"no Google credentials were found: {error}. Give the operator's Kubernetes service account "
            "a Google identity (Workload Identity), or set GOOGLE_APPLICATION_CREDENTIALS."
        ) from error
    return found


class Current(Credentials):
    """The default credentials, for clients that live as long as the process. `found`: as of the last look."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._file = _file()
        self.found = look_up()

    def before_request(self, request: Any, method: str, url: str, headers: Any) -> None:
        """Have a new token fetched if the last one is of another file."""
        if _file() != self._file:
            self.token = None
        super().before_request(request, method, url, headers)  # type: ignore[no-untyped-call]

    def refresh(self, request: Any) -> None:
        """Look the credentials up again, and fetch a token."""
        self._file = _file()
        self.found = look_up()
        self.found.refresh(request)  # type: ignore[no-untyped-call]
        self.token, self.expiry = self.found.token, self.found.expiry

    def apply(self, headers: Any, token: str | None = None) -> None:
        """Put the token, and whom the call is counted for, into the headers."""
        self.found.apply(headers, token)  # type: ignore[no-untyped-call]


def _file() -> tuple[int, int] | None:
    """Tells one file of credentials from the next; None if there is none."""
    name = os.environ.get(CREDENTIALS)
    try:
        found = Path(name).stat() if name else None
    except OSError:
        return None
    return None if found is None else (found.st_ino, found.st_mtime_ns)
