"""Short histories: what is left of random ones that went wrong, once all that is needless was taken out.

Each has the name of the bug that it found. Most of the bugs are planted in `bugs`, and `test_planted_bugs`
sees to it that their histories still find them; the others were real, or random histories seldom meet them.
"""

from collections.abc import Callable

import pytest

from dev.simulation import invariants
from dev.simulation.history import FAULTS, FOREIGN, NAMES, SPECS, History
from dev.simulation.trouble import Kind

ALPHA = NAMES[0]
BROKEN_MODEL = next(fault for fault in FAULTS if fault["kind"] == "broken-model")
WHILE = 400.0
"""Seconds after which a change must have been seen, and a preempted VM been started by the next ticks."""
LONG = 900.0

Act = Callable[[History], None]


def swap_address(history: History) -> None:
    """It is looked at twice a second: what is wrong here does not last."""
    history.by_hand("swap address", ALPHA)
    for _ in range(60):
        history.run("look", 0.5)


SERVE: Act = lambda history: history.apply(ALPHA, SPECS[0])  # noqa: E731
DRILL_CALL = "POST simulateMaintenanceEvent"
STORIES: dict[str, tuple[Act, ...]] = {
    "adopts-strangers": (
        lambda history: history.stranger(),
        lambda history: history.apply(FOREIGN, SPECS[0]),
    ),
    "believes-an-old-answer": (SERVE, lambda history: history.begin_fault(BROKEN_MODEL)),
    "clings-to-its-ledger": (
        SERVE,
        lambda history: history.plan_trouble(Kind.ANSWER_LOST, 1, "POST o"),
        lambda history: history.preempt(ALPHA),
    ),
    "counts-losses-again": (SERVE, lambda history: history.preempt(ALPHA)),
    "forgets-objects": (
        SERVE,
        lambda history: history.apply(NAMES[1], SPECS[0]),
        lambda history: history.delete(ALPHA),
    ),
    "forgets-the-metadata": (SERVE, lambda history: history.apply(ALPHA, SPECS[1])),
    "is-deaf": (SERVE, lambda history: history.break_keep_alive(invariants.TOPIC)),
    "keeps-a-drill-to-itself": (
        SERVE,
        lambda history: history.plan_trouble(Kind.CRASH_AFTER, call=DRILL_CALL),
        lambda history: history.drill(ALPHA),
    ),
    "keeps-the-key": (
        SERVE,
        lambda history: history.plan_trouble(Kind.ANSWER_LOST, call="remove_finalizer"),
        lambda history: history.delete(ALPHA),
    ),
    "keeps-the-endpoint": (  # once it was also asked at the address that had been taken off it again
        SERVE,
        swap_address,
    ),
    "keeps-what-is-shared": (SERVE, lambda history: history.delete(ALPHA)),
    "leaves-labels": (SERVE, lambda history: history.by_hand("relabel", ALPHA)),
    "lives-in-the-past": (  # a machine whose clock is behind never started what had been preempted
        SERVE,
        lambda history: history.set_clock(-26.0),
        lambda history: history.preempt(ALPHA),
        lambda history: history.preempt(ALPHA),
    ),
    "serves-what-was-spoiled": (  # what was written over or deleted in the bucket stayed so
        SERVE,
        lambda history: history.by_hand("spoil", ALPHA),
        lambda history: history.by_hand("spoil", ALPHA),
    ),
    "starts-nothing": (
        SERVE,
        lambda history: history.switch_off(),
        lambda history: history.preempt(ALPHA),
    ),
    "takes-silence-for-a-no": (
        SERVE,
        lambda history: history.plan_trouble(Kind.ANSWER_LOST, call=DRILL_CALL),
        lambda history: history.drill(ALPHA),
    ),
}


@pytest.mark.parametrize("name", STORIES)
def test_comes_right(name: str) -> None:
    with History() as history:
        for act in STORIES[name]:
            act(history)
            history.run(name, LONG if act is SERVE else WHILE)
        history.come_right()
