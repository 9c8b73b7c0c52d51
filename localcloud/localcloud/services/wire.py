"""Request bodies as Google's v1/v2 APIs read them: camelCase, enums by name or number, field masks, pages.

Owns the grammar. Which fields a resource has stands in the models of its service.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic.alias_generators import to_camel

from localcloud.errors import ApiError, invalid
from localcloud.store import Json

_MAPS = frozenset({"labels", "attributes", "environmentVariables"})
M = TypeVar("M", bound="Message")


class Message(BaseModel):
    """A request or resource. Unknown fields are refused, as Google refuses them.

    `output_only`: fields that clients may send back and that the service ignores.
    `not_offered`: fields that Google has and the local cloud does not act upon; refused rather than ignored,
    unless they ask for nothing (false, 0, empty).
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True, strict=False
    )
    output_only: ClassVar[frozenset[str]] = frozenset()
    not_offered: ClassVar[frozenset[str]] = frozenset()

    @model_validator(mode="before")
    @classmethod
    def _sift(cls, body: object) -> object:
        if not isinstance(body, dict):
            return body
        for field in sorted(cls.not_offered & body.keys()):
            if body[field]:
                raise ValueError(f"'{field}' is not offered by the local cloud")
        ignored = cls.output_only | cls.not_offered
        return {name: value for name, value in body.items() if name not in ignored}

    def wire(self) -> Json:
        """The fields that were given, as JSON."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


def parse(model: type[M], body: Json, where: str) -> M:
    """Read a body into its model, or answer 400 with the name of the field that is wrong."""
    try:
        return model.model_validate(body)
    except ValidationError as error:
        raise invalid(_explain(error, where)) from error


def _explain(error: ValidationError, where: str) -> str:
    first = error.errors(include_url=False)[0]
    path = [where, *(str(part) for part in first["loc"])]
    if first["type"] == "extra_forbidden":
        at = ".".join(path[:-1])
        return f"Invalid JSON payload received. Unknown name \"{path[-1]}\" at '{at}': Cannot find field."
    return f"Invalid value at '{'.'.join(path)}': {first['msg']}"


def enum_reader(*names: str) -> Callable[[object], object]:
    """A validator that takes an enum by name or by number and gives its name."""

    def read(value: object) -> object:
        if isinstance(value, str) and value in names:
            return value
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(names):
            return names[value]
        raise ValueError(f"{value!r} is none of {', '.join(names)}")

    return read


def merge(model: type[Message], current: Json, new: Json, mask: str) -> Json:
    """Take over from `new` what an update mask names; without a mask, every field that `new` has."""
    paths = [path for path in mask.split(",") if path.strip()] or list(new)
    result = dict(current)
    for path in paths:
        steps = _steps(path.strip())
        fields = {field.alias for field in model.model_fields.values()} | model.output_only
        if steps[0] not in fields:
            raise invalid(f"Invalid update mask: unknown field '{path}'")
        result = _take(result, new, steps)
    return result


def _steps(path: str) -> list[str]:
    """Split a mask path; field names may come in snake case, keys of maps stay as they are."""
    steps: list[str] = []
    for part in path.split("."):
        in_map = bool(steps) and steps[-1] in _MAPS
        steps.append(part if in_map else to_camel(part) if "_" in part else part)
    return steps


def _take(current: Json, new: Json, steps: Sequence[str]) -> Json:
    head, rest = steps[0], steps[1:]
    result = dict(current)
    if rest:
        result[head] = _take(result.get(head) or {}, new.get(head) or {}, rest)
    elif head in new:
        result[head] = new[head]
    else:
        result.pop(head, None)
    return result


def paged(name: str, entries: Sequence[tuple[str, Json | str]], query: Mapping[str, str]) -> Json:
    """One page of a list answer, by `pageSize` and `pageToken`; entries are sorted by key.

    An empty page has no list at all, as Google's JSON leaves out what is empty.
    """
    after = _read_token(query.get("pageToken", ""))
    size = query.get("pageSize", "0")
    if not size.isdecimal():
        raise invalid(f"Invalid value at 'page_size': {size!r}")
    left = [(key, body) for key, body in entries if key > after]
    taken = left[: int(size) or len(left)]
    answer: dict[str, Any] = {name: [body for _, body in taken]} if taken else {}
    if len(taken) < len(left):
        answer["nextPageToken"] = base64.urlsafe_b64encode(taken[-1][0].encode()).decode()
    return answer


def _read_token(token: str) -> str:
    try:
        return base64.b64decode(token.encode(), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError) as error:
        raise invalid(f"The page token {token!r} is invalid") from error


def resource_missing(name: str) -> ApiError:
    """404 in the words of Pub/Sub, Scheduler and Functions."""
    return ApiError(404, "notFound", f"Resource not found (resource={name}).")


def resource_exists(name: str) -> ApiError:
    """409 in the words of Pub/Sub, Scheduler and Functions."""
    return ApiError(409, "alreadyExists", f"Resource already exists in the project (resource={name}).")
