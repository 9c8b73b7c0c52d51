"""Whatever predict returns as typed tensors: numpy by its dtype, Python's values by what holds them."""

import base64
import dataclasses
import datetime
import enum
import io
import json
from typing import Any

import ml_dtypes
import numpy as np
import pydantic
import pytest
from PIL import Image

from budget_server.errors import NotEncodable
from budget_server.tensors import BASE64, JSON_TEXT, Tensor, named_parts, tensor_of


@pytest.mark.parametrize(
    ("dtype", "datatype"),
    [
        ("bool", "BOOL"),
        *((f"{sign}int{bits}", f"{sign}int{bits}".upper()) for sign in ("", "u") for bits in (8, 16, 32, 64)),
        ("float16", "FP32"),
        ("float32", "FP32"),
        (">f4", "FP32"),
        ("float64", "FP64"),
        (ml_dtypes.bfloat16, "FP32"),
    ],
)
def test_an_arrays_dtype_is_the_datatype(dtype: Any, datatype: str) -> None:
    array = np.array([[1, 0, 1], [0, 0, 1]], dtype)
    tensor = tensor_of(array)
    assert tensor == Tensor(datatype, (2, 3), [1, 0, 1, 0, 0, 1])
    assert tensor_of(array.T).data == [1, 0, 0, 0, 1, 1]
    assert tensor_of(array[0, 0]) == Tensor(datatype, (), [1])
    assert tensor_of([array, array]) == Tensor(datatype, (2, 2, 3), [1, 0, 1, 0, 0, 1] * 2)
    assert tensor_of(list(array[0])) == Tensor(datatype, (3,), [1, 0, 1])
    json.dumps(tensor.output("x"))


class Colour(enum.Enum):
    RED = "red"


DAY = datetime.date(2026, 5, 4)


@pytest.mark.parametrize(
    ("value", "datatype", "shape", "data"),
    [
        (True, "BOOL", (), [True]),
        (7, "INT64", (), [7]),
        (7.5, "FP64", (), [7.5]),
        ("a", "BYTES", (), ["a"]),
        (Colour.RED, "BYTES", (), ["red"]),
        ([DAY, DAY], "BYTES", (2,), ["2026-05-04"] * 2),
        ([], "FP64", (0,), []),
        ([[], []], "FP64", (2, 0), []),
        ([1, 2.5], "FP64", (2,), [1.0, 2.5]),
        ([1, None], "FP64", (2,), [1.0, None]),
        ([[1, 2], [2.5, 3]], "FP64", (2, 2), [1.0, 2.0, 2.5, 3.0]),
        ([float("nan"), float("-inf"), 1.0], "FP64", (3,), [None, None, 1.0]),
        ([2**63, 1], "UINT64", (2,), [2**63, 1]),
        ((["a", "b"], ["c", "d"]), "BYTES", (2, 2), ["a", "b", "c", "d"]),
        ({3}, "INT64", (1,), [3]),
        (b"caf\xc3\xa9", "BYTES", (), ["café"]),
        ([b"a", "é"], "BYTES", (2,), ["a", "é"]),
        ([[np.float32(0.5), 1], [2, 3]], "FP64", (2, 2), [0.5, 1.0, 2.0, 3.0]),
        (np.array(["a", "é"]), "BYTES", (2,), ["a", "é"]),
        (np.array([[b"a"], [b"b"]]), "BYTES", (2, 1), ["a", "b"]),
        (np.array(["a", b"b"], object), "BYTES", (2,), ["a", "b"]),
        (np.array(["2026-05-04"], "datetime64[D]"), "BYTES", (1,), ["2026-05-04T00:00:00"]),
        (np.array([np.nan, np.inf, 1], "float32"), "FP32", (3,), [None, None, 1.0]),
        (np.ma.array([1, 2], mask=[False, True]), "FP64", (2,), [1.0, None]),
        (np.array([1.5], np.longdouble), "FP64", (1,), [1.5]),
    ],
)
def test_values_have_the_datatype_that_holds_them(
    value: Any, datatype: str, shape: tuple[int, ...], data: list[Any]
) -> None:
    tensor = tensor_of(value)
    assert tensor == Tensor(datatype, shape, data)
    assert list(map(type, tensor.data)) == list(map(type, data))


@pytest.mark.parametrize(
    ("value", "shape", "texts"),
    [
        ({"a": [1, None]}, (), ['{"a":[1,null]}']),
        ([{"a": 1}, {"é": 2}], (2,), ['{"a":1}', '{"é":2}']),
        ([[1], [2, 3]], (2,), ["[1]", "[2,3]"]),
        ([["a"], "b"], (2,), ['["a"]', '"b"']),
        (["a", None], (2,), ['"a"', "null"]),
        (["a", 1], (2,), ['"a"', "1"]),
        ([True, 1], (2,), ["true", "1"]),
        ([[True], [1]], (2, 1), ["true", "1"]),
        ([2**64], (1,), [str(2**64)]),
        ([-1, 2**63], (2,), ["-1", str(2**63)]),
        ([10**400, 0.5], (2,), [str(10**400), "0.5"]),
        (None, (), ["null"]),
        ([None], (1,), ["null"]),
        ([[{"a": 1}], [{"b": float("nan")}]], (2, 1), ['{"a":1}', '{"b":null}']),
    ],
)
def test_what_no_datatype_holds_is_json_text_for_each_item(
    value: Any, shape: tuple[int, ...], texts: list[str]
) -> None:
    assert tensor_of(value) == Tensor("BYTES", shape, texts, JSON_TEXT)


def test_an_output_says_how_its_texts_are_meant_and_has_at_least_one_dimension() -> None:
    assert tensor_of({"a": 1}).output("x") == {
        "name": "x",
        "shape": [1],
        "datatype": "BYTES",
        "parameters": {"content_type": "application/json"},
        "data": ['{"a":1}'],
    }
    assert tensor_of(1).output("x") == {"name": "x", "shape": [1], "datatype": "INT64", "data": [1]}


def test_bytes_that_are_no_text_and_images_are_base64() -> None:
    assert tensor_of([b"\xff", "a"]) == Tensor("BYTES", (2,), ["/w==", "YQ=="], BASE64)
    tensor = tensor_of(Image.new("RGB", (2, 3)))
    assert (tensor.shape, tensor.content_type) == ((), BASE64)
    assert Image.open(io.BytesIO(base64.b64decode(tensor.data[0]))).size == (2, 3)


@dataclasses.dataclass
class Point:
    x: int
    y: Any


class Model(pydantic.BaseModel):
    label: str


class Rows(pydantic.RootModel[list[int]]):
    pass


class Frame:
    """A pandas frame, as far as it is looked at."""

    columns = ("a", 1)

    @property
    def iloc(self) -> "Frame":
        return self

    def __getitem__(self, at: tuple[slice, int]) -> np.ndarray[Any, Any]:
        return np.arange(6, dtype="int32").reshape(3, 2)[at]


def test_what_has_names_has_an_output_for_each() -> None:
    assert named_parts({"a": 1, 2: 3, None: 4}) == {"a": 1, "2": 3, "null": 4}
    assert named_parts(Point(1, [2])) == {"x": 1, "y": [2]}
    assert named_parts(Model(label="a")) == {"label": "a"}
    columns = named_parts(Frame())
    assert columns is not None
    assert {name: tensor_of(column).data for name, column in columns.items()} == {
        "a": [0, 2, 4],
        "1": [1, 3, 5],
    }
    for nameless in (1, [1], "a", None, Point, Rows([1]), np.arange(3)):
        assert named_parts(nameless) is None
    assert tensor_of(Rows([1])) == Tensor("INT64", (1,), [1])


class TorchType:
    """torch's dtypes have no name, only a repr."""

    def __repr__(self) -> str:
        return "torch.float32"


class TorchTensor:
    dtype = TorchType()
    shape = (1, 2)

    def tolist(self) -> list[list[float]]:
        return [[0.5, float("nan")]]


class TensorflowTensor:
    dtype = "<dtype: 'int32'>"
    shape = (2,)

    def numpy(self) -> np.ndarray[Any, Any]:
        return np.array([1, 2], "int32")


def test_tensors_of_torch_and_tensorflow() -> None:
    assert tensor_of(TorchTensor()) == Tensor("FP32", (1, 2), [0.5, None])
    assert tensor_of(TensorflowTensor()) == Tensor("INT32", (2,), [1, 2])


@pytest.mark.parametrize(
    ("value", "place"),
    [
        (object(), "under the key 'p'"),
        ([1, object()], r"p\[1\]"),
        ([{"a": object()}], r"p\[0\]\.a"),
        (np.array([1j]), "complex"),
        (np.float32, "type"),
        ((item for item in [1]), "generator"),
        ([{"a": b"\xff"}], r"p\[0\]\.a.*bytes"),
    ],
)
def test_what_cannot_be_a_tensor_is_named(value: Any, place: str) -> None:
    with pytest.raises(NotEncodable, match=place):
        tensor_of(value, "p")


def test_what_contains_itself_is_refused() -> None:
    ring: list[Any] = []
    ring.append(ring)
    with pytest.raises(NotEncodable, match="contains itself"):
        tensor_of(ring)
