"""Requests and answers of the Open Inference Protocol, translated without a server."""

import json
import math
from dataclasses import fields
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from budget_server.errors import InvalidBody, NotFound, NotReady
from budget_server.openinference import (
    Wanted,
    check_headers,
    check_model,
    metadata,
    model_name,
    model_ready,
    payload_of,
    response_of,
    server_live,
    server_metadata,
    server_ready,
)

RANGES = {
    f"{sign}INT{bits}": (0, 2**bits - 1) if sign else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    for sign in ("", "U")
    for bits in (8, 16, 32, 64)
}


def tensor(shape: Any, datatype: Any, data: Any, **more: Any) -> dict[str, Any]:
    return {"name": "x", "shape": shape, "datatype": datatype, "data": data, **more}


def read(shape: Any, datatype: Any, data: Any, **more: Any) -> Any:
    payload, _ = payload_of({"inputs": [tensor(shape, datatype, data, **more)]})
    return payload["x"]


def refused(body: Any) -> str:
    with pytest.raises(InvalidBody) as caught:
        payload_of(body)
    return caught.value.detail


def refused_tensor(shape: Any, datatype: Any, data: Any, **more: Any) -> str:
    return refused({"inputs": [tensor(shape, datatype, data, **more)]})


def test_a_request_becomes_a_payload_and_the_rest_is_kept() -> None:
    payload, wanted = payload_of(
        {
            "id": "42",
            "model_name": "iris",  # KServe's client says it again
            "parameters": {"sequence_id": 7, "binary_data_output": True},
            "inputs": [
                {"name": "a", "shape": [2, 2], "datatype": "UINT32", "data": [1, 2, 3, 4]},
                {"name": "b", "shape": [1], "datatype": "BOOL", "data": [True], "parameters": {"k": 1}},
                {"name": "c", "shape": [1, 2], "datatype": "BYTES", "data": ["é", ""], "parameters": None},
            ],
            "outputs": [{"name": "p", "parameters": {"binary_data": True}}, {"name": "q"}, {"name": "p"}],
        }
    )
    assert payload == {"a": [[1, 2], [3, 4]], "b": [True], "c": [["é", ""]]}
    assert wanted == Wanted("42", {"sequence_id": 7, "binary_data_output": True}, ("p", "q"))


def test_what_a_request_leaves_out() -> None:
    assert payload_of({"inputs": []}) == ({}, Wanted())
    assert payload_of({"inputs": [], "id": None, "parameters": None, "outputs": None}) == ({}, Wanted())


@pytest.mark.parametrize(
    ("shape", "data", "value"),
    [
        ([4], [1, 2, 3, 4], [1, 2, 3, 4]),
        ([2, 2], [[1, 2], [3, 4]], [[1, 2], [3, 4]]),
        ([2, 1, 2], [1, 2, 3, 4], [[[1, 2]], [[3, 4]]]),
        ([], [5], 5),
        ([1], [5], [5]),
        ([1, 1], [5], [[5]]),
        ([0], [], []),
        ([2, 0], [], [[], []]),
        ([2, 0], [[], []], [[], []]),
        ([0, 3], [], []),
        ([2, 0, 3], [], [[], []]),
    ],
)
def test_data_flat_or_nested_gets_the_tensors_shape(shape: list[int], data: list[Any], value: Any) -> None:
    assert read(shape, "INT64", data) == value


@pytest.mark.parametrize(
    ("shape", "data"),
    [
        ([2, 2], [1, 2, 3]),
        ([2, 2], [[1, 2], [3]]),
        ([2, 2], [[1, 2], 3]),
        ([2, 2], [[1, 2, 3, 4]]),
        ([4], [[1, 2], [3, 4]]),
        ([], []),
        ([], [[5]]),
        ([3], []),
        ([2, 0], [[], [], []]),
        ([1], [[5]]),
    ],
)
def test_data_of_another_shape_is_refused(shape: list[int], data: list[Any]) -> None:
    assert "Input 'x'" in refused_tensor(shape, "INT64", data)


@pytest.mark.parametrize(
    "shape", [None, 3, "3", [-1], [True], [1.0], ["1"], [None], [1] * 33, [2**63], [10**4000]]
)
def test_a_shape_is_a_short_list_of_whole_numbers(shape: Any) -> None:
    assert '"shape"' in refused_tensor(shape, "INT64", [1])


@pytest.mark.parametrize("shape", [[10**9, 0], [10**6, 10**6, 0], [100_000, *[1] * 31]])
def test_a_short_request_cannot_cost_gigabytes_of_lists(shape: list[int]) -> None:
    assert "too many dimensions" in refused_tensor(shape, "BOOL", [True] * math.prod(shape))


@pytest.mark.parametrize("datatype", [None, "int64", "INT", "STRING", "", 5, ["INT64"], {}])
def test_a_datatype_is_one_of_the_protocols(datatype: Any) -> None:
    assert "FP32" in refused_tensor([1], datatype, [1])


@pytest.mark.parametrize(
    ("datatype", "item"),
    [
        ("INT64", 1.0),
        ("INT64", True),
        ("INT64", None),
        ("INT64", "1"),
        ("INT64", {}),
        ("BOOL", 1),
        ("BOOL", "true"),
        ("BOOL", None),
        ("BYTES", 1),
        ("BYTES", None),
        ("FP32", True),
        ("FP32", "1.5"),
        ("FP32", {}),
        ("FP32", 3.5e38),
        ("FP32", -(10**39)),
        ("FP16", 65505),
        ("BF16", 3.4e38),
        ("FP64", 10**400),
    ],
)
def test_an_element_that_is_not_of_the_datatype_is_refused(datatype: str, item: Any) -> None:
    assert datatype in refused_tensor([1], datatype, [item])


@pytest.mark.parametrize(("datatype", "limits"), RANGES.items())
def test_whole_numbers_have_the_range_of_their_datatype(datatype: str, limits: tuple[int, int]) -> None:
    low, high = limits
    assert read([2], datatype, [low, high]) == [low, high]
    for outside in (low - 1, high + 1):
        assert str(high) in refused_tensor([2], datatype, [low, outside])


@pytest.mark.parametrize("datatype", ["FP16", "BF16", "FP32", "FP64"])
def test_numbers_become_floats_and_null_is_nan(datatype: str) -> None:
    value = read([5], datatype, [1, -0.5, None, math.inf, math.nan])
    assert [type(item) for item in value] == [float] * 5
    assert str(value) == "[1.0, -0.5, nan, inf, nan]"


@pytest.mark.parametrize(
    ("dtype", "datatype"), [(np.float16, "FP16"), (np.float32, "FP32"), (np.float64, "FP64")]
)
def test_the_largest_float_of_each_width_is_taken(dtype: Any, datatype: str) -> None:
    largest = float(np.finfo(dtype).max)
    assert read([2], datatype, [largest, -largest]) == [largest, -largest]


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        "x",
        {},
        {"inputs": None},
        {"inputs": {"x": 1}},
        {"inputs": [1]},
        {"inputs": [{}]},
        {"inputs": [{"name": ""}]},
        {"inputs": [{"name": 1}]},
        {"inputs": [tensor([1], "INT64", [1]), tensor([1], "INT64", [1])]},
        {"inputs": [tensor([1], "INT64", None)]},
        {"inputs": [tensor([1], "INT64", "1")]},
        {"inputs": [tensor([1], "INT64", [1], parameters=[1])]},
        {"inputs": [{"name": "x", "shape": [1], "datatype": "INT64"}]},
        {"inputs": [], "id": 7},
        {"inputs": [], "parameters": "p"},
        {"inputs": [], "outputs": "p"},
        {"inputs": [], "outputs": ["p"]},
        {"inputs": [], "outputs": [{"name": None}]},
        {"inputs": [], "outputs": [{"name": "p", "parameters": {"classification": 3}}]},
        {"inputs": [], "outputs": [{"name": "p", "parameters": {"shared_memory_region": "r"}}]},
    ],
)
def test_what_is_no_request_is_refused(body: Any) -> None:
    assert refused(body)


def test_binary_tensors_are_refused_with_the_remedy() -> None:
    body = {
        "inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "parameters": {"binary_data_size": 4}}]
    }
    assert "binary_data=False" in refused(body)
    with pytest.raises(InvalidBody, match="binary_data=False"):
        check_headers([(b"accept", b"*/*"), (b"inference-header-content-length", b"92")])
    with pytest.raises(InvalidBody, match="Content-Encoding"):
        check_headers([(b"content-encoding", b"gzip")])
    check_headers([(b"content-type", b"application/json"), (b"content-encoding", b"identity")])


def answer(result: Any, *outputs: str) -> dict[str, Any]:
    said = response_of(result, Wanted(outputs=outputs), "iris", "r1")
    json.dumps(said, allow_nan=False)
    return {output.pop("name"): output for output in said["outputs"]}


def test_the_answer_says_which_model_and_request_it_belongs_to() -> None:
    outputs = [{"name": "output", "shape": [1], "datatype": "INT64", "data": [1]}]
    assert response_of(1, Wanted(), "iris", "") == {"model_name": "iris", "outputs": outputs}
    assert response_of(1, Wanted("7"), "iris", "abc") == {
        "model_name": "iris",
        "model_version": "abc",
        "id": "7",
        "outputs": outputs,
    }


@pytest.mark.parametrize(
    "result", ["\ud800", ["a", "\ud800"], {"a\ud800": 1}, {"a": {"\ud800": 1}}, {"a": ["\ud800", 1]}]
)
def test_an_answer_is_utf_8_whatever_texts_are_in_it(result: Any) -> None:
    assert b"?" in orjson.dumps(response_of(result, Wanted("7"), "iris", ""))
    assert b'"id":"?"' in orjson.dumps(response_of(1, Wanted("\ud800"), "iris", ""))


def test_each_key_is_a_tensor_and_only_those_asked_for_are_made() -> None:
    result = {"label": ["a"], "score": np.float32(0.5), 3: object()}
    assert list(answer(result, "score", "label")) == ["score", "label"]
    with pytest.raises(InvalidBody, match=r"no output 'p'.*'label', 'score', '3'"):
        response_of(result, Wanted(outputs=("label", "p")), "iris", "")
    with pytest.raises(InvalidBody, match="are: none"):
        response_of({}, Wanted(outputs=("p",)), "iris", "")
    assert response_of({}, Wanted(), "iris", "")["outputs"] == []


SHAPES = st.lists(st.integers(0, 4), min_size=1, max_size=4)
ELEMENTS: dict[str, tuple[Any, st.SearchStrategy[Any]]] = {
    "BOOL": (np.bool_, st.booleans()),
    "INT8": (np.int8, st.integers(-(2**7), 2**7 - 1)),
    "UINT64": (np.uint64, st.integers(0, 2**64 - 1)),
    "INT64": (np.int64, st.integers(-(2**63), 2**63 - 1)),
    "FP32": (np.float32, st.floats(width=32)),
    "FP64": (np.float64, st.floats()),
    "BYTES": (object, st.text(st.characters(exclude_categories=["Cs"]))),
}


@given(st.data(), st.sampled_from(sorted(ELEMENTS)), SHAPES, st.booleans())
def test_any_array_survives_the_way_there_and_back(
    data: st.DataObject, datatype: str, shape: list[int], nested: bool
) -> None:
    dtype, elements = ELEMENTS[datatype]
    count = math.prod(shape)
    array = np.array(data.draw(st.lists(elements, min_size=count, max_size=count)), dtype).reshape(shape)
    sent = array.tolist() if nested else array.reshape(-1).tolist()
    value = read(shape, datatype, json.loads(json.dumps(sent)))
    seen = np.array(value, dtype)
    np.testing.assert_array_equal(seen.reshape(shape), array)
    if datatype == "BYTES" and not count:
        return  # an array of Python objects without one does not say what it holds

    said = json.loads(json.dumps(answer(seen.reshape(shape))["output"], allow_nan=False))
    assert (said["datatype"], said["shape"]) == (datatype, shape)
    finite = np.where(np.isfinite(array), array, np.nan) if datatype.startswith("FP") else array
    np.testing.assert_array_equal(np.array(said["data"], dtype).reshape(shape), finite)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=12,
)


@given(JSON_VALUES)
def test_whatever_json_can_hold_is_a_tensor_of_its_shape(result: Any) -> None:
    for said in answer(result).values():
        assert len(said["data"]) == math.prod(said["shape"])
        if said["datatype"] == "BYTES":
            assert all(isinstance(item, str) for item in said["data"])
        if said.get("parameters") == {"content_type": "application/json"}:
            assert all(json.loads(item) != () for item in said["data"])


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from(
                    ["id", "inputs", "outputs", "name", "shape", "datatype", "data", "parameters"]
                ),
                inner,
                max_size=8,
            )
        ),
        max_leaves=20,
    )
)
def test_any_body_is_read_or_refused(body: Any) -> None:
    try:
        _, wanted = payload_of(body)
    except InvalidBody as error:
        assert error.detail
    else:
        assert {name.name for name in fields(wanted)} == {"id", "parameters", "outputs"}


def test_models_and_versions() -> None:
    assert model_name("default/iris") == "iris"
    assert model_name("iris") == "iris"
    check_model("iris", None, "iris", "r1")
    check_model("iris", "r1", "iris", "r1")
    with pytest.raises(NotFound, match="'iris'"):
        check_model("default/iris", None, "iris", "r1")
    with pytest.raises(NotFound, match="'r1'"):
        check_model("iris", "1", "iris", "r1")
    with pytest.raises(NotFound, match=r"out of the path\.$"):
        check_model("iris", "1", "iris", "")


def test_what_server_and_model_say_of_themselves() -> None:
    assert server_live() == {"live": True}
    assert server_ready(True, "") == {"ready": True}
    assert model_ready("iris", True, "") == {"name": "iris", "ready": True}
    with pytest.raises(NotReady, match="loading"):
        model_ready("iris", False, "The model is loading.")
    said = server_metadata()
    assert said.pop("version")
    assert said == {"name": "budgetml", "extensions": []}
    assert metadata("iris", "r1") == {
        "name": "iris",
        "versions": ["r1"],
        "platform": "budgetml_python",
        "inputs": [],
        "outputs": [],
    }
    assert "versions" not in metadata("iris", "")
