"""Every call to Google is counted here, by the method's name in Google's references and the answer's code.

The clients hand out no place for that: it is where their HTTP sessions send.
"""

import re
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter

from budget_operator.metrics import CLOUD_CALLS

NO_ANSWER = "none"
_COMPUTE = re.compile(
    r"/compute/v1/projects/[^/]+/(?:(aggregated)/|global/|(?:zones|regions)/[^/]+/)?(\w+)(/[^/]+)?(?:/(\w+))?"
)
_BUCKETS = re.compile(r"(?:/upload|/download)?/storage/v1/b(?:(/[^/]+)(?:/(o)(/[^/]+)?(/rewriteTo/.+)?)?)?")
_OTHERS = re.compile(
    r"/v\d/projects/[^/]+/(?:locations/[^/]+/)?(topics|jobs|functions)(/[^/:]+)?(?::|/)?(\w+)?"
)
_SERVICES = {"topics": "pubsub", "jobs": "cloudscheduler", "functions": "cloudfunctions"}
_ON_ONE = {"GET": "get", "PATCH": "patch", "DELETE": "delete", "PUT": "create"}
_ON_ALL = {"GET": "list", "POST": "insert"}


def named(verb: str, url: str) -> tuple[str, str]:
    """Service and method of a request, as ("compute", "instances.start"); else ("other", "other")."""
    path = urlsplit(url).path
    if found := _COMPUTE.fullmatch(path):
        aggregated, kind, one, action = found.groups()
        return "compute", f"{kind}.{'aggregatedList' if aggregated else action or _plain(verb, one)}"
    if found := _BUCKETS.fullmatch(path):
        bucket, objects, one, copied = found.groups()
        if copied:
            return "storage", "objects.rewrite"
        return "storage", f"objects.{_plain(verb, one)}" if objects else f"buckets.{_plain(verb, bucket)}"
    if found := _OTHERS.fullmatch(path):
        kind, one, action = found.groups()
        return _SERVICES[kind], f"{kind}.{action or _plain(verb, one).replace('insert', 'create')}"
    return "other", "other"


def _plain(verb: str, one: str | None) -> str:
    return (_ON_ONE if one else _ON_ALL).get(verb, "other")


class Counting(HTTPAdapter):
    """Sends as always, and counts."""

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        code = NO_ANSWER
        try:
            response = super().send(request, *args, **kwargs)
            code = str(response.status_code)
        finally:
            CLOUD_CALLS.labels(*named(request.method or "", request.url or ""), code).inc()
        return response


def count(client: Any) -> None:
    """Count what this client of Google's calls from now on."""
    # The storage client has its session itself, the generated ones have it in their transport.
    count_session(client._http if hasattr(client, "_http") else client.transport._session)


def count_session(session: requests.Session) -> None:
    """Count what goes through this session from now on."""
    for scheme in ("https://", "http://"):
        session.mount(scheme, Counting())
