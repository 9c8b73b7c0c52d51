"""From what `predict` returned to the bytes of an answer: strict JSON, an image, or bytes as they are.

Models return numpy, pandas and torch values; these are known by their shape here, so that none of those
libraries is needed. NaN and infinity have no JSON form and become null.
"""

import dataclasses
import datetime
import decimal
import enum
import io
import json
import math
import pathlib
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Set
from typing import Any, NamedTuple

import orjson

from budget_server.errors import NotEncodable

_OPTIONS = (
    orjson.OPT_SERIALIZE_NUMPY
    | orjson.OPT_PASSTHROUGH_DATACLASS
    | orjson.OPT_PASSTHROUGH_DATETIME
    | orjson.OPT_PASSTHROUGH_SUBCLASS
)
_PNG_MODES = frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "I;16"})
_CONVERTED = {"La": "LA", "RGBa": "RGBA", "PA": "RGBA", "F": "L", "I": "I;16"}
"""What becomes of the other modes; those that are not here become RGB."""


class Encoded(NamedTuple):
    """A complete answer; a tuple, because one is made for every request."""

    body: bytes
    media_type: bytes = b"application/json"


def quick(value: Any) -> Encoded | None:
    """The common answers at the speed of orjson; None: `encode` can say more, and may take longer."""
    try:
        return Encoded(orjson.dumps(value, default=_default, option=_OPTIONS))
    except TypeError:
        return None


def encode(value: Any) -> Encoded:
    """An answer the caller can read, whatever sensible thing the model returned."""
    if isinstance(value, bytes | bytearray | memoryview):
        return Encoded(bytes(value), b"application/octet-stream")
    if _is_image(value):
        return Encoded(_png(value), b"image/png")
    try:
        text = json.dumps(native(value), allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    except RecursionError:
        raise NotEncodable("predict returned a value that contains itself or is nested too deeply.") from None
    # A lone surrogate is a legal Python string but not UTF-8; one odd character must not cost the answer.
    return Encoded(text.encode("utf-8", "replace"))


def _default(value: Any) -> Any:
    """What orjson does not know, one level at a time; what it must not do itself is passed on as well."""
    for types, convert in _CONVERTERS:
        if isinstance(value, types):
            return convert(value, "")
    if isinstance(value, type):
        raise TypeError
    return _by_shape(value, "")


def _is_image(value: Any) -> bool:
    """A Pillow image, known without importing Pillow."""
    return callable(getattr(value, "save", None)) and hasattr(value, "getbands") and hasattr(value, "mode")


def _png(image: Any) -> bytes:
    if image.mode not in _PNG_MODES:
        image = image.convert(_CONVERTED.get(image.mode, "RGB"))
    file = io.BytesIO()
    image.save(file, format="PNG", compress_level=1)
    return file.getvalue()


def native(value: Any, path: str = "") -> Any:
    """The value in terms of dict, list, str, int, finite float, bool and None."""
    for types, convert in _CONVERTERS:
        if isinstance(value, types):
            return convert(value, path)
    if isinstance(value, type):
        raise _refusal(value, path)
    return _by_shape(value, path)


def _mapping(value: Mapping[Any, Any], path: str) -> dict[str, Any]:
    return {_key(key, path): native(item, _join(path, key)) for key, item in value.items()}


def _items(value: Iterable[Any], path: str) -> list[Any]:
    return [native(item, f"{path}[{index}]") for index, item in enumerate(value)]


def _moment(value: Any, _path: str) -> str | None:
    return value.isoformat() if value == value else None  # noqa: PLR0124 - pandas' NaT differs from itself


_CONVERTERS: tuple[tuple[tuple[type, ...], Callable[[Any, str], Any]], ...] = (
    ((type(None), bool), lambda value, _path: value),
    ((enum.Enum,), lambda value, path: native(value.value, path)),
    ((str,), lambda value, _path: str(value)),
    ((int,), lambda value, _path: int(value)),
    ((float,), lambda value, _path: float(value) if math.isfinite(value) else None),
    ((Mapping,), _mapping),
    ((list, tuple, Set, deque), _items),
    ((uuid.UUID, pathlib.PurePath), lambda value, _path: str(value)),
    ((datetime.date, datetime.time), _moment),
    ((datetime.timedelta,), lambda value, path: native(value.total_seconds(), path)),
    ((decimal.Decimal,), lambda value, path: native(float(value), path)),
)
"""In order: the first that fits decides (a bool is an int, an enum may be a str)."""


def _by_shape(value: Any, path: str) -> Any:
    """Dataclasses and pydantic models; and what is known without importing its library."""
    if dataclasses.is_dataclass(value):
        return _mapping({field.name: getattr(value, field.name) for field in dataclasses.fields(value)}, path)
    if callable(getattr(value, "model_dump", None)):
        return native(value.model_dump(), path)
    if type(value).__name__ == "NAType":
        return None
    return _scientific(value, path)


def _scientific(value: Any, path: str) -> Any:
    """numpy arrays and scalars, pandas frames and series, tensors."""
    if hasattr(value, "columns") and callable(getattr(value, "to_dict", None)):
        return native(value.to_dict(orient="records"), path)
    if hasattr(value, "dtype") and callable(getattr(value, "tolist", None)):
        if getattr(value.dtype, "kind", "") == "M":
            value = value.astype("datetime64[us]")  # of finer units numpy makes integers
        plain = value.tolist()
        # numpy's long double gives itself back.
        return native(float(plain) if type(plain) is type(value) else plain, path)
    if hasattr(value, "dtype") and callable(getattr(value, "numpy", None)):
        return native(value.numpy(), path)
    raise _refusal(value, path)


def _key(key: Any, path: str) -> str:
    plain = native(key, _join(path, key))
    if isinstance(plain, str):
        return plain
    if plain is None or isinstance(plain, bool | int | float):
        return json.dumps(plain)
    raise _refusal(key, _join(path, key))


def _join(path: str, key: Any) -> str:
    return f"{path}.{key}" if path else str(key)


def _refusal(value: Any, path: str) -> NotEncodable:
    kind = type(value)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    place = f"under the key {path[:200]!r}" if path else "as a whole"
    return NotEncodable(f"predict returned a value that JSON cannot hold: {place} it is of type {name}.")
