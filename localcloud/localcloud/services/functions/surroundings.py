"""What `gcloud functions deploy` asks of other APIs before it deploys, beside policies and services, and
nothing more of them. A project always exists.
"""

from __future__ import annotations

from starlette.routing import BaseRoute

from localcloud.services.usage import NUMBER
from localcloud.store import Json
from localcloud.web import Call, route

_PROJECT = "/v1/projects/{project}"


def routes() -> list[BaseRoute]:
    return [
        route("GET", _PROJECT + "/locations/{location}/defaultServiceAccount", _default_account),
        route("GET", _PROJECT, _project),
    ]


def _project(call: Call) -> Json:
    name = call.params["project"]
    return {"projectId": name, "projectNumber": NUMBER, "name": name, "lifecycleState": "ACTIVE"}


def _default_account(call: Call) -> Json:
    name = f"projects/{call.params['project']}/locations/{call.params['location']}/defaultServiceAccount"
    return {
        "name": name,
        "serviceAccountEmail": f"projects/-/serviceAccounts/{NUMBER}-compute@developer.gserviceaccount.com",
    }
