"""The installation's bucket, and the cluster that owns the installation."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from budget_operator.core.names import LABEL_INSTALLATION, Shared
from budget_operator.core.ownership import OWNER_OBJECT, SILENT_AFTER, read
from budget_operator.core.preflight.facts import Bucket, Facts, Unread
from budget_operator.core.preflight.findings import Finding, missing, ok, unknown, warn
from budget_operator.core.settings import Settings

_BUCKET, _OWNER = "bucket", "owner"


def bucket(settings: Settings, found: Bucket | Unread | None) -> Iterator[Finding]:
    if isinstance(found, Unread):
        yield unknown(_BUCKET, found)
        return
    if found is None:
        yield ok(_BUCKET, f"{settings.bucket} is not there: it is made with the first deployment")
        return
    troubles = list(_troubles(settings, found))
    yield from troubles or [
        ok(_BUCKET, f"{settings.bucket} is this installation's, in {found.location.lower()}")
    ]


def _troubles(settings: Settings, found: Bucket) -> Iterator[Finding]:
    name, shared = settings.bucket, Shared(settings.installation)
    update = f"gcloud storage buckets update gs://{name}"
    if not shared.owns(found.labels):
        text = (
            f"{name} is there without the label of installation {settings.installation}, and so not touched"
        )
        yield missing(_BUCKET, text, f"{update} --update-labels={LABEL_INSTALLATION}={shared.hash}")
    if not found.uniform_access:
        text = f"{name} has access lists of objects: the conditions of roles do not hold in it"
        yield missing(_BUCKET, text, f"{update} --uniform-bucket-level-access")
    if not found.public_access_prevented:
        text = f"{name} could be made public"
        yield warn(_BUCKET, text, f"{update} --public-access-prevention")
    if found.location.lower() != settings.region:
        text = (
            f"{name} is in {found.location.lower()} and the VMs in {settings.region}: each boot costs traffic"
        )
        yield warn(_BUCKET, text, f"export BUDGET_BUCKET={name}-{settings.region}")


def owner(settings: Settings, facts: Facts, now: datetime) -> Finding:
    """Whose the installation is. A laptop's cluster may be another than the operator's."""
    if isinstance(facts.owner, Unread):
        return unknown(_OWNER, facts.owner)
    claim = read(facts.owner)
    if claim is None:
        return ok(_OWNER, "none yet: the first operator that starts")
    silent = now - claim.renewed_at
    text = f"cluster {claim.cluster}, last heard of {_ago(silent)} ago"
    if facts.cluster == claim.cluster:
        return ok(_OWNER, f"this one, {text}")
    if silent >= SILENT_AFTER:
        look = f"gcloud storage cat gs://{settings.bucket}/{OWNER_OBJECT}"
        return warn(_OWNER, f"{text}: another takes over by itself", look)
    if not facts.cluster or settings.takeover:
        return ok(_OWNER, text)
    short = facts.cluster[:8]
    mend = (
        f"export BUDGET_INSTALLATION={settings.installation}-{short} BUDGET_BUCKET={settings.bucket}-{short}"
    )
    return missing(_OWNER, f"{text}: here (cluster {facts.cluster}) deployments would stall", mend)


def _ago(silent: timedelta) -> str:
    minutes = max(0, int(silent.total_seconds())) // 60
    return f"{minutes} min" if minutes < 600 else f"{minutes // 60} h"
