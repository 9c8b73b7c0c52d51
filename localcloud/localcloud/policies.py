"""IAM policies as Google keeps them: who has which role on what, also under a condition.

What is stored are Google's own documents, by the name of the resource: `projects/p`,
`projects/p/serviceAccounts/a`, `projects/_/buckets/b`. `services.iam` serves them; what follows from them for
a call stands here, for `iam`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from localcloud.permissions import KNOWN
from localcloud.store import Json, Store

POLICY = "iam.policy"
ROLE = "iam.role"
ACCOUNT = "iam.account"

_MEMBER = "serviceAccount:"
_CLAUSE = re.compile(r"resource\.name(?: == '([^']+)'|\.startsWith\('([^']+)'\))")
_OWNERS_OWN = frozenset(
    {
        "resourcemanager.projects.setIamPolicy", "iam.serviceAccounts.setIamPolicy",
        "iam.roles.create", "iam.roles.update", "iam.roles.delete", "storage.buckets.setIamPolicy",
    }
)  # fmt: skip
PREDEFINED = {
    "roles/owner": KNOWN,
    "roles/editor": KNOWN - _OWNERS_OWN,
    "roles/viewer": frozenset(each for each in KNOWN if each.endswith((".get", ".list"))),
    "roles/iam.workloadIdentityUser": frozenset({"iam.serviceAccounts.getAccessToken"}),
}
"""Of Google's own roles those that are offered, as far as the local cloud knows what they list."""


@dataclass(frozen=True)
class Grant:
    """What an account may do, and where: `places` are patterns of resources' names."""

    account: str
    permissions: frozenset[str]
    places: tuple[str, ...]


def grants(store: Store) -> Iterator[Grant]:
    """All that stored policies give to service accounts."""
    for resource, policy in store.list(POLICY):
        for binding in policy["bindings"]:
            permissions = permissions_of(store, binding["role"])
            places = _places(resource, binding)
            for member in binding["members"]:
                if member.startswith(_MEMBER):
                    yield Grant(member.removeprefix(_MEMBER), permissions, places)


def permissions_of(store: Store, role: str) -> frozenset[str]:
    """Nothing for a role that is not there, or no longer."""
    if role in PREDEFINED:
        return PREDEFINED[role]
    found = store.get(ROLE, role) or {}
    return frozenset() if found.get("deleted") else frozenset(found.get("includedPermissions", ()))


def is_account(store: Store, account: str) -> bool:
    """Whether somebody has made this service account."""
    return store.get(ACCOUNT, account) is not None


def patterns(expression: str) -> tuple[str, ...]:
    """The resources that a condition on `resource.name` leaves.

    Raises:
        ValueError: it is another condition than those that are offered.
    """
    clauses = [_CLAUSE.fullmatch(each.strip()) for each in expression.split("||")]
    if None in clauses:
        raise ValueError("only resource.name == '…' and resource.name.startsWith('…') are offered, with ||")
    return tuple(clause[1] or f"{clause[2]}*" for clause in clauses if clause is not None)


def _places(resource: str, binding: Json) -> tuple[str, ...]:
    if "condition" in binding:
        return patterns(binding["condition"]["expression"])
    if "/" in resource.removeprefix("projects/"):
        return resource, f"{resource}/*"
    return resource, f"{resource}/*", "projects/_/buckets/*"
