"""Lists of operations: of one zone or region, of the global ones, and of all."""

from __future__ import annotations

from localcloud.context import Context
from localcloud.services.compute import paths
from localcloud.services.compute.catalog import REGIONS, ZONES, check_region, check_zone, listing
from localcloud.services.compute.filters import grouped, page
from localcloud.services.compute.operations import OPERATION
from localcloud.store import Json
from localcloud.web import Call


class OperationLists:
    def __init__(self, context: Context) -> None:
        self._context = context

    def list(self, call: Call) -> Json:
        project, scope = call.params["project"], "global"
        if "zone" in call.params:
            scope = f"zones/{check_zone(project, call.params['zone'])}"
        elif "region" in call.params:
            scope = f"regions/{check_region(project, call.params['region'])}"
        documents = self._context.store.list(OPERATION, f"projects/{project}/{scope}/")
        return listing(self._context.settings.base_url, call, "compute#operationList", documents)

    def aggregated(self, call: Call) -> Json:
        chosen = page(self._context.store.list(OPERATION, f"projects/{call.params['project']}/"), call.query)
        zones = [f"zones/{zone}" for zone in ZONES]
        scopes = ["global", *(f"regions/{region}" for region in REGIONS), *zones]
        answer: Json = {
            "kind": "compute#operationAggregatedList",
            "id": call.raw_path.removeprefix(paths.PREFIX),
            "selfLink": self._context.settings.base_url + call.raw_path,
            "items": grouped(chosen.items, scopes, "operations", paths.scope_of),
        }
        if chosen.next_token:
            answer["nextPageToken"] = chosen.next_token
        return answer
