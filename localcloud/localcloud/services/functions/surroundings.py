"""What `gcloud functions deploy` asks of other APIs before it deploys, and nothing more of them.

A project always exists, its services are enabled, its policy is empty.
"""

from __future__ import annotations

from starlette.routing import BaseRoute

from localcloud.store import Json
from localcloud.web import Call, route

_PROJECT = "/v1/projects/{project}"
_NUMBER = "1"
_POLICY = {"version": 1, "etag": "BwAAAAAAAAA=", "bindings": []}


def routes() -> list[BaseRoute]:
    return [
        route("POST", _PROJECT + ":getIamPolicy", lambda _: dict(_POLICY)),
        route("GET", _PROJECT + "/services/{service}", _service),
        route("GET", _PROJECT + "/locations/{location}/defaultServiceAccount", _default_account),
        route("GET", _PROJECT, _project),
    ]


def _project(call: Call) -> Json:
    name = call.params["project"]
    return {"projectId": name, "projectNumber": _NUMBER, "name": name, "lifecycleState": "ACTIVE"}


def _service(call: Call) -> Json:
    project, service = call.params["project"], call.params["service"]
    return {
        "name": f"projects/{project}/services/{service}",
        "parent": f"projects/{_NUMBER}",
        "state": "ENABLED",
    }


def _default_account(call: Call) -> Json:
    name = f"projects/{call.params['project']}/locations/{call.params['location']}/defaultServiceAccount"
    return {
        "name": name,
        "serviceAccountEmail": f"projects/-/serviceAccounts/{_NUMBER}-compute@developer.gserviceaccount.com",
    }
