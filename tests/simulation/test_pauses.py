"""A cloud that fails is asked ever more rarely, and no more often for many deployments than for one."""

import pytest

from dev.simulation.world import World, world
from tests.simulation.scenes import fault, mend, up

NAMES = ("alpha", "beta", "gamma", "delta", "epsilon")
LONGEST_PAUSE = 30.0
CALLS_OF_A_PICTURE = 9


def asked(made: World, seconds: float) -> int:
    """How many calls are made in so many seconds."""
    before = made.cloud.context.journal.count()
    made.run(seconds)
    return made.cloud.context.journal.count() - before


@pytest.mark.parametrize("count", [1, len(NAMES)])
def test_a_rate_limit_is_not_made_worse(count: int) -> None:
    with world() as made:
        made.run(1)
        fault(made, "rate-limit", service="compute", calls="read", perMinute=0)
        for name in NAMES[:count]:
            made.apply(name)
        assert 0 < asked(made, 120) <= 10 * CALLS_OF_A_PICTURE
        assert 0 < asked(made, 600) <= (600 / LONGEST_PAUSE + 1) * CALLS_OF_A_PICTURE
        mend(made)
        up(made, *NAMES[:count])


def test_an_operation_that_cannot_be_seen_is_asked_for_more_and_more_rarely() -> None:
    with world() as made:
        up(made, "alpha")
        fault(made, "call", path="/operations/operation-", method="GET", code=503, count=0)
        made.delete("alpha")
        made.run(20)
        before = made.cloud.context.journal.count()
        made.run(600)
        entries = made.cloud.context.journal.entries(limit=made.cloud.context.journal.count() - before)
        polls = [each for each in entries if each.method == "GET" and "/operations/operation-" in each.path]
        assert 0 < len(polls) <= 30, "ten minutes"
        mend(made)
        made.run(600)
        assert not made.kube.objects
