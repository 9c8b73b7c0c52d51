"""What policies give to an account, and where, as far as it can be told from what is written there."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from budget_operator.core.preflight.facts import Condition, Grant, Role, Unread

BASIC = ("roles/owner", "roles/editor")
_CLAUSE = re.compile(r"resource\.name(?:\s*==\s*(['\"])(.+?)\1|\.startsWith\((['\"])(.+?)\3\))")


@dataclass(frozen=True)
class Held:
    """`undecided`: why there may be more than this."""

    permissions: frozenset[str]
    undecided: tuple[str, ...] = ()


def member(email: str) -> str:
    """A service account in the words of policies."""
    return f"serviceAccount:{email}"


def of(grants: Iterable[Grant], email: str) -> tuple[Grant, ...]:
    """Those to this account."""
    return tuple(grant for grant in grants if grant.member == member(email))


def applies(condition: Condition | None, resource: str) -> bool | None:
    """Whether a grant holds on the resource of this name; None: the condition is about something else.

    Understood are equality and startsWith of `resource.name`, joined by `||`.
    """
    if condition is None:
        return True
    clauses = [_CLAUSE.fullmatch(each.strip()) for each in condition.expression.split("||")]
    known = [clause for clause in clauses if clause is not None]
    if len(known) < len(clauses):
        return None
    return any(resource == clause[2] if clause[2] else resource.startswith(clause[4]) for clause in known)


def held(
    grants: Iterable[Grant], roles: Mapping[str, Role | Unread | None], resources: tuple[str, ...]
) -> Held:
    """What these grants allow on each of these resources; without any: on the whole project."""
    found = [_on(grants, roles, resource) for resource in resources or ("",)]
    permissions = frozenset.intersection(*(each.permissions for each in found))
    return Held(permissions, tuple(dict.fromkeys(why for each in found for why in each.undecided)))


def _on(grants: Iterable[Grant], roles: Mapping[str, Role | Unread | None], resource: str) -> Held:
    permissions: set[str] = set()
    undecided: list[str] = []
    for grant in grants:
        role, holds = roles.get(grant.role), applies(grant.condition, resource)
        if holds is None:
            undecided.append(f"{grant.role} has a condition that is not understood here")
        elif holds and isinstance(role, Unread):
            undecided.append(role.why)
        elif holds and isinstance(role, Role) and not role.deleted:
            permissions |= role.permissions
    return Held(frozenset(permissions), tuple(undecided))
