"""The local cloud as a real server, and the foreign clients that are pointed at it.

Every answer that it gave in a test is judged by Google's own description of it, whoever asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dev.conformance import bodies, clients
from dev.conformance.clock import HeldClock
from dev.conformance.receiver import Receiver
from dev.conformance.server import Cloud, until
from localcloud.ports import free_port


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    running = Cloud(tmp_path / "home", free_port())
    running.start()
    yield running
    running.stop()
    assert running.problems() == [], "an answer is not as Google describes it"


@pytest.fixture
def held(cloud: Cloud) -> HeldClock:
    """The cloud's time, for tests of what is there between two moments."""
    cloud.clock = clock = HeldClock()
    cloud.turn()
    return clock


@pytest.fixture
def wait_until() -> Callable[..., Any]:
    return until


@pytest.fixture
def client_options(cloud: Cloud) -> dict[str, Any]:
    """Keyword arguments for every google-cloud-* client."""
    return clients.options(cloud.url)


@pytest.fixture
def discovered(cloud: Cloud) -> Callable[[str], Any]:
    """A google-api-python-client service from its bundled description: `discovered("compute.v1")`."""
    return lambda name: clients.discovered(cloud.url, name)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as made:
        yield made


@pytest.fixture
def spot_body() -> Callable[..., dict[str, Any]]:
    """An `instances.insert` body like the operator's; keyword arguments replace fields."""
    return lambda name="vm1", **fields: bodies.spot_instance(name, **fields)
