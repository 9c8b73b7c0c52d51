"""What a list call of Compute answers: of one scope, or of all scopes of a project at once."""

from __future__ import annotations

from collections.abc import Sequence

from localcloud.context import Context
from localcloud.faults import SilentZone
from localcloud.services.compute import paths
from localcloud.services.compute.filters import Page, grouped, page
from localcloud.store import Json
from localcloud.web import Call

Documents = Sequence[tuple[str, Json]]


def listing(base_url: str, call: Call, kind: str, documents: Documents) -> Json:
    """The answer of a plain list call; `kind` such as `compute#instance`."""
    chosen = page(documents, call.query)
    return _answer(base_url, call, f"{kind}List", chosen, [item for _, item in chosen.items])


def aggregated(
    context: Context, call: Call, kind: str, noun: str, documents: Documents, scopes: Sequence[str]
) -> Json:
    """The answer over these scopes (`zones/z`, `regions/r`, `global`); in each the items are its `noun`.

    A silent zone is named and its resources are missing.
    """
    silent = {f"zones/{fault.zone}" for fault in context.faults.of(SilentZone)} & set(scopes)
    chosen = page([each for each in documents if paths.scope_of(each[0]) not in silent], call.query)
    items = grouped(chosen.items, scopes, noun, paths.scope_of)
    items |= {scope: {"warning": _unreachable(scope)} for scope in silent}
    answer = _answer(context.settings.base_url, call, f"{kind}AggregatedList", chosen, items)
    if silent:
        project = f"projects/{call.params['project']}"
        answer["unreachables"] = [
            paths.url(context.settings, f"{project}/{scope}") for scope in sorted(silent)
        ]
    return answer


def _unreachable(scope: str) -> Json:
    return {
        "code": "UNREACHABLE",
        "message": f"The scope '{scope}' could not be reached.",
        "data": [{"key": "scope", "value": scope}],
    }


def _answer(base_url: str, call: Call, kind: str, chosen: Page, items: Json | list[Json]) -> Json:
    answer: Json = {
        "kind": kind,
        "id": call.raw_path.removeprefix(paths.PREFIX),
        "selfLink": base_url + call.raw_path,
        "items": items,
    }
    if chosen.next_token:
        answer["nextPageToken"] = chosen.next_token
    return answer
