"""The control API below `/_localcloud/v1`: look at the local cloud from outside, and make bad things happen.

The verbs (`preempt`, `tick`), logs and lines of `ls` come from the services, through the registry.
"""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.routing import BaseRoute

from localcloud.context import Context
from localcloud.errors import invalid, not_found
from localcloud.faults import parse
from localcloud.iam import Binding
from localcloud.store import Json
from localcloud.web import Call, route

ROOT = "/_localcloud/v1"
_NUMBER = re.compile(r"[0-9]{1,18}")


def routes(context: Context) -> list[BaseRoute]:
    control = Control(context)
    return [
        route("GET", f"{ROOT}/health", control.health),
        route("GET", f"{ROOT}/resources", control.resources),
        route("GET", f"{ROOT}/journal", control.journal),
        route("GET", f"{ROOT}/journal/count", control.journal_count),
        route("GET", f"{ROOT}/logs/{{name:path}}", control.logs),
        route("GET", f"{ROOT}/faults", control.faults),
        route("POST", f"{ROOT}/faults", control.add_fault),
        route("DELETE", f"{ROOT}/faults", control.clear_faults),
        route("DELETE", f"{ROOT}/faults/{{id}}", control.remove_fault),
        route("GET", f"{ROOT}/iam", control.bindings),
        route("POST", f"{ROOT}/iam", control.bind),
        route("DELETE", f"{ROOT}/iam/{{account}}", control.unbind),
        route("POST", f"{ROOT}/dns", control.set_name),
        route("DELETE", f"{ROOT}/dns", control.unset_name),
        route("POST", f"{ROOT}/{{verb}}/{{name:path}}", control.act),
    ]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Name(_Strict):
    name: str = Field(min_length=1)
    type: str = Field(default="A", pattern="^(A|AAAA)$")
    values: list[str] = Field(default=[])


class Control:
    def __init__(self, context: Context) -> None:
        self._context = context

    def health(self, _: Call) -> Json:
        return {"status": "ok"}

    def resources(self, _: Call) -> Json:
        lines = [asdict(line) for lister in self._context.registry.listers for line in lister()]
        return {"resources": sorted(lines, key=lambda line: (line["kind"], line["name"], line["location"]))}

    def journal(self, call: Call) -> Json:
        after, limit = call.query.get("after", "0"), call.query.get("limit", "1000")
        for name, value in (("after", after), ("limit", limit)):
            if not _NUMBER.fullmatch(value):
                raise invalid(f"{name} must be a whole number, not {value!r}")
        found = self._context.journal.entries(int(after), int(limit), *_wanted(call))
        return {"entries": [entry.as_json() for entry in found]}

    def journal_count(self, call: Call) -> Json:
        return {"count": self._context.journal.count(*_wanted(call))}

    def logs(self, call: Call) -> Json:
        for log in self._context.registry.logs:
            text = log(call.params["name"])
            if text is not None:
                return {"text": text}
        raise not_found(call.params["name"])

    def faults(self, _: Call) -> Json:
        return {"faults": [fault.model_dump(mode="json") for fault in self._context.faults.all()]}

    def add_fault(self, call: Call) -> Json:
        try:
            asked = parse(call.json())
        except ValidationError as error:
            raise invalid(_told(error)) from error
        return {"id": self._context.faults.add(asked, self._context.clock.now())}

    def remove_fault(self, call: Call) -> Json:
        if not self._context.faults.remove(call.params["id"]):
            raise not_found(f"the fault {call.params['id']}")
        return {}

    def clear_faults(self, _: Call) -> Json:
        self._context.faults.clear()
        return {}

    def bindings(self, _: Call) -> Json:
        return {"bindings": [binding.model_dump(mode="json") for binding in self._context.iam.bindings()]}

    def bind(self, call: Call) -> Json:
        asked: Any = _parse(Binding, call)
        self._context.iam.bind(asked)
        return {}

    def unbind(self, call: Call) -> Json:
        if not self._context.iam.unbind(call.params["account"]):
            raise not_found(f"a binding of {call.params['account']}")
        return {}

    def set_name(self, call: Call) -> Json:
        asked: Any = _parse(_Name, call)
        try:
            self._context.names.set(asked.name, asked.type, asked.values)
        except ValueError as error:
            raise invalid(str(error)) from error
        return {}

    def unset_name(self, call: Call) -> Json:
        asked: Any = _parse(_Name, call)
        if not self._context.names.unset(asked.name):
            raise not_found(f"the name {asked.name}")
        return {}

    def act(self, call: Call) -> Json:
        verb = self._context.registry.verbs.get(call.params["verb"])
        if verb is None:
            raise not_found(f"{ROOT}/{call.params['verb']}")
        return verb(call.params["name"])


def _wanted(call: Call) -> tuple[str, bool]:
    """Which entries of the journal: of what permission, and whether only what took effect."""
    return call.query.get("permission", "*"), call.query.get("effective") == "true"


def _parse(model: type[BaseModel], call: Call) -> BaseModel:
    try:
        return model.model_validate(call.json())
    except ValidationError as error:
        raise invalid(_told(error)) from error


def _told(error: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(map(str, each['loc'])) or 'document'}: {each['msg']}"
        for each in error.errors(include_url=False, include_input=False, include_context=False)
    )
