"""Weeks of deployments whose VMs are taken away; operator, function and local cloud in one process."""

from dev.simulation.month import DAY, Loss, losses, play, problems, story
from dev.simulation.world import world

NAMES = ["alpha", "beta", "gamma"]


def test_everything_stands_again_after_a_week_of_losses() -> None:
    with world(kept=2000) as made:
        market = losses(NAMES, days=7, waves=3, alone=9, seed=1)
        assert play(made, NAMES, 7, market) == 12
        assert problems(made, NAMES) == []
        assert sum(made.kube.status(name)["preemptions"]["count"] for name in NAMES) == 12
        for name in NAMES:
            made.delete(name)
        made.run(600)
        assert problems(made, []) == []
        assert made.cloud.context.registry.listers
        assert [line for lister in made.cloud.context.registry.listers for line in lister()] == []


def test_what_is_jumped_over_would_have_changed_nothing() -> None:
    """The same history, with every tick sent and every pass made, and with jumps."""
    market = losses(NAMES, days=0.1, waves=1, alone=2, seed=2)
    told = []
    for kept in (1, 1000):
        with world(kept=kept) as made:
            play(made, NAMES, 0.1, market)
            told.append(story(made, NAMES))
            assert bool(made.passes.jumped) == bool(made.ticks.jumped) == (kept > 1)
    assert told[0] == told[1]


def test_the_function_alone_brings_everything_back() -> None:
    """A day without the operator; when it is there again it tells what happened meanwhile."""
    with world() as made:
        play(made, NAMES, 0, [])
        made.operator = None
        for hour in range(4):
            made.preempt(NAMES[hour % 3])
            made.run(3600)
        running = {record["body"]["status"] for _, record in made.store.list("compute.instance")}
        assert running == {"RUNNING"}
        made.operator = made.new_operator()
        made.passes.add_all(made.clock.monotonic())
        made.run(600)
        assert problems(made, NAMES) == []
        assert [made.kube.status(name)["preemptions"]["count"] for name in NAMES] == [2, 1, 1]


def test_a_market_is_the_same_for_the_same_seed() -> None:
    market = losses(NAMES, 30, 4, 8, seed=3)
    assert market == losses(NAMES, 30, 4, 8, seed=3) != losses(NAMES, 30, 4, 8, seed=4)
    assert all(isinstance(loss, Loss) and 0 <= loss.at < 30 * DAY for loss in market)


def test_a_topic_that_somebody_deleted_is_listened_to_again() -> None:
    """It comes back without its subscription: only the function, made again, hears the ticks."""
    with world() as made:
        play(made, NAMES[:1], 0, [])
        topic = made.store.list("pubsub.topic")[0][0]
        base = made.cloud.context.settings.base_url
        assert made.cloud.answer("DELETE", f"{base}/v1/{topic}", {}, b"").status == 200
        made.look_again()
        made.run(600)
        assert problems(made, NAMES[:1]) == []
        assert {body["topic"] for _, body in made.store.list("pubsub.subscription")} == {topic}
        made.operator = None
        made.preempt(NAMES[0])
        made.run(300)
        assert [body["body"]["status"] for _, body in made.store.list("compute.instance")] == ["RUNNING"]
