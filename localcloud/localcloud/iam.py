"""What accounts may do: the roles that are bound to them, and refusals in each service's own words.

An account that nobody has made and that nothing is bound to may do everything, as may a caller without an
account: only the others are asked for permissions. Which permissions a call needs is in `demands`, whose call
it is in `accounts`, what stored policies give in `policies`.
"""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from fnmatch import fnmatchcase

from pydantic import BaseModel, ConfigDict, Field

from localcloud import policies
from localcloud.errors import ApiError
from localcloud.store import Json, Store

ACT_AS = "iam.serviceAccounts.actAs"

_KIND = "localcloud.binding"
SOURCES = (_KIND, policies.POLICY, policies.ROLE)
"""Kinds of documents that the bindings are read from."""
_LISTED = re.compile(r"^ *- *([a-z]+\.[A-Za-z]+\.[A-Za-z]+) *(?:#.*)?$", re.MULTILINE)


@dataclass(frozen=True)
class Demand:
    """A permission that a call needs, and the resource that it is needed on, in Google's form:
    `projects/p/zones/z/instances/v`, `projects/_/buckets/b/objects/o`."""

    permission: str
    resource: str


class Binding(BaseModel):
    """One role of one account. `on`: where it holds; `*` stands for anything, also for slashes.

    That is what a condition on `resource.name` says at Google.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    account: str = Field(min_length=1)
    permissions: frozenset[str]
    on: str = "*"

    def grants(self, demand: Demand) -> bool:
        return demand.permission in self.permissions and fnmatchcase(demand.resource, self.on)


def permissions_in(role: str) -> frozenset[str]:
    """What the text of a role file (YAML, as `gcloud iam roles create --file` takes it) lists.

    Raises:
        ValueError: it lists nothing.
    """
    found = frozenset(_LISTED.findall(role.partition("includedPermissions:")[2]))
    if not found:
        raise ValueError("it has no includedPermissions")
    return found


class Iam:
    """The bindings in force, those of stored policies among them; they outlive a restart."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._read: tuple[tuple[int, ...], list[Binding]] | None = None  # as of which revision

    def bind(self, binding: Binding) -> None:
        self._store.insert(_KIND, uuid.uuid4().hex, binding.model_dump(mode="json"))

    def bindings(self) -> list[Binding]:
        """Asked for twice in each call, so they are read again only after one was written."""
        revision, read = self._store.revisions(*SOURCES), self._read
        if read is None or read[0] != revision:
            read = self._read = (revision, self._bindings())
        return read[1]

    def _bindings(self) -> list[Binding]:
        bound = [Binding.model_validate(body) for _, body in self._store.list(_KIND)]
        return bound + [
            Binding(account=grant.account, permissions=grant.permissions, on=place)
            for grant in policies.grants(self._store)
            for place in grant.places
        ]

    def unbind(self, account: str) -> bool:
        """False if nothing was bound to it. What a policy gives it stays."""
        with self._store.transaction():
            mine = [key for key, body in self._store.list(_KIND) if body["account"] == account]
            for key in mine:
                self._store.delete(_KIND, key)
        return bool(mine)

    def asks(self, account: str) -> bool:
        """Whether this account has only the permissions that were bound to it."""
        return bool(account) and (
            policies.is_account(self._store, account)
            or any(binding.account == account for binding in self.bindings())
        )

    def missing(self, account: str, demands: tuple[Demand, ...]) -> Demand | None:
        """The first demand that no role of the account grants, if it is asked for any."""
        if not self.asks(account):
            return None
        mine = [binding for binding in self.bindings() if binding.account == account]
        lacking = (each for each in demands if not any(binding.grants(each) for binding in mine))
        return next(lacking, None)


def denied(service: str, demand: Demand, account: str) -> ApiError:
    """The 403 with which this service refuses a call for want of a permission."""
    permission, resource = demand.permission, demand.resource
    if service == "compute" and permission == ACT_AS:
        text = (
            f"The user does not have access to service account '{resource.rpartition('/')[2]}'.  "
            f"User: '{account or 'anonymous'}'.  Ask a project owner to grant you the iam.serviceAccountUser "
            f"role on the service account (permission {permission})"
        )
        return ApiError(403, "SERVICE_ACCOUNT_ACCESS_DENIED", text)
    if service == "compute":
        return ApiError(403, "forbidden", f"Required '{permission}' permission for '{resource}'")
    if service == "storage":
        kind = "Storage object" if "/objects/" in resource else "Storage bucket"
        text = (
            f"{account or 'Anonymous caller'} does not have {permission} access to the Google Cloud "
            f"{kind if '/buckets/' in resource else 'project'}. Permission '{permission}' denied on resource "
            "(or it may not exist)."
        )
        return ApiError(403, "forbidden", text)
    if service == "cloudscheduler":
        text = (
            f'The principal (user or service account) lacks IAM permission "{permission}" for the resource '
            f'"{resource}" (or the resource may not exist).'
        )
    else:
        text = f"Permission '{permission}' denied on resource '{resource}' (or it may not exist)."
    details: Json = {"permission": permission, "resource": resource}
    return ApiError(403, "forbidden", text).because("IAM_PERMISSION_DENIED", **details)
