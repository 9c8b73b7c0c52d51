"""Anything a model sensibly returns becomes strict JSON; the rest is named."""

import dataclasses
import datetime
import decimal
import enum
import io
import json
import math
import threading
import uuid
from collections import OrderedDict, namedtuple
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pydantic
import pytest
from fastapi import Response
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from budget_server.errors import NotEncodable
from budget_server.results import Encoded, encode, quick


def strict(value: Any) -> Any:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    thorough = json.loads(encode(value).body, parse_constant=refuse)
    fast = quick(value)
    if fast is not None:
        assert json.loads(fast.body, parse_constant=refuse) == thorough
    return thorough


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


@dataclasses.dataclass
class Box:
    corner: Any
    score: float


class Answer(pydantic.BaseModel):
    label: str
    score: float


class Frame:
    """Shaped like a pandas DataFrame."""

    columns = ("a",)

    def to_dict(self, orient: str) -> list[dict[str, Any]]:
        assert orient == "records"
        return [{"a": np.float64("nan")}, {"a": np.int8(2)}]


class Tensor:
    """Shaped like a TensorFlow tensor: no tolist, but numpy()."""

    dtype = "float32"

    def numpy(self) -> Any:
        return np.array([1.5], dtype=np.float32)


class NotATime(datetime.datetime):
    """Shaped like pandas' NaT."""

    def __eq__(self, other: object) -> bool:
        return False

    __hash__ = None  # type: ignore[assignment]


Point = namedtuple("Point", "x y")


def test_numpy_nan_and_infinity() -> None:
    result = {
        "n": np.int64(3),
        "ok": np.bool_(True),
        "p": np.float32(0.5),
        "v": np.array([1.0, np.nan, np.inf]),
    }
    answer = strict(result)
    assert answer == {"n": 3, "ok": True, "p": 0.5, "v": [1.0, None, None]}
    assert answer["ok"] is True
    assert type(answer["n"]) is int


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        ("é\n", "é\n"),
        (2**70, 2**70),
        (math.nan, None),
        (-math.inf, None),
        ((1, 2), [1, 2]),
        (frozenset({7}), [7]),
        (Point(1, 2), [1, 2]),
        ({1: "a", None: "b", False: "c", 1.5: "d"}, {"1": "a", "null": "b", "false": "c", "1.5": "d"}),
        ({np.int64(4): 1, Colour.RED: 2}, {"4": 1, "red": 2}),
        (OrderedDict(a=1), {"a": 1}),
        (Colour.RED, "red"),
        (Level.HIGH, 3),
        (Box(np.array([1]), math.inf), {"corner": [1], "score": None}),
        (Answer(label="a", score=math.nan), {"label": "a", "score": None}),
        (datetime.datetime(2026, 1, 2, 3, tzinfo=datetime.UTC), "2026-01-02T03:00:00+00:00"),
        (datetime.date(2026, 1, 2), "2026-01-02"),
        (datetime.timedelta(minutes=1), 60.0),
        (NotATime(2026, 1, 1), None),
        (decimal.Decimal("1.5"), 1.5),
        (decimal.Decimal("NaN"), None),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (PurePosixPath("/a"), "/a"),
        (np.longdouble(1.5), 1.5),
        (np.float64("nan"), None),
        (np.str_("x"), "x"),
        (np.datetime64("2026-01-02"), "2026-01-02T00:00:00"),
        (np.datetime64("2026-01-02T03:04:05.123456789"), "2026-01-02T03:04:05.123456"),
        (np.array(["NaT", "2026-01-02"], dtype="datetime64[s]"), [None, "2026-01-02T00:00:00"]),
        (np.zeros((0, 2)), []),
        (np.array([[1, 2]], dtype=np.uint8), [[1, 2]]),
        (np.array(["a"]), ["a"]),
        (Frame(), [{"a": None}, {"a": 2}]),
        (Tensor(), [1.5]),
        ("\ud800", "?"),
    ],
)
def test_becomes_json(value: Any, expected: Any) -> None:
    assert strict(value) == expected


@pytest.mark.parametrize(
    ("value", "place", "kind"),
    [
        ({"model": {"lock": [1, threading.Event()]}}, "'model.lock[1]'", "threading.Event"),
        (object(), "as a whole", "type object"),
        ({"t": int}, "'t'", "type type"),
        ({"b": b"\x00"}, "'b'", "bytes"),
        ({(1, 2): 3}, "'(1, 2)'", "tuple"),
        ({"c": np.array([1j])}, "'c[0]'", "complex"),
        ((x for x in ""), "as a whole", "generator"),
    ],
)
def test_names_what_cannot_be_encoded(value: Any, place: str, kind: str) -> None:
    with pytest.raises(NotEncodable) as caught:
        encode(value)
    assert place in str(caught.value)
    assert kind in str(caught.value)


def test_a_value_that_contains_itself() -> None:
    ring: list[Any] = []
    ring.append(ring)
    with pytest.raises(NotEncodable, match="contains itself"):
        encode(ring)


@pytest.mark.parametrize("value", [b"\x89PNG", bytearray(b"\x89PNG"), memoryview(b"\x89PNG")])
def test_bytes_are_sent_as_they_are(value: Any) -> None:
    assert encode(value) == Encoded(b"\x89PNG", b"application/octet-stream")
    assert quick(value) is None


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "1", "P", "CMYK", "F", "LA", "La", "YCbCr", "HSV"])
def test_an_image_is_sent_as_png(mode: str) -> None:
    answer = encode(Image.new(mode, (3, 2)))
    assert answer.media_type == b"image/png"
    assert Image.open(io.BytesIO(answer.body)).size == (3, 2)
    assert quick(Image.new(mode, (3, 2))) is None


def test_a_response_is_left_to_others() -> None:
    assert quick(Response("teapot", status_code=418)) is None


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(_json)
def test_plain_values_survive_but_for_what_json_lacks(value: Any) -> None:
    def expected(item: Any) -> Any:
        if isinstance(item, dict):
            return {expected(key): expected(inner) for key, inner in item.items()}
        if isinstance(item, list):
            return [expected(inner) for inner in item]
        return None if isinstance(item, float) and not math.isfinite(item) else item

    assert strict(value) == expected(value)
