"""`budget-operator preflight`: looks at the surroundings of an installation and says what is missing.

Reads settings, role files and facts, and hands them to `core.preflight`. Imported for this command alone: the
operator itself, whose memory is counted, knows nothing of it.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import yaml

from budget_operator.cloud.connection import Connection
from budget_operator.cloud.preflight import Google, Reader
from budget_operator.cloud.storage import StorageGateway
from budget_operator.cluster.kube import Kube, connect
from budget_operator.core.clocks import wall_clock
from budget_operator.core.errors import BudgetError, PermissionDenied
from budget_operator.core.preflight import access, bucket, region
from budget_operator.core.preflight.accounts import Accounts
from budget_operator.core.preflight.findings import Finding
from budget_operator.core.preflight.needs import NEEDS, RoleFile, RoleFiles
from budget_operator.core.settings import Settings, SettingsError

CHECKOUT_ROLES = Path(__file__).resolve().parents[1] / "deploy" / "iam"


def preflight(
    environment: Mapping[str, str] = os.environ,
    operator: str = "",
    wall: Callable[[], datetime] = wall_clock,
) -> list[Finding]:
    """Everything that there is to say. `operator`: its account, where the caller is somebody else."""
    try:
        settings = Settings.from_environment(environment)
        files = role_files(Path(environment.get("BUDGET_ROLES") or CHECKOUT_ROLES))
    except SettingsError as error:
        return list(access.wrong_settings(error.problems))
    return [access.right_settings(settings), *_look(settings, files, operator, wall)]


def role_files(folder: Path) -> RoleFiles:
    """The roles as they should be.

    Raises:
        SettingsError: they are not there.
    """
    try:
        texts = {need.role: (folder / f"{need.role}.yaml").read_text(encoding="utf-8") for need in NEEDS}
    except OSError as error:
        raise SettingsError(f"BUDGET_ROLES: {error.filename} cannot be read") from error
    roles = {name: yaml.safe_load(text) for name, text in texts.items()}
    return {
        name: RoleFile(role["title"], frozenset(role["includedPermissions"])) for name, role in roles.items()
    }


def _look(
    settings: Settings, files: RoleFiles, operator: str, wall: Callable[[], datetime]
) -> Iterator[Finding]:
    connection = Connection(settings.project, settings.api_endpoint, settings.credentials)
    try:
        google = Google(connection)
    except BudgetError as error:
        yield access.no_credentials(found=False, why=error.message)
        return
    try:
        caller = google.caller()
        yield access.credentials(caller)
        reader = Reader(google, settings, StorageGateway(connection, settings.bucket))
        facts = reader.facts(files, caller, operator, _cluster())
    except PermissionDenied as error:  # by the credentials alone: what else is denied is among the facts
        yield access.no_credentials(found=True, why=error.message)
        return
    except BudgetError as error:
        yield access.no_answer(error.message)
        return
    yield access.apis(facts.services, settings.project)
    yield from Accounts(settings, facts, files).findings()
    yield from region.zones(settings, facts)
    yield from region.quotas(settings, facts)
    yield from bucket.bucket(settings, facts.bucket)
    yield bucket.owner(settings, facts, wall())


def _cluster() -> str:
    """The cluster that KUBECONFIG or the pod leads to; empty where there is none, or it does not answer."""
    with suppress(BudgetError):
        return Kube(connect(pool_size=1)).cluster()
    return ""
