"""A world in memory for passes over deployments."""

import pytest

from tests.unit.budget_operator.fakes import World


@pytest.fixture
def world() -> World:
    return World()
