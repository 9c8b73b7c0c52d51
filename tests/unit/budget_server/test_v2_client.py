"""NVIDIA's own client of the Open Inference Protocol against gunicorn with a plain predictor."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

Start = Callable[..., Any]
PREDICTOR = """
    import numpy
    class Predictor:
        def load(self):
            pass
        def predict(self, request):
            given = request.payload
            if "x" not in given:
                return {name: numpy.array(value) for name, value in given.items()}
            x = numpy.array(given["x"], "float32")
            return {
                "doubled": x * 2,
                "label": ["grün" for _ in x],
                "sum": float(x.sum()),
                "rows": [{"first": float(row[0])} for row in x],
                "unknown": [float("nan"), float("inf"), 1.5],
            }
"""


def login() -> dict[str, str]:
    """Its own for each call: the client adds to what it is given."""
    return {"Authorization": "Bearer static-token"}


@pytest.fixture
def served(start: Start) -> Any:
    server = start(PREDICTOR)
    server.until("readiness", server.ready)
    return server


@pytest.fixture
def client(served: Any) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(f"127.0.0.1:{served.port}", concurrency=4) as made:
        yield made


def given(name: str, array: Any, *, binary: bool = False) -> triton.InferInput:
    made = triton.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    return made.set_data_from_numpy(array, binary_data=binary)


def wanted(*names: str) -> list[triton.InferRequestedOutput]:
    return [triton.InferRequestedOutput(name, binary_data=False) for name in names]


@contextmanager
def refusal(status: int, message: str) -> Iterator[None]:
    with pytest.raises(InferenceServerException, match=message) as caught:
        yield
    assert caught.value.status() == str(status)


X = np.array([[1.5, -2], [0, 3]], np.float32)


def test_the_client_finds_server_and_model(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.get_server_metadata(login())["name"] == "budgetml"
    version = "0123456789ab"
    assert client.get_model_metadata("iris", headers=login()) == {
        "name": "iris",
        "versions": [version],
        "platform": "budgetml_python",
        "inputs": [],
        "outputs": [],
    }
    assert client.get_model_metadata("iris", version, login())["versions"] == [version]
    assert client.is_model_ready("iris", headers=login())
    assert client.is_model_ready("iris", version, login())
    assert not client.is_model_ready("rose", headers=login())
    assert not client.is_model_ready("iris", "1", login())


def test_the_client_gets_what_the_predictor_made_of_its_tensors(client: triton.InferenceServerClient) -> None:
    outputs = wanted("rows", "sum", "label", "doubled", "unknown")
    result = client.infer("iris", [given("x", X)], outputs=outputs, request_id="42", headers=login())
    response = result.get_response()
    assert (response["model_name"], response["model_version"]) == ("iris", "0123456789ab")
    assert response["id"] == "42"
    assert [output["name"] for output in response["outputs"]] == [
        "rows",
        "sum",
        "label",
        "doubled",
        "unknown",
    ]
    doubled = result.as_numpy("doubled")
    assert doubled.dtype == np.float32
    np.testing.assert_array_equal(doubled, X * 2)
    assert result.as_numpy("label").tolist() == ["grün", "grün"]
    assert result.as_numpy("sum").tolist() == [2.5]
    assert result.as_numpy("rows").tolist() == ['{"first":1.5}', '{"first":0.0}']
    np.testing.assert_array_equal(result.as_numpy("unknown"), [np.nan, np.nan, 1.5])

    # With no outputs named the client wishes for binary ones, and reads the JSON it gets instead.
    everything = client.infer("iris", [given("x", X)], model_version="0123456789ab", headers=login())
    np.testing.assert_array_equal(everything.as_numpy("doubled"), X * 2)
    assert len(everything.get_response()["outputs"]) == 5


ARRAYS = {
    "BOOL": np.array([[True, False]]),
    "INT8": np.array([-128, 127], np.int8),
    "UINT64": np.array([2**64 - 1, 0], np.uint64),
    "INT64": np.array([[[-(2**63)]], [[2**63 - 1]]]),
    "FP32": np.array([np.nan, 3.4028234663852886e38, 1e-45], np.float32),
    "FP64": np.array([1.7976931348623157e308, 0.1, np.nan]),
    "BYTES": np.array([["a", "é✓"], ["", '"']], object),
    "empty": np.empty((3, 0), np.float64),
}


def test_every_datatype_there_and_back_and_many_at_a_time(client: triton.InferenceServerClient) -> None:
    inputs = [given(name, array) for name, array in ARRAYS.items()]
    calls = [client.async_infer("iris", inputs, headers=login()) for _ in range(8)]
    for call in calls:
        result = call.get_result()
        for name, array in ARRAYS.items():
            np.testing.assert_array_equal(result.as_numpy(name), array)
            assert result.as_numpy(name).shape == array.shape


def test_the_client_is_told_what_is_wrong(client: triton.InferenceServerClient) -> None:
    inputs = [given("x", X)]
    with refusal(401, "."):
        client.infer("iris", inputs)
    with refusal(401, "."):
        client.infer("iris", inputs, headers={"Authorization": "Bearer guess"})
    with refusal(404, "'iris'"):
        client.infer("rose", inputs, headers=login())
    with refusal(404, "0123456789ab"):
        client.infer("iris", inputs, model_version="1", headers=login())
    with refusal(422, "no output 'p'.*'doubled'"):
        client.infer("iris", inputs, outputs=wanted("p"), headers=login())
    with refusal(422, "binary_data=False"):
        client.infer("iris", [given("x", X, binary=True)], headers=login())
    with refusal(422, "Content-Encoding"):
        client.infer("iris", inputs, request_compression_algorithm="gzip", headers=login())
    with refusal(422, "shared_memory_region"):
        shared = triton.InferInput("x", [1], "FP32").set_shared_memory("region", 4)
        client.infer("iris", [shared], headers=login())
    with refusal(500, "ValueError"):
        client.infer("iris", [given("x", np.array(["a"], object))], headers=login())
    with refusal(404, "."):
        client.get_model_metadata("rose", headers=login())
