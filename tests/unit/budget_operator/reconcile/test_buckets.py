"""Buckets of users are looked at once a minute; many of them, and what fails, more rarely."""

from datetime import timedelta
from itertools import pairwise

import pytest

from budget_operator.core.copied import Address
from budget_operator.core.errors import BudgetError, InvalidSpec, PermissionDenied, ReferenceMissing
from budget_operator.core.observed import Listed
from budget_operator.reconcile.buckets import FORGOTTEN_AFTER, LOOKS_A_MINUTE, Buckets
from tests.unit.budget_operator.fakes import World

IRIS, OTHER = Address("gs://models/iris/"), Address("gs://models/other/")
FILE = Listed("iris/predictor.py", 1, 2, "c")


@pytest.fixture
def buckets(world: World) -> Buckets:
    world.cloud.sources["models"] = [FILE]
    return Buckets(world.cloud, "own", world.clock)


def test_one_look_a_minute_for_each_address(world: World, buckets: Buckets) -> None:
    for _ in range(12):
        assert buckets.listed(IRIS, resting=True) == (FILE,)
        assert buckets.listed(OTHER, resting=True) == ()
        world.clock.advance(10)
    assert world.cloud.looks == 4


MANY = [Address(f"gs://models/{number}/") for number in range(200)]


def minutes(world: World, buckets: Buckets, addresses: list[Address], count: int) -> list[int]:
    """The looks of each of so many minutes, in which every deployment at rest asks twice."""
    looks = []
    for _ in range(count):
        before = world.cloud.looks
        for _ in range(2):
            for address in addresses:
                buckets.listed(address, resting=True)
            world.clock.advance(30)
        looks.append(world.cloud.looks - before)
    return looks


def test_at_rest_the_looks_do_not_grow_with_the_addresses(world: World, buckets: Buckets) -> None:
    minutes(world, buckets, MANY, 1)
    assert set(minutes(world, buckets, MANY, 30)) <= {0, LOOKS_A_MINUTE}
    world.cloud.sources["models"] = [Listed(f"{number}/x", 1, 1, "new") for number in range(200)]
    minutes(world, buckets, MANY, 11)
    before = world.cloud.looks
    assert all(buckets.listed(address, resting=True) for address in MANY), "each has had its turn"
    assert world.cloud.looks - before <= LOOKS_A_MINUTE


def test_what_is_on_its_way_does_not_wait_for_its_turn(world: World, buckets: Buckets) -> None:
    minutes(world, buckets, MANY, 2)
    looks = world.cloud.looks
    buckets.listed(MANY[0], resting=False)
    assert world.cloud.looks == looks + 1


def test_in_the_end_failing_looks_do_not_grow_with_them_either(world: World, buckets: Buckets) -> None:
    world.cloud.refuse["listed"] = PermissionDenied("storage.objects.list")

    def hour() -> int:
        before = world.cloud.looks
        for _ in range(360):
            for address in MANY:
                with pytest.raises(PermissionDenied):
                    buckets.listed(address, resting=False)
            world.clock.advance(10)
        return world.cloud.looks - before

    hour()
    assert hour() <= 60 * LOOKS_A_MINUTE


def test_what_is_forgotten_is_looked_at_at_once(world: World, buckets: Buckets) -> None:
    world.cloud.refuse["listed"] = PermissionDenied("storage.objects.list")
    with pytest.raises(PermissionDenied):
        buckets.listed(IRIS, resting=False)
    del world.cloud.refuse["listed"]
    buckets.forget(IRIS)
    assert buckets.listed(IRIS, resting=False) == (FILE,)


def test_what_fails_is_asked_for_after_growing_pauses_and_told_meanwhile(
    world: World, buckets: Buckets
) -> None:
    refused = PermissionDenied("storage.objects.list")
    world.cloud.refuse["listed"] = refused
    asked = []
    for second in range(1200):
        before = world.cloud.looks
        with pytest.raises(PermissionDenied, match=r"storage\.objects\.list") as caught:
            buckets.listed(IRIS, resting=True)
        assert "tried again with growing pauses" in caught.value.sentence
        if world.cloud.looks > before:
            asked.append(second)
        world.clock.advance(1)
    pauses = [later - earlier for earlier, later in pairwise(asked)]
    assert pauses == [10, 20, 40, 80, 160, 300, 300]
    del world.cloud.refuse["listed"]
    world.clock.advance(300)
    assert buckets.listed(IRIS, resting=True) == (FILE,)


def test_a_bucket_that_is_not_there_is_named(world: World, buckets: Buckets) -> None:
    with pytest.raises(ReferenceMissing, match=r"^spec\.predictor\.gcs: there is no bucket absent"):
        buckets.listed(Address("gs://absent/iris/"), resting=True)


def test_the_installations_own_bucket_is_nobodys_source(world: World, buckets: Buckets) -> None:
    with pytest.raises(InvalidSpec, match=r"^spec\.predictor\.gcs: own is the installation's own bucket"):
        buckets.listed(Address("gs://own/code/"), resting=True)
    assert world.cloud.looks == 0


def test_what_nobody_asks_for_is_forgotten(world: World, buckets: Buckets) -> None:
    buckets.listed(IRIS, resting=True)
    world.clock.advance((FORGOTTEN_AFTER + timedelta(seconds=1)).total_seconds())
    buckets.listed(OTHER, resting=True)
    assert list(buckets._looks) == [OTHER.text]


def test_an_error_that_is_raised_again_does_not_grow(world: World, buckets: Buckets) -> None:
    depths = []
    for _ in range(4):
        with pytest.raises(BudgetError) as caught:
            buckets.listed(Address("gs://absent/iris/"), resting=True)
        depths.append(len(caught.traceback))
    assert len(set(depths[1:])) == 1
