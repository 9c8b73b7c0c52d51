"""Lists of operations: of one zone or region, of the global ones, and of all."""

from __future__ import annotations

from collections.abc import Iterator

from localcloud.context import Context, Event
from localcloud.services.compute import paths
from localcloud.services.compute.catalog import REGION_SCOPES, ZONE_SCOPES, check_region, check_zone
from localcloud.services.compute.lists import aggregated, listing
from localcloud.services.compute.operations import OPERATION
from localcloud.store import Json
from localcloud.web import Call


class OperationLists:
    def __init__(self, context: Context) -> None:
        self._context = context
        context.registry.events.append(self._events)

    def _events(self) -> Iterator[Event]:
        for _, operation in self._context.store.list(OPERATION):
            errors = operation.get("error", {}).get("errors", ())
            outcome = ", ".join(error["code"] for error in errors) or operation["status"]
            target = paths.last(operation["targetLink"])
            yield Event(operation["insertTime"], operation["operationType"], target, outcome)

    def list(self, call: Call) -> Json:
        project, scope = call.params["project"], "global"
        if "zone" in call.params:
            scope = f"zones/{check_zone(project, call.params['zone'])}"
        elif "region" in call.params:
            scope = f"regions/{check_region(project, call.params['region'])}"
        documents = self._context.store.list(OPERATION, f"projects/{project}/{scope}/")
        return listing(self._context.settings.base_url, call, "compute#operation", documents)

    def aggregated(self, call: Call) -> Json:
        documents = self._context.store.show(OPERATION, f"projects/{call.params['project']}/")
        scopes = (*REGION_SCOPES, *ZONE_SCOPES)
        return aggregated(self._context, call, "compute#operation", "operations", documents, scopes)
