"""What was read of a project. A part that could not be read is `Unread`, never empty."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from budget_operator.core.observed import Stored


@dataclass(frozen=True)
class Unread:
    """`why` names the permission or the API; `mend` is the command that helps, where one is known."""

    why: str
    mend: str = ""


@dataclass(frozen=True)
class Caller:
    """Whose credentials these are. `email` is known of service accounts, and of some users."""

    kind: Literal["account", "user", "nobody"]
    email: str = ""


@dataclass(frozen=True)
class Condition:
    """As a policy has it."""

    title: str
    expression: str
    description: str = ""


@dataclass(frozen=True)
class Grant:
    """One role of one member."""

    member: str
    role: str
    condition: Condition | None = None


Policy = tuple[Grant, ...]


@dataclass(frozen=True)
class Role:
    """What a role lists. A deleted one is kept for a week: it gives nothing, and its name is taken."""

    permissions: frozenset[str]
    deleted: bool = False


@dataclass(frozen=True)
class Account:
    """A service account that is there, and who may do what with it."""

    enabled: bool
    policy: Policy | Unread


@dataclass(frozen=True)
class Quota:
    limit: float
    usage: float


@dataclass(frozen=True)
class Region:
    zones: tuple[str, ...]
    quotas: Mapping[str, Quota]


@dataclass(frozen=True)
class Zone:
    """`cpus`: of the default machine type; None: the zone has no such machines."""

    status: str
    cpus: int | Unread | None


@dataclass(frozen=True)
class Bucket:
    location: str
    labels: Mapping[str, str]
    uniform_access: bool
    public_access_prevented: bool
    policy: Policy | Unread


@dataclass(frozen=True)
class Own:
    """What the caller itself may do, as Google answers when it is asked for the operator's permissions."""

    project: frozenset[str] | Unread
    bucket: frozenset[str] | Unread
    accounts: Mapping[str, frozenset[str] | Unread]


@dataclass(frozen=True)
class Facts:
    """Absent: None. `accounts` by e-mail, `roles` by their full name.

    `operator` is its account; empty where the caller is nobody. `own` only if the caller is the operator.
    `cluster`: the uid of the one at hand; empty if there is none.
    """

    caller: Caller
    services: Mapping[str, bool] | Unread
    policy: Policy | Unread
    roles: Mapping[str, Role | Unread | None]
    accounts: Mapping[str, Account | Unread | None]
    region: Region | Unread | None
    zones: Mapping[str, Zone | Unread | None]
    bucket: Bucket | Unread | None
    owner: Stored | Unread | None
    operator: str = ""
    own: Own | None = None
    cluster: str = ""
