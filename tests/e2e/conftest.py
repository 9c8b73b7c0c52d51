"""A whole stack of its own for the tests in this folder, beside a running one and gone at the end."""

import os
from collections.abc import Iterator

import pytest

from dev import engine, images
from dev import stack as stacks
from dev.docker import Docker
from dev.paths import E2E, locked
from dev.stack import Stack


@pytest.fixture(scope="session")
def docker() -> Iterator[Docker]:
    """An engine with the images built; DOCKER_HOST points to it."""
    was_up = engine.find() is not None
    found = engine.up()
    before = os.environ.get("DOCKER_HOST")
    os.environ["DOCKER_HOST"] = found.host
    try:
        with locked("images"):
            images.build(found)
        yield found
    finally:
        os.environ.pop("DOCKER_HOST")
        if before is not None:
            os.environ["DOCKER_HOST"] = before
        if not was_up:
            engine.release()


@pytest.fixture(scope="session")
def stack(docker: Docker) -> Iterator[Stack]:
    """The whole stack, started from nothing."""
    with locked("e2e"):
        stacks.down(E2E)
        try:
            yield stacks.up(E2E)
        finally:
            stacks.down(E2E)
