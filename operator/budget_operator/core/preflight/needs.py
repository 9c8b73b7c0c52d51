"""Who takes part in an installation, and which role each needs where: what the guide to Google Cloud sets up.

The roles themselves are files, `operator/deploy/iam/*.yaml`; whoever reads them hands them in as `RoleFiles`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto

from budget_operator.core.settings import DEFAULT_ACCOUNT, Settings

APIS = tuple(
    f"{name}.googleapis.com"
    for name in (
        *("compute", "storage", "cloudscheduler", "pubsub", "cloudfunctions", "run", "eventarc"),
        *("cloudbuild", "artifactregistry", "logging", "iam", "cloudresourcemanager", "serviceusage"),
    )
)
"""The last two are asked by this check alone."""

OPERATOR = "operator"
#: The accounts that the operator gives away, by the setting that tells them to it.
GIVEN = {
    "vm": "BUDGET_VM_SERVICE_ACCOUNT",
    "function-run": "BUDGET_FUNCTION_SERVICE_ACCOUNT",
    "function-build": "BUDGET_BUILD_SERVICE_ACCOUNT",
    "trigger": "BUDGET_TRIGGER_SERVICE_ACCOUNT",
}


@dataclass(frozen=True)
class RoleFile:
    """A role as it should be."""

    title: str
    permissions: frozenset[str]


RoleFiles = Mapping[str, RoleFile]


class Place(Enum):
    """Where a role is to hold."""

    PROJECT = auto()
    BUCKET = auto()
    CODE = auto()
    STATE = auto()
    ACCOUNTS = auto()


@dataclass(frozen=True)
class Need:
    """`who` needs the role of this file."""

    who: str
    role: str
    place: Place


NEEDS = (
    Need(OPERATOR, "operator", Place.PROJECT),
    Need(OPERATOR, "operator-bucket", Place.BUCKET),
    Need(OPERATOR, "operator-accounts", Place.ACCOUNTS),
    Need("vm", "vm", Place.PROJECT),
    Need("vm", "vm-code", Place.CODE),
    Need("vm", "vm-state", Place.STATE),
    Need("function-run", "function-run", Place.PROJECT),
    Need("function-build", "function-build", Place.PROJECT),
    Need("trigger", "trigger", Place.PROJECT),
)


def role_id(file: str) -> str:
    """`vm-code` → `budgetml_vm_code`."""
    return f"budgetml_{file.replace('-', '_')}"


def role_name(project: str, file: str) -> str:
    return f"projects/{project}/roles/{role_id(file)}"


def default_email(project: str, who: str) -> str:
    """As the guide makes it."""
    return f"budgetml-{who}@{project}.iam.gserviceaccount.com"


def home(project: str, email: str) -> str:
    """The project that an account is in: for `-` Google does not tell missing from forbidden."""
    domain = email.partition("@")[2]
    found = domain.removesuffix(".iam.gserviceaccount.com")
    return project if found == domain else found


def given(settings: Settings) -> dict[str, str]:
    """The accounts that the settings name; empty where Google would choose one."""
    vm = settings.vm_service_account
    return {
        "vm": "" if vm == DEFAULT_ACCOUNT else vm,
        "function-run": settings.function_service_account,
        "function-build": settings.build_service_account,
        "trigger": settings.trigger_service_account,
    }


def bucket_name(bucket: str) -> str:
    """In the words of IAM."""
    return f"projects/_/buckets/{bucket}"


def condition(place: Place, bucket: str) -> str:
    """The condition under which a role holds there alone; empty: none is needed."""
    name = bucket_name(bucket)
    return {
        Place.BUCKET: f"resource.name == '{name}' || resource.name.startsWith('{name}/')",
        Place.CODE: f"resource.name.startsWith('{name}/objects/code/')",
        Place.STATE: f"resource.name == '{name}' || resource.name.startsWith('{name}/objects/state/')",
    }.get(place, "")


def inside(place: Place, bucket: str) -> tuple[str, ...]:
    """Names of resources on which the role has to hold; none: on any."""
    name = bucket_name(bucket)
    return {
        Place.BUCKET: (name, f"{name}/objects/owner", f"{name}/objects/code/a", f"{name}/objects/function/a"),
        Place.CODE: (f"{name}/objects/code/a",),
        Place.STATE: (name, f"{name}/objects/state/a"),
    }.get(place, ())


def outside(place: Place, bucket: str) -> tuple[str, ...]:
    """Names of resources on which it must not."""
    name, other = bucket_name(bucket), f"{bucket_name(bucket)}-other/objects/code/a"
    return {
        Place.BUCKET: (other,),
        Place.CODE: (other, f"{name}/objects/state/a", f"{name}/objects/owner"),
        Place.STATE: (other, f"{name}/objects/code/a", f"{name}/objects/owner"),
    }.get(place, ())
