"""Service Usage, v1: which of Google's APIs are enabled. All are, until one is disabled.

What an API answers that is not enabled is a fault, `disabled-api`: it is what is shown, made and ended here.
"""

from __future__ import annotations

from typing import get_args

from starlette.routing import BaseRoute

from localcloud.context import Context
from localcloud.errors import invalid
from localcloud.faults import Api, DisabledApi
from localcloud.store import Json
from localcloud.web import Call, route

NUMBER = "1"
_DOMAIN = ".googleapis.com"
_SERVICES = "/v1/projects/{project}/services"
_TYPE = "type.googleapis.com/google.api.serviceusage.v1."


def routes(context: Context) -> list[BaseRoute]:
    usage = _Usage(context)
    return [
        route("GET", _SERVICES, usage.list),
        route("GET", _SERVICES + ":batchGet", usage.batch_get),
        route("POST", _SERVICES + ":batchEnable", usage.batch_enable),
        route("GET", _SERVICES + "/{service}", lambda call: usage.get(call.params["service"])),
        route("POST", _SERVICES + "/{service}:enable", usage.enable),
        route("POST", _SERVICES + "/{service}:disable", usage.disable),
    ]


class _Usage:
    def __init__(self, context: Context) -> None:
        self._faults = context.faults
        self._clock = context.clock

    def get(self, service: str) -> Json:
        state = "DISABLED" if self._off(service) else "ENABLED"
        parent = f"projects/{NUMBER}"
        return {"name": f"{parent}/services/{service}", "parent": parent, "state": state}

    def list(self, call: Call) -> Json:
        """Those that the local cloud knows; `filter` as gcloud sends it."""
        wanted = call.query.get("filter", "").removeprefix("state:")
        found = [self.get(f"{name}{_DOMAIN}") for name in sorted(get_args(Api))]
        return {"services": [each for each in found if wanted in ("", each["state"])]}

    def batch_get(self, call: Call) -> Json:
        return {"services": [self.get(name.rpartition("/")[2]) for name in call.query_lists.get("names", ())]}

    def batch_enable(self, call: Call) -> Json:
        services = [str(each) for each in call.json().get("serviceIds", ())]
        for service in services:
            self._enable(service)
        return _done("BatchEnableServicesResponse", services=[self.get(each) for each in services])

    def enable(self, call: Call) -> Json:
        self._enable(call.params["service"])
        return _done("EnableServiceResponse", service=self.get(call.params["service"]))

    def disable(self, call: Call) -> Json:
        name = call.params["service"].removesuffix(_DOMAIN)
        if name not in get_args(Api):
            raise invalid(f"{call.params['service']} cannot be disabled in the local cloud.")
        fault = DisabledApi.model_validate({"kind": "disabled-api", "service": name})
        self._faults.add(fault, self._clock.now())
        return _done("DisableServiceResponse", service=self.get(call.params["service"]))

    def _enable(self, service: str) -> None:
        for fault in self._off(service):
            self._faults.remove(fault.id)

    def _off(self, service: str) -> tuple[DisabledApi, ...]:
        name = service.removesuffix(_DOMAIN)
        return tuple(self._faults.of(DisabledApi, lambda each: each.service == name))


def _done(kind: str, **response: object) -> Json:
    return {
        "name": "operations/noop.DONE_OPERATION",
        "done": True,
        "response": {"@type": _TYPE + kind} | response,
    }
