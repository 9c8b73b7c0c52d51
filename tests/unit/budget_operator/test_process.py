"""What the process counts of its passes."""

from typing import Any

import pytest
from prometheus_client import REGISTRY

from budget_operator.core.steps import Passed
from budget_operator.process import Operator, Pace


class Passes:
    """Stands in for the reconciler: the next pass ends like this."""

    def __init__(self, end: Passed | Exception) -> None:
        self.end = end

    def reconcile(self, namespace: str, name: str) -> Passed:
        assert (namespace, name) == ("default", "iris")
        if isinstance(self.end, Exception):
            raise self.end
        return self.end


def counted() -> dict[str, float]:
    name = "budget_operator_passes_total"
    return {word: REGISTRY.get_sample_value(name, {"result": word}) or 0.0 for word in ("ok", "error")}


@pytest.mark.parametrize(
    ("end", "word", "after"),
    [
        (Passed(30.0), "ok", 30.0),
        (Passed(None), "ok", None),
        (Passed(60.0, ok=False), "error", 60.0),
        (RuntimeError("a bug"), "error", Pace().unexpected),
    ],
)
def test_a_pass_that_failed_is_counted_as_such(
    end: Passed | Exception, word: str, after: float | None
) -> None:
    nothing: Any = None
    reconciler: Any = Passes(end)
    operator = Operator(nothing, nothing, reconciler)
    before = counted()
    assert operator._pass(("default", "iris")) == after
    assert counted() == {**before, word: before[word] + 1}
