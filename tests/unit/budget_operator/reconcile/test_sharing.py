"""Uploads go side by side; who changes what is shared is alone."""

import threading
from contextlib import ExitStack

import pytest

from budget_operator.reconcile.sharing import Sharing


def test_many_are_together() -> None:
    sharing, meeting = Sharing(), threading.Barrier(3, timeout=10)

    def come() -> None:
        with sharing.together():
            meeting.wait()

    others = [threading.Thread(target=come) for _ in range(2)]
    for other in others:
        other.start()
    with sharing.together():
        meeting.wait()
    for other in others:
        other.join(10)
    assert not meeting.broken


def test_who_is_alone_is_with_nobody() -> None:
    sharing, log = Sharing(), list[str]()
    stack = ExitStack()
    stack.enter_context(sharing.together())
    asked = threading.Event()

    def alone() -> None:
        asked.set()
        with sharing.alone():
            log.append("alone")

    def late() -> None:
        with sharing.together():
            log.append("late")

    first = threading.Thread(target=alone)
    first.start()
    assert asked.wait(10)
    while not sharing._alone:
        pass
    second = threading.Thread(target=late)
    second.start()
    first.join(0.05)
    assert log == []
    stack.close()
    first.join(10)
    second.join(10)
    assert log == ["alone", "late"]


@pytest.mark.parametrize("way", ["alone", "together"])
def test_an_error_inside_lets_the_others_in(way: str) -> None:
    sharing = Sharing()
    with pytest.raises(ZeroDivisionError), getattr(sharing, way)():
        print(1 / 0)
    with sharing.alone():
        assert sharing._taken
