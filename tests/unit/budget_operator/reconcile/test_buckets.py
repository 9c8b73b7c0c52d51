"""Buckets of users are looked at once a minute for each address, and rarely where that fails."""

from datetime import timedelta
from itertools import pairwise

import pytest

from budget_operator.core.copied import Address
from budget_operator.core.errors import BudgetError, InvalidSpec, PermissionDenied, ReferenceMissing
from budget_operator.core.observed import Listed
from budget_operator.reconcile.buckets import FORGOTTEN_AFTER, Buckets
from tests.unit.budget_operator.fakes import World

IRIS, OTHER = Address("gs://models/iris/"), Address("gs://models/other/")
FILE = Listed("iris/predictor.py", 1, 2, "c")


@pytest.fixture
def buckets(world: World) -> Buckets:
    world.cloud.sources["models"] = [FILE]
    return Buckets(world.cloud, "own", world.clock)


def test_one_look_a_minute_for_each_address(world: World, buckets: Buckets) -> None:
    for _ in range(12):
        assert buckets.listed(IRIS) == (FILE,)
        assert buckets.listed(OTHER) == ()
        world.clock.advance(10)
    assert world.cloud.looks == 4


def test_what_fails_is_asked_for_after_growing_pauses_and_told_meanwhile(
    world: World, buckets: Buckets
) -> None:
    refused = PermissionDenied("storage.objects.list")
    world.cloud.refuse["listed"] = refused
    asked = []
    for second in range(1200):
        before = world.cloud.looks
        with pytest.raises(PermissionDenied, match=r"storage\.objects\.list") as caught:
            buckets.listed(IRIS)
        assert "tried again with growing pauses" in caught.value.sentence
        if world.cloud.looks > before:
            asked.append(second)
        world.clock.advance(1)
    pauses = [later - earlier for earlier, later in pairwise(asked)]
    assert pauses == [10, 20, 40, 80, 160, 300, 300]
    del world.cloud.refuse["listed"]
    world.clock.advance(300)
    assert buckets.listed(IRIS) == (FILE,)


def test_a_bucket_that_is_not_there_is_named(world: World, buckets: Buckets) -> None:
    with pytest.raises(ReferenceMissing, match=r"^spec\.predictor\.gcs: there is no bucket absent"):
        buckets.listed(Address("gs://absent/iris/"))


def test_the_installations_own_bucket_is_nobodys_source(world: World, buckets: Buckets) -> None:
    with pytest.raises(InvalidSpec, match=r"^spec\.predictor\.gcs: own is the installation's own bucket"):
        buckets.listed(Address("gs://own/code/"))
    assert world.cloud.looks == 0


def test_what_nobody_asks_for_is_forgotten(world: World, buckets: Buckets) -> None:
    buckets.listed(IRIS)
    world.clock.advance((FORGOTTEN_AFTER + timedelta(seconds=1)).total_seconds())
    buckets.listed(OTHER)
    assert list(buckets._looks) == [OTHER.text]


def test_an_error_that_is_raised_again_does_not_grow(world: World, buckets: Buckets) -> None:
    depths = []
    for _ in range(3):
        with pytest.raises(BudgetError) as caught:
            buckets.listed(Address("gs://absent/iris/"))
        depths.append(len(caught.traceback))
    assert len(set(depths)) == 1
