"""What a message quotes from the payload is left out; its own words stay."""

from typing import Any

import pytest

from budget_server.redaction import redact


@pytest.mark.parametrize(
    ("message", "payload", "expected"),
    [
        (
            "could not convert string to float: '4,2 kg'",
            {"w": "4,2 kg"},
            "could not convert string to float: '[payload]'",
        ),
        (
            "could not convert string to float: 'kg of flour'",
            {"w": "4 kg of flour, please"},
            "could not convert string to float: '[payload]'",
        ),
        ("KeyError: 'petal'", {"text": "sepal"}, "KeyError: 'petal'"),
        ("bad card 4111111111111111", {"card": 4111111111111111}, "bad card [payload]"),
        ("X has 3 features, but expecting 4", {"x": [1, 2, 3]}, "X has 3 features, but expecting 4"),
        ("a\nb 'line\\none'", {"t": ["line\none"]}, "a\nb '[payload]'"),
        ("got b'secret words'", b"secret words", "got b'[payload]'"),
        ("deep: password1", {"a": {"b": ["x", {"c": "password1"}]}}, "deep: [payload]"),
        ("it is true", {"t": "true"}, "it is [payload]"),
        ("none", None, "none"),
    ],
)
def test_redaction(message: str, payload: Any, expected: str) -> None:
    assert redact(message, payload) == expected
