"""Every route of the local cloud has a permission, and every permission a route."""

import re

import pytest
from starlette.routing import Route

from localcloud.app import _routes
from localcloud.context import Context
from localcloud.permissions import asked

#: No calls of Google's five APIs: pages, tokens, what gcloud asks around them, functions' own addresses.
OTHERS = ("/_localcloud/", "/token", "/computeMetadata/", "/functions/", "/upload/functions/")
AROUND = re.compile(
    r"/v1/projects/\{project\}/locations/\{\w+\}/defaultServiceAccount"
    r"|.*[:/]test(Iam)?Permissions|.*:queryTestablePermissions"
)


@pytest.mark.parametrize(
    ("method", "path", "permission", "reads"),
    [
        ("POST", "/compute/v1/projects/p/zones/z/instances", "compute.instances.create", False),
        ("GET", "/compute/v1/projects/p/zones/z/instances/v", "compute.instances.get", True),
        ("HEAD", "/storage/v1/b/b1/o/a%2Fb", "storage.objects.get", True),
        ("POST", "/compute/v1/projects/p/zones/z/instances/v/start", "compute.instances.start", False),
        ("POST", "/compute/v1/projects/p/zones/z/operations/o/wait", "compute.zoneOperations.get", True),
        ("POST", "/v1/projects/p/topics/t:publish", "pubsub.topics.publish", False),
        ("POST", "/v1/projects/p/locations/l/jobs/j:run", "cloudscheduler.jobs.run", False),
        ("PATCH", "/v2/projects/p/locations/l/functions/f", "cloudfunctions.functions.update", False),
    ],
)
def test_a_call_has_the_permission_that_google_asks_for(
    method: str, path: str, permission: str, reads: bool
) -> None:
    found = asked(method, path)
    assert found is not None
    assert (found.permission, found.reads, found.service) == (
        permission,
        reads,
        permission.split(".", maxsplit=1)[0],
    )


def test_what_is_not_googles_has_none() -> None:
    assert asked("GET", "/_localcloud/v1/faults") is None
    assert asked("POST", "/compute/v1/projects/p/zones/z/instances/v/paint") is None


def test_every_route_of_an_api_has_a_permission(context: Context) -> None:
    without = []
    for each in _routes(context, None):
        assert isinstance(each, Route)
        if each.path == "/" or each.path.startswith(OTHERS) or AROUND.fullmatch(each.path):
            continue
        for method in each.methods or ():
            rest = "o/copyTo/b/b/o/c" if method == "POST" else "o"
            path = re.sub(r"\{\w+\}", "x", each.path.replace("{rest:path}", rest))
            without += [] if asked(method, path) else [f"{method} {path}"]
    assert without == []
