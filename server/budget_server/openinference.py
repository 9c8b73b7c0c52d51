"""The Open Inference Protocol, version 2, as JSON over HTTP: what KServe and Triton clients speak.

Pure translation, without the binary extension: from a request to the payload that `predict` gets, from what
it returned (made tensors by `tensors`) to an answer, and the texts about server and model.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version as installed_version
from itertools import accumulate, chain
from operator import mul
from typing import Any

from budget_server.errors import InvalidBody, NotFound, NotReady
from budget_server.tensors import named_parts, sound, tensor_of

UNNAMED = "output"
"""The one output of a predictor that returns no dict."""
PLATFORM = "budgetml_python"

_MOST_DIMENSIONS = 32
_MOST_ELEMENTS = 2**63
_NO_BINARY = (
    "this server reads and writes JSON only. Send the data as JSON: "
    "in tritonclient set_data_from_numpy(…, binary_data=False), in kserve the same or a list as data."
)
_RANGES = {
    f"{sign}INT{bits}": (0, 2**bits - 1) if sign else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    for sign in ("", "U")
    for bits in (8, 16, 32, 64)
}
_LARGEST = {
    "FP16": 65504.0,
    "BF16": (2 - 2**-7) * 2.0**127,
    "FP32": (2 - 2**-23) * 2.0**127,
    "FP64": math.inf,
}
_DATATYPES = ("BOOL", *_RANGES, *_LARGEST, "BYTES")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a request says beside its inputs."""

    id: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()
    """Names of the outputs to answer with; none: all."""


def model_name(deployment: str) -> str:
    """The model's name within the protocol: "default/iris" is served as "iris"."""
    return deployment.rpartition("/")[2]


def check_model(asked: str, asked_version: str | None, name: str, version: str) -> None:
    """Refuse what is asked of a model or version that is not served here."""
    if asked != name:
        raise NotFound(f"There is no model of this name here; this server has {name!r}.")
    if asked_version is not None and asked_version != version:
        instead = f", or ask for {version!r}" if version else ""
        raise NotFound(f"This version is not served; leave it out of the path{instead}.")


def check_headers(headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Refuse a body that is not plain JSON, before it is read; takes the headers of an ASGI scope."""
    for name, value in headers:
        if name == b"inference-header-content-length":
            raise InvalidBody(f"The request carries binary tensors; {_NO_BINARY}")
        if name == b"content-encoding" and value.strip().lower() != b"identity":
            raise InvalidBody("The body is compressed; send it without Content-Encoding.")


def server_live() -> dict[str, Any]:
    """The answer of /v2/health/live."""
    return {"live": True}


def server_ready(ready: bool, reason: str) -> dict[str, Any]:
    """The answer of /v2/health/ready, or why not."""
    if not ready:
        raise NotReady(reason)
    return {"ready": True}


def model_ready(name: str, ready: bool, reason: str) -> dict[str, Any]:
    """The answer of /v2/models/{name}/ready, or why not."""
    return {"name": name, **server_ready(ready, reason)}


def server_metadata() -> dict[str, Any]:
    """The answer of /v2."""
    return {"name": "budgetml", "version": installed_version("budget-server"), "extensions": []}


def metadata(name: str, version: str) -> dict[str, Any]:
    """The answer of /v2/models/{name}.

    A plain class does not say what it takes; KServe and MLServer list no tensors in that case either.
    """
    versions = {"versions": [version]} if version else {}
    return {"name": name, **versions, "platform": PLATFORM, "inputs": [], "outputs": []}


def payload_of(body: Any) -> tuple[dict[str, Any], Wanted]:
    """The inputs by name, each as lists nested in the tensor's shape; and the rest of the request."""
    if not isinstance(body, dict) or not isinstance(body.get("inputs"), list):
        raise InvalidBody('Send a JSON object with "inputs", a list of tensors.')
    identity = body.get("id")
    if identity is not None and not isinstance(identity, str):
        raise InvalidBody('"id" must be a text.')
    wanted = Wanted(identity, _parameters(body, "The request"), _outputs(body.get("outputs")))
    payload: dict[str, Any] = {}
    for index, tensor in enumerate(body["inputs"]):
        name = _name(tensor, f"inputs[{index}]")
        if name in payload:
            raise InvalidBody(f"Input {_quoted(name)} is there twice.")
        payload[name] = _value(tensor, f"Input {_quoted(name)}")
    return payload, wanted


def response_of(result: Any, wanted: Wanted, name: str, version: str) -> dict[str, Any]:
    """The answer to an inference request: a tensor for each entry of the result, or one named "output"."""
    named = named_parts(result)
    parts = {UNNAMED: result} if named is None else named
    for output in wanted.outputs:
        if output not in parts:
            there = ", ".join(map(_quoted, parts)) or "none"
            raise InvalidBody(f"The model has no output {_quoted(output)}. Its outputs are: {there}.")
    answer: dict[str, Any] = {"model_name": name}
    if version:
        answer["model_version"] = version
    if wanted.id is not None:
        answer["id"] = sound([wanted.id])[0]
    answer["outputs"] = [
        tensor_of(parts[output], "" if named is None else output).output(output)
        for output in wanted.outputs or parts
    ]
    return answer


def _quoted(name: str) -> str:
    return repr(name[:100])


def _name(tensor: Any, where: str) -> str:
    if not isinstance(tensor, dict) or not isinstance(tensor.get("name"), str) or not tensor["name"]:
        raise InvalidBody(f'{where} must be an object with a "name".')
    return str(tensor["name"])


def _parameters(holder: dict[str, Any], where: str) -> dict[str, Any]:
    parameters = holder.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise InvalidBody(f'{where}: "parameters" must be an object.')
    for key in ("shared_memory_region", "classification"):
        if key in parameters:
            raise InvalidBody(f"{where}: this server has no {key}; leave the parameter out.")
    return parameters


def _outputs(outputs: Any) -> tuple[str, ...]:
    """The names. A wish for binary data is answered as JSON, which clients that wish it read as well."""
    if outputs is None:
        return ()
    if not isinstance(outputs, list):
        raise InvalidBody('"outputs" must be a list of objects, each with a "name".')
    names = [_name(output, f"outputs[{index}]") for index, output in enumerate(outputs)]
    for name, output in zip(names, outputs, strict=True):
        _parameters(output, f"Output {_quoted(name)}")
    return tuple(dict.fromkeys(names))


def _value(tensor: dict[str, Any], where: str) -> Any:
    if "binary_data_size" in _parameters(tensor, where):
        raise InvalidBody(f"{where} is sent as binary data; {_NO_BINARY}")
    datatype = tensor.get("datatype")
    if datatype not in _DATATYPES:
        raise InvalidBody(f'{where}: "datatype" must be one of {", ".join(_DATATYPES)}.')
    shape = _shape(tensor.get("shape"), where)
    data = tensor.get("data")
    if not isinstance(data, list):
        raise InvalidBody(f'{where}: "data" must be a list.')
    return _nested(_checked(_flat(data, shape, where), datatype, where), shape)


def _shape(shape: Any, where: str) -> tuple[int, ...]:
    if not isinstance(shape, list) or any(
        type(size) is not int or not 0 <= size < _MOST_ELEMENTS for size in shape
    ):
        raise InvalidBody(f'{where}: "shape" must be a list of whole numbers from 0 on.')
    if len(shape) > _MOST_DIMENSIONS:
        raise InvalidBody(f'{where}: "shape" may have at most {_MOST_DIMENSIONS} dimensions.')
    return tuple(shape)


def _flat(data: list[Any], shape: tuple[int, ...], where: str) -> list[Any]:
    """The elements in row-major order, of flat data or of data nested as the shape says."""
    count = math.prod(shape)
    items = data
    if data and isinstance(data[0], list):
        groups: list[Any] = [data]
        for size in shape:
            if any(type(group) is not list or len(group) != size for group in groups):
                raise InvalidBody(f'{where}: the lists of "data" do not have the shape {list(shape)}.')
            groups = list(chain.from_iterable(groups))
        items = groups
    if len(items) != count:
        raise InvalidBody(
            f'{where}: the shape {list(shape)} needs {count} elements, "data" has {len(items)}.'
        )
    # A few bytes of zeros and ones in a shape must not cost gigabytes of lists.
    if sum(accumulate(shape[:-1], mul)) > 4 * count + 1024:
        raise InvalidBody(f'{where}: "shape" has too many dimensions of one or zero for its data.')
    return items


def _checked(items: list[Any], datatype: str, where: str) -> list[Any]:
    """The elements, floats for a datatype of floats; what does not fit the datatype is refused."""
    kinds = set(map(type, items))
    if datatype in _LARGEST:
        return _floats(items, kinds, datatype, where)
    kind = {"BOOL": bool, "BYTES": str}.get(datatype, int)
    if kinds - {kind}:
        said = {bool: "true or false", str: "a text", int: "a whole number"}[kind]
        raise InvalidBody(f"{where}: every element of a {datatype} tensor must be {said}.")
    if kind is int and items:
        low, high = _RANGES[datatype]
        if min(items) < low or max(items) > high:
            raise InvalidBody(f"{where}: an element is outside of {datatype}, which is {low} to {high}.")
    return items


def _floats(items: list[Any], kinds: set[type], datatype: str, where: str) -> list[float]:
    """null is NaN, as our own answers write it; Python's clients also send NaN and Infinity as such."""
    if kinds - {float, int, type(None)}:
        raise InvalidBody(f"{where}: every element of a {datatype} tensor must be a number or null.")
    largest = _LARGEST[datatype]
    try:
        floats = items if kinds == {float} else [math.nan if item is None else float(item) for item in items]
        fits = largest == math.inf or not any(largest < abs(item) < math.inf for item in floats)
    except OverflowError:
        fits = False
    if not fits:
        raise InvalidBody(f"{where}: an element is too large for {datatype}.")
    return floats


def _nested(items: list[Any], shape: tuple[int, ...]) -> Any:
    if not shape:
        return items[0]
    if not items:
        return _empty(shape)
    for size in reversed(shape[1:]):
        items = [items[start : start + size] for start in range(0, len(items), size)]
    return items


def _empty(shape: tuple[int, ...]) -> list[Any]:
    return [_empty(shape[1:]) for _ in range(shape[0])] if len(shape) > 1 else []
