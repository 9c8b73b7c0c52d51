"""Reads what `core.preflight` judges: IAM, Resource Manager, Service Usage, Compute Engine and Cloud Storage.

Each call is one that only looks. What the caller may not see comes back as `Unread` with the permission; only
an answer that does not come at all ends the look. Imported for this command alone.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import quote

from google.api_core.exceptions import from_http_response
from google.auth.credentials import AnonymousCredentials, Credentials
from google.auth.transport.requests import AuthorizedSession, Request
from google.oauth2.credentials import Credentials as UserCredentials

from budget_operator.cloud.connection import CONNECT_SECONDS, READ_SECONDS, Connection
from budget_operator.cloud.credentials import Current
from budget_operator.cloud.failures import translated
from budget_operator.cloud.storage import StorageGateway
from budget_operator.core.errors import BudgetError, NotFound, PermissionDenied, Unavailable
from budget_operator.core.observed import Stored
from budget_operator.core.ownership import OWNER_OBJECT
from budget_operator.core.preflight.facts import (
    Account,
    Bucket,
    Caller,
    Condition,
    Facts,
    Grant,
    Own,
    Policy,
    Quota,
    Region,
    Role,
    Unread,
    Zone,
)
from budget_operator.core.preflight.grants import of
from budget_operator.core.preflight.needs import (
    APIS,
    NEEDS,
    OPERATOR,
    Place,
    RoleFiles,
    default_email,
    given,
    home,
    role_name,
)
from budget_operator.core.preflight.region import DEFAULT
from budget_operator.core.settings import Settings

T = TypeVar("T")
Json = Mapping[str, Any]

_ENABLE = "gcloud services enable"
_VERSION = 3  # of policies: the one with conditions


class Google:
    """Google's REST APIs, or another server that answers them all."""

    def __init__(self, connection: Connection) -> None:
        self._endpoint = connection.endpoint.rstrip("/")
        given = connection.google_credentials()
        found = given.found if isinstance(given, Current) else given
        self.credentials = _billed(found, connection.project)
        self._session = AuthorizedSession(self.credentials)  # type: ignore[no-untyped-call]

    def caller(self) -> Caller:
        """Whose the credentials are.

        Raises:
            BudgetError: Google does not accept them.
        """
        if isinstance(self.credentials, AnonymousCredentials):
            return Caller("nobody")
        with translated("get an access token"):
            self.credentials.refresh(Request())  # type: ignore[no-untyped-call]
        email = getattr(self.credentials, "service_account_email", "")
        if email:
            return Caller("account", str(email))
        return Caller("user", str(getattr(self.credentials, "account", "") or ""))

    def ask(self, service: str, path: str, body: Json | None = None, **query: Any) -> Json:
        """GET, or POST where there is a body. Raises BudgetError."""
        root = self._endpoint or f"https://{service}.googleapis.com"
        with translated(f"ask {service}.googleapis.com for {path.partition('?')[0]}"):
            answer = self._session.request(  # type: ignore[no-untyped-call]
                "GET" if body is None else "POST",
                f"{root}/{path}",
                params=query,
                json=body,
                timeout=(CONNECT_SECONDS, READ_SECONDS),
            )
            if not answer.ok:
                raise from_http_response(answer)  # type: ignore[no-untyped-call]
            found: Json = answer.json()
            return found


def _billed(credentials: Credentials, project: str) -> Credentials:
    """People's own credentials belong to no project that the APIs could count their calls for."""
    if isinstance(credentials, UserCredentials) and not credentials.quota_project_id:
        with_project: Credentials = credentials.with_quota_project(project)
        return with_project
    return credentials


@dataclass(frozen=True)
class Reader:
    """Everything that is looked at, for one installation."""

    google: Google
    settings: Settings
    storage: StorageGateway

    def facts(self, files: RoleFiles, caller: Caller, operator: str, cluster: str) -> Facts:
        """`operator`: its account, where that is not the caller's.

        Raises:
            Unavailable: nobody answers.
        """
        operator = _operator(caller, operator, self.settings.project)
        services = self._services()
        emails = {OPERATOR: operator} | given(self.settings)
        is_operator = caller.kind != "user" and caller.email == operator
        accounts = {email: self._account(email) for email in emails.values() if email}
        if is_operator and operator:  # it is there, and enabled: it has a token
            accounts[operator] = Account(enabled=True, policy=Unread("not asked for"))
        policy, bucket = self._policy(), self._bucket()
        return Facts(
            caller=caller,
            services=services,
            policy=policy,
            roles=self._roles(files, _mentioned(emails.values(), policy, bucket, accounts.values())),
            accounts=accounts,
            region=self._region(),
            zones={name: self._zone(name) for name in self.settings.zones},
            bucket=bucket,
            owner=self._owner(),
            operator=operator,
            own=self._own(files) if is_operator else None,
            cluster=cluster,
        )

    # --- the project ---

    def _services(self) -> Mapping[str, bool] | Unread:
        """The first call: whoever cannot be reached for it is not asked for more."""
        names = [f"projects/{self.settings.project}/services/{name}" for name in APIS]
        path = f"v1/projects/{self.settings.project}/services:batchGet"
        try:
            answer = self.google.ask("serviceusage", path, names=names)
        except Unavailable:
            raise
        except BudgetError as error:
            return _unread("the enabled APIs", "serviceusage.services.get", error)
        return {each["name"].rpartition("/")[2]: each["state"] == "ENABLED" for each in answer["services"]}

    def _policy(self) -> Policy | Unread:
        path = f"v1/projects/{self.settings.project}:getIamPolicy"
        options = {"options": {"requestedPolicyVersion": _VERSION}}
        found = _look(
            ("the project's policy", "resourcemanager.projects.getIamPolicy"),
            lambda: _grants(self.google.ask("cloudresourcemanager", path, options)),
        )
        return found or ()

    def _roles(self, files: RoleFiles, mentioned: Iterable[str]) -> Mapping[str, Role | Unread | None]:
        names = dict.fromkeys([*(role_name(self.settings.project, file) for file in files), *mentioned])
        return {name: self._role(name) for name in names}

    def _role(self, name: str) -> Role | Unread | None:
        return _look(("roles", "iam.roles.get"), lambda: _role(self.google.ask("iam", f"v1/{name}")))

    def _path(self, email: str) -> str:
        return f"v1/projects/{home(self.settings.project, email)}/serviceAccounts/{quote(email)}"

    def _account(self, email: str) -> Account | Unread | None:
        path = self._path(email)
        found = _look(("accounts", "iam.serviceAccounts.get"), lambda: self.google.ask("iam", path))
        if found is None or isinstance(found, Unread):
            return found
        policy = _look(
            (f"the policy of {email}", "iam.serviceAccounts.getIamPolicy"),
            lambda: _grants(
                self.google.ask(
                    "iam", f"{path}:getIamPolicy", {}, **{"options.requestedPolicyVersion": _VERSION}
                )
            ),
        )
        return Account(enabled=not found.get("disabled", False), policy=policy or ())

    # --- the region ---

    def _compute(self, path: str) -> Json:
        return self.google.ask("compute", f"compute/v1/projects/{self.settings.project}/{path}")

    def _region(self) -> Region | Unread | None:
        path = f"regions/{self.settings.region}"
        return _look(("quotas", "compute.regions.get"), lambda: _region(self._compute(path)))

    def _zone(self, name: str) -> Zone | Unread | None:
        found = _look((f"zone {name}", "compute.zones.get"), lambda: self._compute(f"zones/{name}"))
        if found is None or isinstance(found, Unread):
            return found
        path = f"zones/{name}/machineTypes/{DEFAULT.type}"
        cpus = _look(
            (f"machine types in {name}", "compute.machineTypes.get"),
            lambda: int(self._compute(path)["guestCpus"]),
        )
        return Zone(status=str(found["status"]), cpus=cpus)

    # --- the bucket ---

    def _bucket(self) -> Bucket | Unread | None:
        path = f"storage/v1/b/{self.settings.bucket}"
        found = _look(
            (f"the bucket {self.settings.bucket}", "storage.buckets.get"),
            lambda: self.google.ask("storage", path),
        )
        if found is None or isinstance(found, Unread):
            return found
        policy = _look(
            ("the bucket's policy", "storage.buckets.getIamPolicy"),
            lambda: _grants(
                self.google.ask("storage", f"{path}/iam", optionsRequestedPolicyVersion=_VERSION)
            ),
        )
        return _bucket(found, policy or ())

    def _owner(self) -> Stored | Unread | None:
        return _look(
            (f"the object {OWNER_OBJECT}", "storage.objects.get"), lambda: self.storage.read(OWNER_OBJECT)
        )

    # --- the caller ---

    def _own(self, files: RoleFiles) -> Own:
        """What the caller may do of what the operator must."""
        project = f"v1/projects/{self.settings.project}:testIamPermissions"
        of_project = frozenset[str]().union(
            *(files[need.role].permissions for need in NEEDS if need.who == OPERATOR)
        )
        return Own(
            project=self._held("cloudresourcemanager", project, sorted(of_project)),
            bucket=self._held_in_bucket(_permissions(files, Place.BUCKET)),
            accounts={
                email: self._held(
                    "iam",
                    f"{self._path(email)}:testIamPermissions",
                    _permissions(files, Place.ACCOUNTS),
                )
                for email in given(self.settings).values()
                if email
            },
        )

    def _held(self, service: str, path: str, permissions: list[str]) -> frozenset[str] | Unread:
        found = _look(
            ("the caller's permissions", ""),
            lambda: frozenset(
                self.google.ask(service, path, {"permissions": permissions}).get("permissions", ())
            ),
        )
        return Unread("there is no such account") if found is None else found

    def _held_in_bucket(self, permissions: list[str]) -> frozenset[str] | Unread:
        path = f"storage/v1/b/{self.settings.bucket}/iam/testPermissions"
        found = _look(
            ("the caller's permissions", ""),
            lambda: frozenset(
                self.google.ask("storage", path, permissions=permissions).get("permissions", ())
            ),
        )
        return Unread("Google can be asked once the bucket is there") if found is None else found


def _permissions(files: RoleFiles, place: Place) -> list[str]:
    """Of the operator, there."""
    return sorted(
        each
        for need in NEEDS
        if (need.who, need.place) == (OPERATOR, place)
        for each in files[need.role].permissions
    )


def _operator(caller: Caller, told: str, project: str) -> str:
    if told or caller.kind == "nobody":
        return told
    return caller.email if caller.kind == "account" else default_email(project, OPERATOR)


def _mentioned(
    emails: Iterable[str],
    policy: Policy | Unread,
    bucket: Bucket | Unread | None,
    accounts: Iterable[Account | Unread | None],
) -> list[str]:
    """Roles that anybody of ours has anywhere."""
    policies = [policy, *(each.policy for each in (bucket, *accounts) if isinstance(each, Account | Bucket))]
    return [
        grant.role
        for found in policies
        if not isinstance(found, Unread)
        for email in emails
        for grant in of(found, email)
    ]


def _look(what: tuple[str, str], read: Callable[[], T]) -> T | Unread | None:
    """None where there is nothing; `what`: in words, and the permission to see it."""
    try:
        return read()
    except NotFound:
        return None
    except BudgetError as error:
        return _unread(*what, error)


def _unread(what: str, permission: str, error: BudgetError) -> Unread:
    if not isinstance(error, PermissionDenied):
        return Unread(f"{what}: {error.message}")
    if error.remedy.startswith(_ENABLE):
        api = error.remedy.removeprefix(_ENABLE).strip()
        return Unread(f"{what}: the API {api} is not enabled", error.remedy)
    return Unread(f"{what}: the caller lacks {permission}" if permission else f"{what}: {error.message}")


# --- Google's documents in our words ---


def _grants(policy: Json) -> Policy:
    return tuple(
        Grant(member, binding["role"], _condition(binding.get("condition")))
        for binding in policy.get("bindings", ())
        for member in binding.get("members", ())
    )


def _condition(found: Json | None) -> Condition | None:
    if not found:
        return None
    return Condition(found.get("title", ""), found["expression"], found.get("description", ""))


def _role(found: Json) -> Role:
    return Role(frozenset(found.get("includedPermissions", ())), bool(found.get("deleted", False)))


def _region(found: Json) -> Region:
    quotas = {each["metric"]: Quota(each["limit"], each["usage"]) for each in found.get("quotas", ())}
    return Region(tuple(zone.rpartition("/")[2] for zone in found.get("zones", ())), quotas)


def _bucket(found: Json, policy: Policy | Unread) -> Bucket:
    access = found.get("iamConfiguration", {})
    return Bucket(
        location=found["location"],
        labels=found.get("labels", {}),
        uniform_access=bool(access.get("uniformBucketLevelAccess", {}).get("enabled", False)),
        public_access_prevented=access.get("publicAccessPrevention") == "enforced",
        policy=policy,
    )
