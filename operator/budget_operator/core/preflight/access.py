"""The operator's settings, the credentials of the caller, and the APIs of the project."""

import re
from collections.abc import Iterable, Iterator, Mapping

from budget_operator.core.preflight.facts import Caller, Unread
from budget_operator.core.preflight.findings import Finding, Verdict, missing, ok, unknown
from budget_operator.core.preflight.needs import APIS
from budget_operator.core.settings import Settings

_SETTINGS, _CREDENTIALS, _APIS = "settings", "credentials", "APIs"
_VARIABLE = re.compile(r"\w+")
_EXAMPLES = {
    "BUDGET_PROJECT": "my-project",
    "BUDGET_ZONES": "us-central1-a,us-central1-b",
    "BUDGET_BUCKET": "my-project-budgetml",
    "BUDGET_IMAGE": "us-central1-docker.pkg.dev/my-project/budgetml/server:0.1.0",
}


def wrong_settings(problems: Iterable[str]) -> Iterator[Finding]:
    """One line for each variable that is missing or wrong."""
    for problem in problems:
        found = _VARIABLE.match(problem)
        name = found.group() if found else ""
        example = _EXAMPLES.get(name)
        yield missing(_SETTINGS, problem, f"export {name}={example}" if example else f"unset {name}")


def right_settings(settings: Settings) -> Finding:
    zones = ", ".join(settings.zones)
    return ok(_SETTINGS, f"installation {settings.installation} in project {settings.project}, zones {zones}")


def credentials(caller: Caller) -> Finding:
    if caller.kind == "nobody":
        return ok(_CREDENTIALS, "none, as BUDGET_CREDENTIALS=anonymous says")
    of = f"of {caller.email}" if caller.email else "of a user"
    return ok(_CREDENTIALS, f"{of}, and Google accepts them")


def no_credentials(found: bool, why: str) -> Finding:
    """There are none, or Google does not accept them: then nothing else can be looked at."""
    verdict = Verdict.UNKNOWN if found else Verdict.MISSING
    return Finding(verdict, _CREDENTIALS, why, "gcloud auth application-default login")


def no_answer(why: str) -> Finding:
    return unknown("Google", Unread(why))


def apis(services: Mapping[str, bool] | Unread, project: str) -> Finding:
    if isinstance(services, Unread):
        return unknown(_APIS, services)
    off = [name for name in APIS if not services.get(name)]
    if not off:
        return ok(_APIS, f"all {len(APIS)} are enabled")
    mend = f"gcloud services enable {' '.join(off)} --project={project}"
    return missing(_APIS, f"not enabled: {', '.join(off)}", mend)
