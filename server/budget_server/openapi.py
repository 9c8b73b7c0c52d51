"""The predict routes on the documentation page: examples that can be tried as they stand."""

from collections.abc import Mapping
from typing import Any, Protocol

SCHEME = "OAuth2PasswordBearer"
"""The name under which FastAPI lists the login of its own routes."""

TAGS = [{"name": "predict"}, {"name": "server"}, {"name": "open inference"}]
"""In the order of the page."""

_ERROR = {
    "type": "object",
    "required": ["code", "detail"],
    "properties": {
        "code": {"type": "string", "description": "Stable, for programs."},
        "detail": {"description": "For people."},
    },
}
_ERRORS = {
    "404": "No such model.",
    "401": "No login, or one that is not good (any more).",
    "413": "The body is larger than this server takes.",
    "422": "The body is not what the route takes.",
    "429": "More requests than this server takes at a time; Retry-After says when to try again.",
    "500": "The predictor failed, or its answer has no JSON form.",
    "503": "The model is not loaded (yet).",
}
_OF_PREDICTIONS = [status for status in _ERRORS if status != "404"]
_BINARY = {"type": "string", "format": "binary"}
_DICT_BODY = {
    "type": "object",
    "required": ["payload"],
    "properties": {"payload": {"type": "object", "additionalProperties": True}},
}
_TENSORS = {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["hello"]}]}
_BODIES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "/predict": (
        "Ask the model; predict gets the request itself",
        "Whatever the predictor reads from a FastAPI `Request`: JSON, text, a form.",
        {"application/json": {"schema": {}, "example": {"payload": {"text": "hello"}}}},
    ),
    "/predict_dict": (
        "Ask the model; predict gets the payload, a dict",
        "The predictor reads it as `request[...]` or `request.payload[...]`.",
        {"application/json": {"schema": _DICT_BODY, "example": {"payload": {"text": "hello"}}}},
    ),
    "/predict_image": (
        "Ask the model; predict gets an UploadFile",
        "A file in the field `request`, or the image as the body. The predictor gets it upright and as RGB.",
        {
            "multipart/form-data": {
                "schema": {"type": "object", "required": ["request"], "properties": {"request": _BINARY}}
            },
            "image/*": {"schema": _BINARY},
        },
    ),
    "/v2/models/{name}/infer": (
        "Ask the model by the Open Inference Protocol",
        "The inputs' names become the payload's keys, their data nested lists; binary data is not read.",
        {"application/json": {"schema": {"type": "object", "required": ["inputs"]}, "example": _TENSORS}},
    ),
}


class Documented(Protocol):
    """An endpoint of the predictor, as `endpoints` has it."""

    route: str


def extended(schema: dict[str, Any], predictors: Mapping[str, Documented]) -> dict[str, Any]:
    """The schema with the predict routes."""
    components = schema.setdefault("components", {})
    components.setdefault("schemas", {})["Error"] = _ERROR
    for path, predict in predictors.items():
        if "/versions/" not in path:
            schema["paths"][path] = {"post": _operation(path, predict.route)}
    return schema


def errors(*statuses: str) -> dict[int | str, Any]:
    """The described error answers of an operation."""
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {status: {"description": _ERRORS[status], "content": content} for status in statuses}


def _operation(path: str, route: str) -> dict[str, Any]:
    summary, description, content = _BODIES[route]
    answer = {"description": "What predict returned.", "content": {"application/json": {"schema": {}}}}
    return {
        "tags": ["open inference" if route.startswith("/v2") else "predict"],
        "summary": summary,
        "description": description,
        "operationId": path.strip("/").replace("/", "_"),
        "requestBody": {"required": True, "content": content},
        "responses": {"200": answer, **errors(*_OF_PREDICTIONS)},
        "security": [{SCHEME: []}],
    }
