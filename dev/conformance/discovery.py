"""Google's discovery documents, as google-api-python-client ships them, and answers judged by them."""

import base64
import binascii
import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import googleapiclient

DOCUMENTS = (
    "compute.v1",
    "storage.v1",
    "pubsub.v1",
    "cloudscheduler.v1",
    "cloudfunctions.v2",
    "cloudresourcemanager.v1",
    "serviceusage.v1",
    "iam.v1",
    "cloudbuild.v1",
)


@cache
def document(name: str) -> dict[str, Any]:
    """A discovery document, e.g. `compute.v1`."""
    documents = Path(googleapiclient.__file__).parent / "discovery_cache" / "documents"
    loaded: dict[str, Any] = json.loads((documents / f"{name}.json").read_text())
    return loaded


@dataclass(frozen=True)
class Described:
    """One method of a document; `response` is the name of its answer's schema, empty where it has none."""

    document: str
    http_method: str
    path: re.Pattern[str]
    response: str

    def violations(self, value: Any) -> list[str]:
        """Where an answer is not what is described."""
        return violations(self.document, self.response, value) if self.response else []


def methods(http_method: str, path: str) -> list[Described]:
    """All that a request of this kind to this path (still percent-encoded) may be."""
    if path.startswith("/upload/"):
        http_method = "POST"  # what goes on with a resumable upload answers as the call that began it
    return [each for each in _described() if each.http_method == http_method and each.path.fullmatch(path)]


@cache
def _described() -> tuple[Described, ...]:
    found = []
    for name in DOCUMENTS:
        waiting = [document(name)]
        while waiting:
            node = waiting.pop()
            waiting += node.get("resources", {}).values()
            for method in node.get("methods", {}).values():
                response = method.get("response", {}).get("$ref", "")
                found += [
                    Described(name, method["httpMethod"], path, response) for path in _paths(name, method)
                ]
    return tuple(found)


def _paths(name: str, method: dict[str, Any]) -> list[re.Pattern[str]]:
    below = document(name).get("servicePath", "")
    templates = [f"/{below}{method.get('flatPath') or method['path']}"]
    templates += [each["path"] for each in method.get("mediaUpload", {}).get("protocols", {}).values()]
    return [re.compile(re.sub(r"\\\{\\?\+?\w+\\\}", "[^/]+", re.escape(each))) for each in templates]


def violations(name: str, schema: str, value: Any) -> list[str]:
    """Where `value` is not what the schema says: types, enums, formats, unknown keys."""
    return _violations(document(name), {"$ref": schema}, value, "$")


def _violations(described: dict[str, Any], schema: dict[str, Any], value: Any, where: str) -> list[str]:
    schema = described["schemas"][schema["$ref"]] if "$ref" in schema else schema
    kind = schema.get("type", "any")
    if kind == "object":
        return _object_violations(described, schema, value, where)
    if kind == "array":
        if not isinstance(value, list):
            return [f"{where}: {value!r} is not a list"]
        return [
            found
            for number, item in enumerate(value)
            for found in _violations(described, schema["items"], item, f"{where}[{number}]")
        ]
    return (
        [] if _fits(kind, schema, value) else [f"{where}: {value!r} is not {kind} {schema.get('format', '')}"]
    )


def _object_violations(
    described: dict[str, Any], schema: dict[str, Any], value: Any, where: str
) -> list[str]:
    if not isinstance(value, dict):
        return [f"{where}: {value!r} is not an object"]
    found = []
    for name, inner in value.items():
        known = schema.get("properties", {}).get(name) or schema.get("additionalProperties")
        path = f"{where}.{name}"
        found += _violations(described, known, inner, path) if known else [f"{path}: unknown field"]
    return found


def _fits(kind: str, schema: dict[str, Any], value: Any) -> bool:
    if kind == "boolean":
        return isinstance(value, bool)
    if kind == "integer":
        return isinstance(value, int) and not isinstance(value, bool)
    if kind == "number":
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind == "string":
        return isinstance(value, str) and _text_fits(schema, value)
    return True


def _text_fits(schema: dict[str, Any], value: str) -> bool:
    if schema.get("format") in ("int64", "uint64"):
        return re.fullmatch(r"-?\d+", value) is not None
    if schema.get("format") == "byte":
        try:
            base64.b64decode(value, altchars=b"-_", validate=True)
        except binascii.Error:
            return False
    return "enum" not in schema or value in schema["enum"]
