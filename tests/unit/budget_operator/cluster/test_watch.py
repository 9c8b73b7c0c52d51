"""Which changes of an object call for a pass."""

from collections.abc import Iterable
from typing import Any

import pytest

from budget_operator.cluster.watch import changed, settings
from budget_operator.core import api

BODY: dict[str, Any] = {"metadata": {"uid": "1", "generation": 1, "finalizers": [api.FINALIZER]}}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, False),
        ({"resourceVersion": "77"}, False),
        ({"generation": 2}, True),
        ({"deletionTimestamp": "2026-01-01T00:00:00Z"}, True),
        ({"uid": "2"}, True),
        ({"annotations": {"unrelated": "x"}}, False),
        ({"annotations": {api.ABANDON: "1"}}, True),
    ],
)
def test_only_what_a_pass_acts_on_calls_for_one(change: dict[str, Any], expected: bool) -> None:
    known, first = changed(None, BODY)
    assert first, "an object seen for the first time calls for a pass"
    _, differs = changed(known, {"metadata": {**BODY["metadata"], **change}})
    assert differs is expected


def test_kopf_never_owns_our_finalizer() -> None:
    assert settings().persistence.finalizer != api.FINALIZER


def test_the_pauses_of_failed_requests_can_be_iterated_again() -> None:
    backoffs = settings().networking.error_backoffs
    assert isinstance(backoffs, Iterable)
    assert [next(iter(backoffs)), next(iter(backoffs))] == [1, 1]
