"""What an operator of a simulation is told from memory is what it would have read."""

from collections import Counter
from collections.abc import Callable, Hashable
from typing import Any

import pytest

from budget_operator.core.gateways import Scan
from dev.simulation.histories import play
from dev.simulation.repeats import Remembered, Repeats


def content(told: Any) -> Any:
    """Lists come in no order."""
    return (sorted(map(repr, told.items)), told.unknown) if isinstance(told, Scan) else told


def test_everything_remembered_is_as_it_would_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """In whole histories, whatever happens in them: it is read as well, each time."""
    read, spared = Repeats.read, Counter[bool]()

    def compared(
        self: Repeats,
        known: dict[Hashable, Remembered],
        service: str,
        key: Hashable,
        ask: Callable[[], Any],
    ) -> Any:
        asked = []

        def noted() -> Any:
            asked.append(key)
            return ask()

        told = read(self, known, service, key, noted)
        spared[not asked] += 1
        if not asked:
            assert content(told) == content(ask()), key
        return told

    monkeypatch.setattr(Repeats, "read", compared)
    play(4, 7, shrink=False)
    assert spared[True] > spared[False], "most reads are spared"
