"""Reads of Compute Engine as plain JSON: lists over all zones or regions in large pages, and single look-ups,
of the fields that are asked for and no others.

What the fields are and what they say is in `listed`.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any, TypeVar

from google.api_core.exceptions import from_http_response
from google.auth.transport.requests import AuthorizedSession

from budget_operator.cloud.calls import count_session
from budget_operator.cloud.connection import CONNECT_SECONDS, READ_SECONDS, Connection
from budget_operator.cloud.failures import translated
from budget_operator.core.errors import NotFound, Unavailable
from budget_operator.core.gateways import Scan

T = TypeVar("T")
Json = Mapping[str, Any]

_GOOGLE = "https://compute.googleapis.com"
_PAGE = 500  # the most that Compute Engine gives
_UNREACHABLE = frozenset({"UNREACHABLE", "PARTIAL_SUCCESS", "LIST_OVERHEAD_QUOTA_EXCEED"})


class Lists:
    """Of one project."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._root = f"{connection.endpoint.rstrip('/') or _GOOGLE}/compute/v1/projects/{connection.project}"

    @cached_property
    def _session(self) -> Any:
        credentials = self._connection.google_credentials()
        made = AuthorizedSession(credentials)  # type: ignore[no-untyped-call]
        count_session(made)
        return made

    def scan(
        self, doing: str, noun: str, filter_: str, fields: str, read: Callable[[Json, str], T | None]
    ) -> Scan[T]:
        """All of a kind, whatever the scope; `read` is given each and its scope, and may pass one over."""
        items: list[T] = []
        unknown: set[str] = set()
        for page in self._pages(doing, noun, filter_, fields):
            silent = {_scope(link) for link in page.get("unreachables", ())}
            for scope, scoped in page.get("items", {}).items():
                if scoped.get("warning", {}).get("code") in _UNREACHABLE:
                    silent.add(scope)
                found = (read(item, scope) for item in scoped.get(noun, ()))
                items.extend(item for item in found if item is not None)
            warning = page.get("warning", {})
            if warning.get("code") in _UNREACHABLE and not silent:
                message = warning.get("message", "")
                raise Unavailable(f"{doing}: the list is incomplete and does not say where: {message}")
            unknown |= silent
        return Scan(tuple(items), frozenset(unknown))

    def look(self, doing: str, path: str, fields: str) -> Json | None:
        """One resource, None if there is none; `path` as in `zones/z/instances/vm`."""
        try:
            return self._get(doing, path, {"fields": fields})
        except NotFound:
            return None

    def _pages(self, doing: str, noun: str, filter_: str, fields: str) -> Iterator[Json]:
        of_scopes = f"items/*({noun}({fields}),warning/code)"
        wanted = {
            "filter": filter_,
            "maxResults": str(_PAGE),
            # Older API versions have to be asked for partial answers; those since 2026 always give them.
            "returnPartialSuccess": "true",
            "fields": f"{of_scopes},unreachables,warning(code,message),nextPageToken",
        }
        while True:
            page = self._get(doing, f"aggregated/{noun}", wanted)
            yield page
            if not page.get("nextPageToken"):
                return
            wanted["pageToken"] = page["nextPageToken"]

    def _get(self, doing: str, path: str, query: Mapping[str, str]) -> Json:
        with translated(doing):
            timeout = (CONNECT_SECONDS, READ_SECONDS)
            response = self._session.get(f"{self._root}/{path}", params=query, timeout=timeout)
            if not response.ok:
                raise from_http_response(response)  # type: ignore[no-untyped-call]
            found: Json = response.json()
            return found


def _scope(link: str) -> str:
    """`https://…/projects/p/zones/z` -> `zones/z`."""
    return "/".join(link.rstrip("/").split("/")[-2:])
