"""One clock that may be set, and one that goes on regardless."""

import inspect
import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from budget_operator.cloud.wiring import gateways
from budget_operator.core import clocks
from budget_operator.reconcile import Means


def test_setting_the_machines_clock_moves_only_the_wall_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    before = clocks.steady_clock()
    earlier = datetime.now(UTC) - timedelta(hours=1)
    monkeypatch.setattr(clocks, "datetime", SimpleNamespace(now=lambda zone: earlier))
    assert clocks.wall_clock() == earlier
    assert timedelta(0) <= clocks.steady_clock() - before < timedelta(minutes=1)


def test_the_steady_clock_counts_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, now = clocks.steady_clock(), time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 3600)
    assert timedelta(seconds=3590) < clocks.steady_clock() - begun < timedelta(seconds=3610)


def test_pictures_and_passes_count_on_the_same_clock() -> None:
    used = [inspect.signature(what).parameters["clock"].default for what in (gateways, Means)]
    assert used == [clocks.steady_clock, clocks.steady_clock]
