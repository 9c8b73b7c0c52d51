"""A small model: 256 floats through a network of 256 x 1024 x 8 in numpy."""

import random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dev.bench.work import Payload

Floats = NDArray[np.float32]

_random = random.Random(4)
PAYLOAD: Payload = {"inputs": [round(_random.uniform(-1, 1), 6) for _ in range(256)]}

_weights = np.random.default_rng(4)
_HIDDEN: Floats = (_weights.standard_normal((256, 1024)) / 16).astype(np.float32)
_OUTPUT: Floats = (_weights.standard_normal((1024, 8)) / 32).astype(np.float32)


def work(payload: Payload) -> Payload:
    """The scores of one input."""
    return {"scores": _network(np.asarray(payload["inputs"], dtype=np.float32)).tolist()}


def batch(payloads: list[Any]) -> list[Payload]:
    """The scores of many, in one call of the network."""
    inputs = np.asarray([payload["inputs"] for payload in payloads], dtype=np.float32)
    return [{"scores": scores} for scores in _network(inputs).tolist()]


def _network(inputs: Floats) -> Floats:
    scores: Floats = np.maximum(inputs @ _HIDDEN, 0) @ _OUTPUT
    return scores
