"""Retries come at growing distances."""

from __future__ import annotations

from localcloud.services.pubsub.models import RetryPolicy
from localcloud.services.pubsub.pacing import Pacing


def test_pauses_double_up_to_the_longest() -> None:
    pauses = [Pacing.of(None).delay(attempts) for attempts in range(1, 13)]
    assert pauses[:4] == [0.1, 0.2, 0.4, 0.8]
    assert pauses[-1] == 60.0
    assert pauses == sorted(pauses)


def test_a_policy_sets_both_ends() -> None:
    pacing = Pacing.of(RetryPolicy(minimum_backoff="1s", maximum_backoff="2.5s"))
    assert [pacing.delay(attempts) for attempts in (1, 2, 3)] == [1.0, 2.0, 2.5]
    assert Pacing.of(RetryPolicy()) == Pacing(10.0, 600.0)


def test_very_many_attempts_do_not_overflow() -> None:
    assert Pacing.of(None).delay(100_000) == 60.0
