"""The ground of the local cloud without a server: a store, and a clock that tests turn."""

from __future__ import annotations

from pathlib import Path

import pytest

from localcloud.app import ground
from localcloud.clock import ManualClock, SystemClock
from localcloud.context import Context
from localcloud.settings import Durations, Settings
from localcloud.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store.db")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def context(tmp_path: Path) -> Context:
    """Nothing of it listens to names: no port is taken."""
    return ground(Settings(tmp_path / "home", durations=Durations(0, 0, 0, 0, 0, 0, 0.01)), SystemClock())
