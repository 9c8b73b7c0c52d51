"""Roles: a project's own ones, and those of Google's that `policies` knows."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from typing import ClassVar

from localcloud.context import Context
from localcloud.errors import ApiError, conflict, failed_precondition, invalid
from localcloud.policies import PREDEFINED, ROLE
from localcloud.services.wire import Message, merge, parse
from localcloud.store import Json
from localcloud.web import Call

_ID = re.compile(r"[a-zA-Z0-9_.]{3,64}")
_PERMISSION = re.compile(r"[a-z]+\.[A-Za-z]+\.[A-Za-z]+")


class _Role(Message):
    output_only: ClassVar[frozenset[str]] = frozenset({"name", "etag", "deleted"})

    title: str | None = None
    description: str | None = None
    stage: str | None = None
    included_permissions: list[str] | None = None


class Roles:
    def __init__(self, context: Context) -> None:
        self._store = context.store

    def predefined(self, call: Call) -> Json:
        name = f"roles/{call.params['role']}"
        if name not in PREDEFINED:
            raise _missing(name)
        role = {"name": name, "title": name, "stage": "GA", "includedPermissions": sorted(PREDEFINED[name])}
        return role | {"etag": "AA=="}

    def testable(self, _: Call) -> Json:
        """Which permissions a role of one's own may list: the local cloud has no reservation about any."""
        return {}

    def create(self, call: Call) -> Json:
        body = call.json()
        name = f"projects/{call.params['project']}/roles/{body.get('roleId', '')}"
        if not _ID.fullmatch(str(body.get("roleId", ""))):
            raise invalid(f"The role_id {body.get('roleId')!r} must match {_ID.pattern}.")
        role = _checked(body.get("role", {}))
        with self._store.transaction():
            there = self._store.get(ROLE, name)
            if there is not None and there.get("deleted"):
                raise failed_precondition(
                    f"You can't create a role with role_id ({body['roleId']}) that is marked for deletion."
                )
            if there is not None:
                parent = f"projects/{call.params['project']}"
                raise ApiError(
                    409, "alreadyExists", f"A role named {body['roleId']} in {parent} already exists."
                )
            return self._kept({"name": name} | role)

    def list(self, call: Call) -> Json:
        found = [
            {key: value for key, value in role.items() if key != "includedPermissions"}
            for _, role in self._store.list(ROLE, f"projects/{call.params['project']}/roles/")
            if not role.get("deleted")
        ]
        return {"roles": found} if found else {}

    def get(self, call: Call) -> Json:
        name = f"projects/{call.params['project']}/roles/{call.params['role']}"
        found = self._store.get(ROLE, name)
        if found is None:
            raise _missing(name)
        return found

    def patch(self, call: Call) -> Json:
        body = call.json()
        with self._store.transaction():
            role = self.get(call)
            if body.get("etag") not in (None, role["etag"]):
                raise conflict("There were concurrent changes of the role.")
            changed = merge(_Role, role, _checked(body), call.query.get("updateMask", ""))
            return self._kept(changed)

    def delete(self, call: Call) -> Json:
        """It can be had back for a week, and nobody else gets its name."""
        with self._store.transaction():
            return self._kept(self.get(call) | {"deleted": True})

    def undelete(self, call: Call) -> Json:
        with self._store.transaction():
            return self._kept({key: value for key, value in self.get(call).items() if key != "deleted"})

    def _kept(self, role: Json) -> Json:
        bare = {key: value for key, value in role.items() if key != "etag"}
        digest = hashlib.sha256(json.dumps(bare, sort_keys=True).encode()).hexdigest()
        role = bare | {"etag": base64.b64encode(digest[:8].encode()).decode()}
        self._store.put(ROLE, role["name"], role)
        return role


def _checked(body: Json) -> Json:
    role = parse(_Role, body, "role").wire()
    for permission in role.get("includedPermissions", ()):
        if not _PERMISSION.fullmatch(permission):
            raise invalid(f"Permission {permission} is not valid.")
    return role


def _missing(name: str) -> ApiError:
    return ApiError(404, "notFound", f"The role named {name} was not found.")
