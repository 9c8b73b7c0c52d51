"""IAM, as far as an installation is set up and checked with it: policies of projects (Resource Manager v1),
custom roles and service accounts (IAM v1).

Here are the routes. A bucket's policy is served by `services.storage`, which has `Policies` too. What follows
for calls is decided by `localcloud.iam`. Keys, tokens and audit settings are not offered.
"""

from __future__ import annotations

from collections.abc import Callable

from starlette.routing import BaseRoute

from localcloud.context import Context
from localcloud.services.iam.accounts import Accounts
from localcloud.services.iam.policies import Policies
from localcloud.services.iam.roles import Roles
from localcloud.store import Json
from localcloud.web import Call, route

_PROJECT = "/v1/projects/{project}"
_ACCOUNT = _PROJECT + "/serviceAccounts/{account}"
_ROLE = _PROJECT + "/roles/{role}"


def routes(context: Context) -> list[BaseRoute]:
    policies, accounts, roles = Policies(context), Accounts(context), Roles(context)
    return [
        *_policy_routes(_PROJECT, policies, lambda call: f"projects/{call.params['project']}"),
        *_policy_routes(_ACCOUNT, policies, lambda call: str(accounts.require(call)["name"])),
        route("GET", _PROJECT + "/serviceAccounts", accounts.list),
        route("POST", _PROJECT + "/serviceAccounts", accounts.create),
        route("GET", _ACCOUNT, accounts.require),
        route("DELETE", _ACCOUNT, accounts.delete),
        route("GET", "/v1/roles/{role}", roles.predefined),
        route("POST", "/v1/permissions:queryTestablePermissions", roles.testable),
        route("GET", _PROJECT + "/roles", roles.list),
        route("POST", _PROJECT + "/roles", roles.create),
        route("GET", _ROLE, roles.get),
        route("PATCH", _ROLE, roles.patch),
        route("DELETE", _ROLE, roles.delete),
        route("POST", _ROLE + ":undelete", roles.undelete),
    ]


def _policy_routes(path: str, policies: Policies, resource: Callable[[Call], str]) -> list[BaseRoute]:
    def get(call: Call) -> Json:
        return policies.get(resource(call))

    def change(call: Call) -> Json:
        return policies.set(resource(call), call.json().get("policy", {}))

    def test(call: Call) -> Json:
        return policies.test(resource(call), call.json().get("permissions", []), call)

    return [
        route("POST", path + ":getIamPolicy", get),
        route("POST", path + ":setIamPolicy", change),
        route("POST", path + ":testIamPermissions", test),
    ]
