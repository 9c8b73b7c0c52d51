"""Service accounts: made, listed, deleted. Their keys come from `localcloud iam key`."""

from __future__ import annotations

import re

from localcloud.context import Context
from localcloud.errors import ApiError, invalid
from localcloud.policies import ACCOUNT, POLICY
from localcloud.services.compute.paths import new_id
from localcloud.store import AlreadyExists, Json
from localcloud.web import Call

_ID = re.compile(r"[a-z][-a-z0-9]{4,28}[a-z0-9]")


class Accounts:
    def __init__(self, context: Context) -> None:
        self._store = context.store

    def create(self, call: Call) -> Json:
        body, project = call.json(), call.params["project"]
        name = str(body.get("accountId", ""))
        if not _ID.fullmatch(name):
            raise invalid(f"Account ID {name!r} is not 6 to 30 lower-case letters, digits and hyphens.")
        email = f"{name}@{project}.iam.gserviceaccount.com"
        told = {key: text for key, text in body.get("serviceAccount", {}).items() if text}
        account = {
            "name": f"projects/{project}/serviceAccounts/{email}",
            "projectId": project,
            "uniqueId": new_id(),
            "email": email,
            "etag": "MDEwMjE5MjA=",
        } | {key: told[key] for key in ("displayName", "description") if key in told}
        try:
            self._store.insert(ACCOUNT, email, account)
        except AlreadyExists as error:
            message = f"Service account {name} already exists within project projects/{project}."
            raise ApiError(409, "alreadyExists", message) from error
        return account

    def list(self, call: Call) -> Json:
        project = call.params["project"]
        found = [body for _, body in self._store.list(ACCOUNT) if body["projectId"] == project]
        return {"accounts": found} if found else {}

    def require(self, call: Call) -> Json:
        """The account, or a 404; the project `-` stands for the one that it is in, or gives a 403."""
        found = self._store.get(ACCOUNT, call.params["account"])
        project = call.params["project"]
        if found is None and project == "-":
            raise ApiError(403, "forbidden", "Permission denied on the resource (or it may not exist).")
        if found is None or project not in ("-", found["projectId"]):
            raise ApiError(404, "notFound", "Unknown service account")
        return found

    def delete(self, call: Call) -> Json:
        """Policies keep it under another name: one that is made anew has nothing of what this one had."""
        with self._store.transaction():
            account = self.require(call)
            member = f"serviceAccount:{account['email']}"
            gone = f"deleted:{member}?uid={account['uniqueId']}"
            for resource, policy in self._store.list(POLICY):
                for binding in policy["bindings"]:
                    binding["members"] = [gone if each == member else each for each in binding["members"]]
                self._store.put(POLICY, resource, policy)
            self._store.delete(POLICY, account["name"])
            self._store.delete(ACCOUNT, account["email"])
        return {}
