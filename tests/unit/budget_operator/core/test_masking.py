"""A key is in no text that goes on, however it came into it."""

import json
import random

import pytest

from budget_operator.core.artifact import encoded_key
from budget_operator.core.errors import BudgetError
from budget_operator.core.masking import MASK, masked

KEY = encoded_key(random.Random(1).randbytes(32))


@pytest.mark.parametrize("number", range(50))
def test_every_key_is_masked(number: int) -> None:
    key = encoded_key(random.Random(number).randbytes(32))
    for text in (key, f"value: '{key}'.", json.dumps({"budget-key": key}), key.replace("=", "\\u003d")):
        assert masked(text) == text.replace(key, MASK).replace(key.replace("=", "\\u003d"), MASK)


@pytest.mark.parametrize(
    "text",
    [
        "projects/my-project/zones/us-central1-a/instances/budgetml-default-iris-4f1c",
        "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "Required 'compute.instances.create' permission for 'projects/p/zones/us-central1-a/instances/x'",
        "labels.budgetml-installation=default",
    ],
)
def test_what_else_google_says_stays(text: str) -> None:
    assert masked(text) == text


def test_no_error_holds_one() -> None:
    error = BudgetError(f"create instance: Invalid value: '{KEY}'")
    assert (error.message, str(error)) == (f"create instance: Invalid value: '{MASK}'",) * 2
