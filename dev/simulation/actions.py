"""The steps that histories are made of, and how often each is chosen.

An action is handed a deployment's name and a number; what the number chooses, the action says.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from dev.simulation import invariants
from dev.simulation.history import FAULTS, SPECS, History
from dev.simulation.trouble import Kind

T = TypeVar("T")
LARGEST_CHOICE = 839
"""Divisible by many numbers, less one: every choice is about as likely as the others."""
_KINDS = tuple(Kind)
_STRIKES = (
    *((ahead, "") for ahead in range(6)),
    *(
        (0, call)
        for call in (
            "POST instances",
            "DELETE instances",
            "POST addresses",
            "DELETE addresses",
            "POST setMachineType",
            "POST simulateMaintenanceEvent",
            "delete_secret",
            "remove_finalizer",
        )
    ),
)
"""What a trouble strikes: one of the next calls, or the next one of a kind that is rare and matters."""
_BY_HAND = (
    "delete",
    "stop",
    "start",
    "relabel",
    "rewrite",
    "suspend",
    "reset",
    "untag",
    "take address",
    "swap address",
    "delete, keep disk",
    "spoil",
)
_EDITED = (invariants.FIREWALL, invariants.JOB)
_PARTS = (invariants.JOB, invariants.TOPIC, invariants.FUNCTION, invariants.FIREWALL)
_BOTH_SECONDS = (20.0, 120.0, 600.0)
_CLOCKS = (0.0, -26.0, 5.0)


@dataclass(frozen=True)
class Action:
    """`weight`: of so many parts."""

    weight: int
    act: Callable[[History, str, int], None]


def _chosen(choices: Sequence[T], choice: int) -> T:
    return choices[choice % len(choices)]


def _plan_trouble(history: History, _: str, choice: int) -> None:
    strike, kind = divmod(choice, len(_KINDS))
    history.plan_trouble(_KINDS[kind], *_chosen(_STRIKES, strike))


def _drill(history: History, name: str, choice: int) -> None:
    history.drill(name)
    history.plan_trouble(_chosen(_KINDS, choice), call="POST simulateMaintenanceEvent")


ACTIONS = {
    "apply": Action(6, lambda history, name, choice: history.apply(name, _chosen(SPECS, choice))),
    "grow disk": Action(2, lambda history, name, _: history.grow_disk(name)),
    "delete": Action(2, lambda history, name, _: history.delete(name)),
    "drill": Action(2, _drill),
    "rotate login": Action(1, lambda history, name, _: history.rotate_login(name)),
    "preempt": Action(4, lambda history, name, _: history.preempt(name)),
    "begin fault": Action(5, lambda history, _, choice: history.begin_fault(_chosen(FAULTS, choice))),
    "end faults": Action(3, lambda history, _name, _choice: history.end_faults()),
    "by hand": Action(6, lambda history, name, choice: history.by_hand(_chosen(_BY_HAND, choice), name)),
    "break shared": Action(2, lambda history, _, choice: history.break_keep_alive(_chosen(_PARTS, choice))),
    "edit shared": Action(2, lambda history, _, choice: history.edit_shared(_chosen(_EDITED, choice))),
    "stranger": Action(1, lambda history, _name, _choice: history.stranger()),
    "trouble": Action(8, _plan_trouble),
    "restart": Action(3, lambda history, _name, _choice: history.restart()),
    "operator off": Action(1, lambda history, _name, _choice: history.switch_off()),
    "second operator": Action(2, lambda history, _, choice: history.run_both(_chosen(_BOTH_SECONDS, choice))),
    "set clock": Action(1, lambda history, _, choice: history.set_clock(_chosen(_CLOCKS, choice))),
    "wait": Action(3, lambda history, _, choice: history.wait(60.0 * (choice % 12))),
}
