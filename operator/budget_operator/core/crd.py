"""Generates the CustomResourceDefinition from the models in `api`.

pydantic speaks JSON Schema, the API server wants a structural OpenAPI v3 schema: references are inlined,
`X or null` becomes X, and every keyword that is not understood here raises, so that nothing is silently
dropped. `make crds` writes the result to crds/budgetdeployments.yaml; a test fails when it drifts.
"""

from collections.abc import Mapping
from typing import Any

import yaml

from budget_operator.core import api

_COPIED = {
    "type",
    "format",
    "pattern",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "minimum",
    "maximum",
    "enum",
    "description",
    "required",
}
_DROPPED = {"title", "examples", "discriminator", "$defs"}

COLUMNS: tuple[Mapping[str, Any], ...] = (
    {"name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type=='Ready')].status"},
    {"name": "State", "type": "string", "jsonPath": ".status.state"},
    {"name": "Endpoint", "type": "string", "jsonPath": ".status.endpoint"},
    {"name": "Zone", "type": "string", "jsonPath": ".status.zone"},
    {"name": "$/Month", "type": "number", "jsonPath": ".status.cost.forecast"},
    {"name": "Preemptions (24h)", "type": "integer", "jsonPath": ".status.preemptions.last24h"},
    {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    {"name": "Preempted", "type": "integer", "jsonPath": ".status.preemptions.count", "priority": 1},
    {"name": "IP", "type": "string", "jsonPath": ".status.ip", "priority": 1},
    {"name": "Revision", "type": "string", "jsonPath": ".status.revision.active", "priority": 1},
    {
        "name": "Message",
        "type": "string",
        "jsonPath": ".status.conditions[?(@.type=='Ready')].message",
        "priority": 1,
    },
)


class UnsupportedSchemaError(Exception):
    """A model uses a JSON Schema keyword that this generator does not translate."""


def structural(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    """Translate one JSON Schema node into a structural OpenAPI v3 schema."""
    node = _without_null(_inlined(schema, definitions), definitions)
    result: dict[str, Any] = {}
    for keyword, value in node.items():
        if keyword == "type" and node.get("x-kubernetes-int-or-string"):
            continue  # it takes the place of a type
        if keyword in _COPIED or keyword.startswith("x-kubernetes-"):
            result[keyword] = value
        elif keyword == "const":
            result["enum"] = [value]
        elif keyword == "properties":
            result["properties"] = {name: structural(child, definitions) for name, child in value.items()}
        elif keyword == "items":
            result["items"] = structural(value, definitions)
        elif keyword == "additionalProperties":
            result |= _additional(value, node, definitions)
        elif keyword == "default":
            result |= _default(value)
        elif keyword not in _DROPPED:
            raise UnsupportedSchemaError(f"cannot translate the keyword {keyword!r} of {dict(node)!r}")
    return result


def _inlined(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    if "$ref" not in schema:
        return dict(schema)
    target = definitions[schema["$ref"].removeprefix("#/$defs/")]
    return {**target, **{key: value for key, value in schema.items() if key != "$ref"}}


def _without_null(node: dict[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    """`anyOf: [X, null]` -> X; other unions have no structural form."""
    if "anyOf" not in node:
        return node
    options = [option for option in node["anyOf"] if option.get("type") != "null"]
    if len(options) != 1:
        raise UnsupportedSchemaError(f"a union has no structural schema: {node['anyOf']!r}")
    rest = {key: value for key, value in node.items() if key != "anyOf"}
    return {**_inlined(options[0], definitions), **rest}


def _additional(value: Any, node: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    """Closed objects are closed by the API server's pruning; open ones of any JSON are marked as such."""
    if isinstance(value, bool) or node.get("x-kubernetes-preserve-unknown-fields"):
        return {}
    return {"additionalProperties": structural(value, definitions)}


def _default(value: Any) -> dict[str, Any]:
    """The parent's default is {} so that nested defaults apply on their own."""
    if value is None:
        return {}
    return {"default": {} if isinstance(value, dict) else value}


def _schema(model: type[api.Model]) -> dict[str, Any]:
    document = model.model_json_schema(by_alias=True)
    return structural(document, document.get("$defs", {}))


def _status_schema() -> dict[str, Any]:
    """Status has no defaults: the operator writes what it knows, and what it has not seen is absent."""
    return _strip_defaults(_schema(api.Status))


def _strip_defaults(schema: dict[str, Any]) -> dict[str, Any]:
    stripped = {key: value for key, value in schema.items() if key != "default"}
    if "properties" in stripped:
        stripped["properties"] = {
            key: _strip_defaults(child) for key, child in stripped["properties"].items()
        }
    if "items" in stripped:
        stripped["items"] = _strip_defaults(stripped["items"])
    return stripped


def definition() -> dict[str, Any]:
    """The CustomResourceDefinition as a document."""
    spec = {**_schema(api.Spec), "description": "What should be served, and on what."}
    status = {**_status_schema(), "description": "What is there; written by the operator."}
    name = {"type": "string", "maxLength": 63, "pattern": api.DNS_LABEL}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{api.PLURAL}.{api.GROUP}"},
        "spec": {
            "group": api.GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": api.KIND,
                "listKind": f"{api.KIND}List",
                "plural": api.PLURAL,
                "singular": api.KIND.lower(),
                "shortNames": ["bd"],
                "categories": ["all"],
            },
            "versions": [
                {
                    "name": api.VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [dict(column) for column in COLUMNS],
                    "schema": {
                        "openAPIV3Schema": {
                            "type": "object",
                            "description": "A Python predictor served over HTTPS on one Spot VM.",
                            "required": ["spec"],
                            "properties": {
                                "apiVersion": {"type": "string"},
                                "kind": {"type": "string"},
                                "metadata": {"type": "object", "properties": {"name": name}},
                                "spec": spec,
                                "status": status,
                            },
                        }
                    },
                }
            ],
        },
    }


def render() -> str:
    """The CRD as YAML, with a header that says where it comes from."""
    header = "# Generated from budget_operator.core.api by `make crds`. Do not edit.\n"
    return header + yaml.safe_dump(definition(), sort_keys=False, width=110, allow_unicode=True)
