"""Checks request bodies against Google's own description of them.

`schemas.json` is an extract of the discovery document `compute.v1` without its descriptions; `extract` made
it, and a contract test compares it with the document that google-api-python-client ships.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from functools import cache
from importlib import resources
from typing import Any

from localcloud.errors import ApiError, invalid
from localcloud.store import Json

ROOTS = (
    "AccessConfig",
    "Address",
    "DisksResizeRequest",
    "Firewall",
    "Instance",
    "InstancesSetLabelsRequest",
    "InstancesSetMachineTypeRequest",
    "Metadata",
    "Tags",
)
_KEPT = ("$ref", "additionalProperties", "enum", "format", "items", "properties", "type")
_INTEGER = re.compile(r"-?\d+")


def extract(document: Json) -> Json:
    """The schemas that `ROOTS` need, as stored in `schemas.json`."""
    found: Json = {}
    waiting = list(ROOTS)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = _strip(document["schemas"][name])
            waiting += re.findall(r'"\$ref": "(\w+)"', json.dumps(found[name]))
    return dict(sorted(found.items()))


def _strip(schema: Json) -> Json:
    kept: Json = {}
    for key in _KEPT:
        if key == "properties" and key in schema:
            kept[key] = {name: _strip(inner) for name, inner in schema[key].items()}
        elif key in ("items", "additionalProperties") and key in schema:
            kept[key] = _strip(schema[key])
        elif key in schema:
            kept[key] = schema[key]
    return kept


@cache
def _schemas() -> Json:
    loaded: Json = json.loads(resources.files(__package__).joinpath("schemas.json").read_text())
    return loaded


def check(body: Json, root: str) -> Json:
    """Return `body`, or raise a 400 that names the first field which is unknown or of the wrong kind."""
    _check(body, _schemas()[root], "")
    return body


def _check(value: Any, schema: Json, where: str) -> None:
    schema = _schemas()[schema["$ref"]] if "$ref" in schema else schema
    kind = schema.get("type", "any")
    if kind == "object":
        _check_object(value, schema, where)
    elif kind == "array":
        if not isinstance(value, list):
            raise _wrong(where, value)
        for index, item in enumerate(value):
            _check(item, schema["items"], f"{where}[{index}]")
    elif not _fits(value, schema, kind):
        raise _wrong(where, value)


def _check_object(value: Any, schema: Json, where: str) -> None:
    if not isinstance(value, dict):
        raise _wrong(where, value)
    known = schema.get("properties", {})
    for name, inner in value.items():
        path = f"{where}.{name}" if where else name
        if name in known:
            _check(inner, known[name], path)
        elif "additionalProperties" in schema:
            _check(inner, schema["additionalProperties"], path)
        else:
            at = f" at '{where}'" if where else ""
            raise invalid(f'Invalid JSON payload received. Unknown name "{name}"{at}: Cannot find field.')


def _fits(value: Any, schema: Json, kind: str) -> bool:
    if kind == "boolean":
        return isinstance(value, bool)
    if kind == "integer" or schema.get("format") in ("int64", "uint64"):
        return (isinstance(value, int) and not isinstance(value, bool)) or (
            isinstance(value, str) and _INTEGER.fullmatch(value) is not None
        )
    if kind == "number":
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind == "string":
        return isinstance(value, str) and _text_fits(value, schema)
    return True


def _text_fits(value: str, schema: Json) -> bool:
    if schema.get("format") == "byte":
        try:
            base64.b64decode(value, altchars=b"-_", validate=True)
        except binascii.Error:
            return False
    return "enum" not in schema or value in schema["enum"]


def _wrong(where: str, value: Any) -> ApiError:
    return invalid(f"Invalid value for field 'resource.{where}': '{json.dumps(value)[:200]}'.")
