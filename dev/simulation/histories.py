"""Plays random histories and looks for one that goes wrong: `python -m dev.simulation.histories`.

Hypothesis chooses the steps and makes a history that goes wrong as short as it can.
"""

import gc
import json
import statistics
import sys
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any

import typer
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from dev.simulation.actions import ACTIONS, LARGEST_CHOICE
from dev.simulation.history import FOREIGN, NAMES, SPECS, History
from dev.simulation.trouble import Kind

STEPS = 31
SECONDS = st.sampled_from((1.0, 7.0, 40.0, 150.0))
ALONE = tuple(kind for kind in Kind if kind is not Kind.RIVAL)
DELETING = (
    "patch_status",
    "DELETE instances",
    "DELETE addresses",
    "DELETE o",
    "DELETE functions",
    "DELETE b",
    "delete_secret",
    "remove_finalizer",
)
"""Calls that the deletions at the end of a history make."""
WEIGHTED = tuple(name for name, action in ACTIONS.items() for _ in range(action.weight))


@dataclass
class Tally:
    """Of all histories that came right. Hypothesis cuts some short, whose end nobody has seen."""

    steps: list[int] = field(default_factory=list)
    met: Counter[tuple[str, str]] = field(default_factory=Counter)
    struck: Counter[tuple[str, str]] = field(default_factory=Counter)
    passes: int = 0

    def count(self, history: History) -> None:
        self.steps.append(history.steps)
        self.met += history.met
        self.struck += history.trouble.struck
        self.passes += history.world.passes.made


def machine(tally: Tally) -> type[RuleBasedStateMachine]:
    """A state machine whose histories are counted."""

    class Histories(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.history = History()
            self.history.__enter__()

        @initialize(
            spec=st.sampled_from(SPECS),
            seconds=SECONDS,
            farewell=st.tuples(st.sampled_from(ALONE), st.sampled_from(DELETING)),
        )
        def begin(self, spec: Any, seconds: float, farewell: tuple[Kind, str]) -> None:
            self.history.farewell = farewell
            self.history.apply(NAMES[0], spec)
            self.history.run("apply", seconds)

        @rule(
            action=st.sampled_from(WEIGHTED),
            name=st.sampled_from((*NAMES, FOREIGN)),
            choice=st.integers(0, LARGEST_CHOICE),
            seconds=SECONDS,
        )
        def step(self, action: str, name: str, choice: int, seconds: float) -> None:
            ACTIONS[action].act(self.history, name, choice)
            self.history.run(action, seconds)

        def teardown(self) -> None:
            history = self.history
            try:
                if sys.exc_info()[0] is None:
                    history.come_right()
                    tally.count(history)
            finally:
                history.__exit__()

    return Histories


def play(histories: int, number: int, *, shrink: bool) -> Tally:
    """Raises what went wrong, with the shortest history that hypothesis has found for it."""
    tally = Tally()
    phases = (Phase.generate, Phase.shrink) if shrink else (Phase.generate,)
    chosen = settings(
        max_examples=histories,
        stateful_step_count=STEPS,
        phases=phases,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
    )
    run_state_machine_as_test(seed(number)(machine(tally)), settings=chosen)
    return tally


def main(
    histories: Annotated[int, typer.Option(help="How many are played.")] = 100,
    number: Annotated[int, typer.Option("--seed", help="Another one gives other histories.")] = 1,
    shrink: Annotated[bool, typer.Option(help="Whether one that goes wrong is made short.")] = True,
) -> None:
    """Ends with 1 where a history goes wrong; prints what was played as JSON."""
    gc.freeze()
    gc.set_threshold(20_000, 20)  # an eighth less to compute: what is made lives as long as a history
    tally = play(histories, number, shrink=shrink)
    told = asdict(tally) | {
        "met": [[*key, count] for key, count in sorted(tally.met.items())],
        "struck": [[*key, count] for key, count in sorted(tally.struck.items())],
        "median": statistics.median(tally.steps),
    }
    print(json.dumps(told))


if __name__ == "__main__":
    typer.run(main)
