"""gcloud's commands that mend roles and accounts: those of the guide, filled in, and good on any machine."""

import shlex
from collections.abc import Iterable

from budget_operator.core.preflight.grants import member
from budget_operator.core.preflight.needs import Place, RoleFile, condition, home, role_id, role_name


def create_account(project: str, email: str) -> str:
    name = email.partition("@")[0]
    return f"gcloud iam service-accounts create {name} --project={home(project, email)}"


def create_role(project: str, file: str, role: RoleFile) -> str:
    return (
        f"gcloud iam roles create {role_id(file)} --project={project} --title={shlex.quote(role.title)}"
        f" --stage=GA --permissions={_joined(role.permissions)}"
    )


def extend_role(project: str, file: str, lacking: Iterable[str]) -> str:
    return f"gcloud iam roles update {role_id(file)} --project={project} --add-permissions={_joined(lacking)}"


def grant(project: str, file: str, email: str, place: Place, bucket: str) -> str:
    """For a part of the bucket: under the condition that keeps the role there."""
    expression = condition(place, bucket)  # has single quotes, and nothing that a shell would replace
    under = f'"title={role_id(file)},expression={expression}"' if expression else "None"
    return (
        f"gcloud projects add-iam-policy-binding {project} --member={member(email)}"
        f" --role={role_name(project, file)} --condition={under}"
    )


def grant_on_account(project: str, file: str, email: str, target: str) -> str:
    return (
        f"gcloud iam service-accounts add-iam-policy-binding {target} --project={project}"
        f" --member={member(email)} --role={role_name(project, file)}"
    )


def revoke(project: str, email: str, role: str) -> str:
    """Under whichever condition."""
    return f"gcloud projects remove-iam-policy-binding {project} --member={member(email)} --role={role} --all"


def revoke_in_bucket(project: str, bucket: str, file: str, email: str) -> str:
    return (
        f"gcloud storage buckets remove-iam-policy-binding gs://{bucket} --member={member(email)}"
        f" --role={role_name(project, file)} --all"
    )


def _joined(permissions: Iterable[str]) -> str:
    return ",".join(sorted(permissions))
