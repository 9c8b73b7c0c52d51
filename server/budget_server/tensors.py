"""What `predict` returned as tensors of the Open Inference Protocol: a datatype, a shape and flat data.

numpy, pandas and torch values are known by their shape, as in `results`, which also makes plain values of
everything that is no array. The protocol's own JSON is `openinference`.
"""

import base64
import dataclasses
import json
import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence, Set
from itertools import chain
from typing import Any

from budget_server.errors import NotEncodable
from budget_server.results import encode, native

JSON_TEXT = "application/json"
BASE64 = "base64"
"""MLServer's name for this way to carry bytes."""

_DATATYPES = {
    "bool": "BOOL",
    **{f"{sign}int{bits}": f"{sign}int{bits}".upper() for sign in ("", "u") for bits in (8, 16, 32, 64)},
    # Half precision has no form in JSON that KServe's client reads; as FP32 every value stays exact.
    "float16": "FP32",
    "bfloat16": "FP32",
    "float32": "FP32",
    "float64": "FP64",
}
_SCALARS = frozenset({bool, int, float, str, bytes, type(None)})
_NUMBERS = frozenset({int, float, type(None)})
_INTEGERS = (("INT64", -(2**63), 2**63 - 1), ("UINT64", 0, 2**64 - 1))
_LISTS = (list, tuple, Set, deque)


@dataclasses.dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor; `content_type` says what its texts are when they are not simply texts."""

    datatype: str
    shape: tuple[int, ...]
    data: list[Any]
    content_type: str | None = None

    def output(self, name: str) -> dict[str, Any]:
        """As the protocol writes it. A single value is a tensor of one element, which all clients read."""
        said: dict[str, Any] = {"name": name, "shape": list(self.shape or (1,)), "datatype": self.datatype}
        if self.content_type:
            said["parameters"] = {"content_type": self.content_type}
        return said | {"data": self.data}


def named_parts(result: Any) -> dict[str, Any] | None:
    """The entries of a dict, a pydantic model or a dataclass, the columns of a frame; None: no names."""
    if isinstance(result, type):
        return None
    if callable(getattr(result, "model_dump", None)):
        result = result.model_dump()
    if isinstance(result, Mapping):
        return {_text_of(key): value for key, value in result.items()}
    if dataclasses.is_dataclass(result):
        return {field.name: getattr(result, field.name) for field in dataclasses.fields(result)}
    if hasattr(result, "columns") and hasattr(result, "iloc"):
        return {_text_of(name): result.iloc[:, index] for index, name in enumerate(result.columns)}
    return None


def tensor_of(value: Any, path: str = "") -> Tensor:
    """The value as one tensor; `path` is where it stood in what predict returned."""
    try:
        return _tensor(value, path)
    except RecursionError:
        raise NotEncodable("predict returned a value that contains itself or is nested too deeply.") from None


def _tensor(value: Any, path: str) -> Tensor:
    if isinstance(value, bytes | bytearray | memoryview):
        return _scalars([bytes(value)], (), path)
    if hasattr(value, "getbands") and hasattr(value, "mode"):
        return _scalars([encode(value).body], (), path)
    if _is_array(value):
        return _array(value, path)
    if isinstance(value, _LISTS):
        return _list(list(value), path)
    plain = native(value, path)
    if isinstance(plain, list):
        return _list(plain, path)
    return _json_texts([plain], (), path) if isinstance(plain, dict) else _scalars([plain], (), path)


def _is_array(value: Any) -> bool:
    if isinstance(value, type) or not hasattr(value, "dtype") or not hasattr(value, "shape"):
        return False
    return callable(getattr(value, "tolist", None)) or callable(getattr(value, "numpy", None))


def _array(value: Any, path: str) -> Tensor:
    if not callable(getattr(value, "tolist", None)):
        value = value.numpy()  # TensorFlow's
    name = getattr(value.dtype, "name", None) or str(value.dtype).removeprefix("torch.")
    datatype = _DATATYPES.get(name)
    if hasattr(value, "filled") or getattr(value.dtype, "kind", "") in ("O", "S"):
        # Masked, Python's objects, or bytes: what each element is decides.
        return _tensor(value.tolist(), path)
    if datatype is None:
        return _tensor(native(value, path), path)
    data, shape = value.tolist(), tuple(int(size) for size in value.shape)
    if not shape:
        data = [data]
    for _ in shape[1:]:
        data = list(chain.from_iterable(data))
    return Tensor(datatype, shape, _finite(data) if datatype.startswith("FP") else data)


def _list(items: list[Any], path: str) -> Tensor:
    if _SCALARS.issuperset(map(type, items)):
        return _scalars(items, (len(items),), path)
    parts = [_tensor(item, f"{path}[{index}]") for index, item in enumerate(items)]
    first = parts[0]
    shape = (len(items), *first.shape)
    if any(part.shape != first.shape or part.content_type != first.content_type for part in parts):
        return _json_texts(items, (len(items),), path)
    data = list(chain.from_iterable(part.data for part in parts))
    if any(part.datatype != first.datatype for part in parts):
        return _scalars(data, shape, path)
    return Tensor(first.datatype, shape, data, first.content_type)


def _scalars(items: list[Any], shape: tuple[int, ...], path: str) -> Tensor:
    """The datatype that holds all the items, which are of `_SCALARS`."""
    kinds = set(map(type, items))
    if kinds == {bool}:
        return Tensor("BOOL", shape, items)
    if kinds == {int}:
        low, high = min(items), max(items)
        for datatype, lowest, highest in _INTEGERS:
            if lowest <= low and high <= highest:
                return Tensor(datatype, shape, items)
    elif kinds <= _NUMBERS and kinds != {type(None)}:
        try:
            return Tensor("FP64", shape, _finite(items))
        except OverflowError:
            pass
    elif kinds == {str}:
        return Tensor("BYTES", shape, sound(items))
    elif bytes in kinds and kinds <= {bytes, str}:
        return _texts(items, shape)
    return _json_texts(items, shape, path)


def _finite(items: Iterable[Any]) -> list[float | None]:
    """NaN and infinity have no JSON form; of null, numpy makes NaN again."""
    return [float(item) if item is not None and math.isfinite(item) else None for item in items]


def _texts(items: Sequence[bytes | str], shape: tuple[int, ...]) -> Tensor:
    whole = [item.encode("utf-8", "replace") if isinstance(item, str) else item for item in items]
    try:
        return Tensor("BYTES", shape, [item.decode() for item in whole])
    except UnicodeDecodeError:
        return Tensor("BYTES", shape, [base64.b64encode(item).decode() for item in whole], BASE64)


def _json_texts(items: Sequence[Any], shape: tuple[int, ...], path: str) -> Tensor:
    plain = [native(item, f"{path}[{index}]" if shape else path) for index, item in enumerate(items)]
    texts = [json.dumps(item, allow_nan=False, ensure_ascii=False, separators=(",", ":")) for item in plain]
    return Tensor("BYTES", shape, sound(texts), JSON_TEXT)


def _text_of(key: Any) -> str:
    """A key as the other routes write it."""
    return sound([str(next(iter(native({key: None}))))])[0]


def sound(texts: list[str]) -> list[str]:
    """A lone surrogate is a legal Python string but not UTF-8; one odd character must not cost the answer."""
    try:
        "".join(texts).encode()
    except UnicodeEncodeError:
        return [text.encode("utf-8", "replace").decode() for text in texts]
    return texts
