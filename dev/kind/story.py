"""`make kind`: the story of `make demo`, told in a kind cluster that stays up."""

import time

from dev import demo, engine
from dev.demo import COLD_GOAL, WARM_GOAL, Figure, Story
from dev.errors import DevError
from dev.kind import cluster, install
from dev.paths import KIND


def play() -> bool:
    """Brings the cluster up and plays the whole story; true if every step held."""
    started = time.monotonic()
    docker = engine.find()
    was_up = docker is not None and docker.has("container", KIND.node)
    goal = WARM_GOAL if was_up else COLD_GOAL
    figures: list[Figure] = []
    try:
        print("\n--- 1. kind cluster, images, local cloud, CRD, operator", flush=True)
        story = Story(install.up(KIND), figures)
        figures.append(Figure("1. set up", time.monotonic() - started, goal))
        with install.logs_kept(story.stack.docker, KIND):
            demo.tell(story)
    except DevError as error:
        print(f"\nThis step did not hold: {error}", flush=True)
        return False
    figures.append(Figure("the whole story", time.monotonic() - started, goal))
    demo.print_table(figures)
    return True


def end() -> None:
    """Leaves nothing of it behind."""
    cluster.down(KIND)
