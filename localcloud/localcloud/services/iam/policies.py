"""The policies of projects, accounts and buckets: read, replaced as a whole, and asked for permissions."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any, ClassVar

from pydantic import Field

from localcloud.accounts import account_of
from localcloud.context import Context
from localcloud.errors import conflict, invalid
from localcloud.faults import PermissionDenied
from localcloud.iam import Demand
from localcloud.policies import POLICY, PREDEFINED, ROLE, is_account, patterns
from localcloud.services.wire import Message, parse
from localcloud.store import Json
from localcloud.web import Call

_MEMBERS = ("user:", "group:", "domain:", "serviceAccount:", "deleted:", "principal:", "principalSet:")
_MADE_HERE = ".iam.gserviceaccount.com"
_STALE = (
    "There were concurrent policy changes. Please retry the whole read-modify-write with exponential backoff."
)


class _Condition(Message):
    title: str = Field(min_length=1)
    expression: str = Field(min_length=1)
    description: str | None = None


class _Binding(Message):
    role: str
    members: list[str]
    condition: _Condition | None = None


class _Policy(Message):
    output_only: ClassVar[frozenset[str]] = frozenset({"kind", "resourceId"})
    not_offered: ClassVar[frozenset[str]] = frozenset({"auditConfigs"})

    version: int | None = None
    etag: str | None = None
    bindings: list[_Binding] = Field(default=[])


class Policies:
    def __init__(self, context: Context) -> None:
        self._context = context
        self._store = context.store

    def get(self, resource: str) -> Json:
        """An empty one where nobody has set any."""
        return _shown(self._bindings(resource))

    def set(self, resource: str, body: Json) -> Json:
        policy = parse(_Policy, body, "policy")
        for binding in policy.bindings:
            self._check(binding)
        bindings = [binding.wire() for binding in policy.bindings if binding.members]
        with self._store.transaction():
            if policy.etag and policy.etag != _etag(self._bindings(resource)):
                raise conflict(_STALE)
            self._store.put(POLICY, resource, {"bindings": bindings})
        return _shown(bindings)

    def test(self, resource: str, permissions: Sequence[str], call: Call) -> Json:
        """Those that the caller has; no permission is needed to ask."""
        account = account_of(call.headers.get("authorization", ""))
        held = [each for each in permissions if self._has(account, Demand(each, resource))]
        return {"permissions": held} if held else {}

    def _has(self, account: str, demand: Demand) -> bool:
        denied = self._context.faults.of(
            PermissionDenied, lambda each: fnmatchcase(demand.permission, each.permission)
        )
        return next(denied, None) is None and self._context.iam.missing(account, (demand,)) is None

    def _bindings(self, resource: str) -> list[Any]:
        found = self._store.get(POLICY, resource)
        return [] if found is None else list(found["bindings"])

    def _check(self, binding: _Binding) -> None:
        if binding.role not in PREDEFINED and self._store.get(ROLE, binding.role) is None:
            raise invalid(f"Role ({binding.role}) does not exist in the resource's hierarchy.")
        for member in binding.members:
            if not member.startswith(_MEMBERS) and member not in ("allUsers", "allAuthenticatedUsers"):
                raise invalid(f"The member {member} is of an unknown type.")
            account = member.removeprefix("serviceAccount:")
            if account != member and account.endswith(_MADE_HERE) and not is_account(self._store, account):
                raise invalid(f"Service account {account} does not exist.")
        if binding.condition is not None:
            try:
                patterns(binding.condition.expression)
            except ValueError as error:
                raise invalid(f"Condition expression is not offered by the local cloud: {error}") from error


def _shown(bindings: list[Any]) -> Json:
    version = 3 if any("condition" in binding for binding in bindings) else 1
    return {"version": version, "etag": _etag(bindings)} | ({"bindings": bindings} if bindings else {})


def _etag(bindings: list[Any]) -> str:
    text = json.dumps(bindings, sort_keys=True)
    # Of a text: clients differ in which base64 they send back, where there is more than letters and digits.
    return base64.b64encode(hashlib.sha256(text.encode()).hexdigest()[:8].encode()).decode()
