"""Which of the operator's roles lists a permission that is missing. Pure.

The roles themselves are files, `operator/deploy/iam/*.yaml`, which a test compares this with.
"""

import re

_PERMISSION = re.compile(
    r"\b(?:cloudfunctions|cloudscheduler|compute|iam|pubsub|storage)\.(?!googleapis)[a-z][A-Za-z]+\.[a-z][A-Za-z]+\b",
    re.ASCII,
)
OF_SOURCE = ("spec.predictor.gcs",)  # how messages about buckets of users begin


def role_with(message: str) -> str:
    """The role, as the guide names it, that has what a message calls missing; or nothing."""
    found = _PERMISSION.search(message)
    return f"budgetml_{_role(found[0], message)}" if found else ""


def _role(permission: str, message: str) -> str:
    if permission.startswith("storage.") and permission != "storage.buckets.create":
        return "operator_source" if message.startswith(OF_SOURCE) else "operator_bucket"
    return "operator_accounts" if permission == "iam.serviceAccounts.actAs" else "operator"
