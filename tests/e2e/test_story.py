"""The story of `make demo`, step by step; each test goes on where the one before ended."""

from collections.abc import Iterator

import pytest

from dev import demo
from dev.demo import Story
from dev.stack import Stack


@pytest.fixture(scope="module")
def story(stack: Stack) -> Iterator[Story]:
    told = Story(stack)
    yield told
    if stack.operator.pid() is None:
        stack.start_operator()
    stack.kubectl("delete", "bd", "--all", "--namespace=default", "--timeout=120s", check=False)


def test_apply_becomes_a_ready_endpoint(story: Story) -> None:
    demo.deploy(story)


def test_every_route_answers_over_verified_https(story: Story) -> None:
    demo.predict(story)


def test_a_preempted_vm_serves_again_while_the_operator_is_dead(story: Story) -> None:
    demo.survive(story)


def test_the_operator_records_one_preemption_and_makes_nothing_twice(story: Story) -> None:
    demo.recover(story)


def test_delete_leaves_nothing_in_the_cloud(story: Story) -> None:
    demo.delete(story)
