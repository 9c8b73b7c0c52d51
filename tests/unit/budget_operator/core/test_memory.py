"""Pauses grow, a new generation ends them, and looking never extends a rest."""

from datetime import UTC, datetime, timedelta

import pytest

from budget_operator.core import errors
from budget_operator.core.actions import Room
from budget_operator.core.memory import Memory, Refusal, pause_after
from budget_operator.core.observed import Content

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
DOWN = errors.Unavailable("down")


def test_back_off_grows_from_two_seconds_to_five_minutes() -> None:
    pauses = [pause_after(DOWN, attempt, 1.0) for attempt in range(1, 12)]
    assert pauses[:4] == [2.0, 4.0, 8.0, 16.0]
    assert pauses[-1] == 300.0
    assert pause_after(DOWN, 10_000, 1.0) == 300.0


def test_jitter_shortens() -> None:
    assert pause_after(DOWN, 3, 0.0) < pause_after(DOWN, 3, 0.5) < pause_after(DOWN, 3, 1.0) == 8.0


@pytest.mark.parametrize(
    ("error", "pause"),
    [
        (errors.ResourceNotReady("x"), 5.0),
        (errors.CapacityExhausted("x"), 30.0),
        (errors.QuotaExceeded("x"), 60.0),
        (errors.PermissionDenied("x"), 60.0),
        (errors.NameConflict("x"), 60.0),
        (errors.InvalidSpec("x"), 300.0),
        (errors.AlreadyExists("x"), 1.0),
    ],
)
def test_known_pauses(error: errors.BudgetError, pause: float) -> None:
    assert pause_after(error, 1, 1.0) == pause


def test_a_room_rests_until_its_time() -> None:
    memory = Memory("uid", NOW)
    memory.note(Room.ARTIFACT, DOWN, NOW, 1.0)
    assert memory.resting(Room.ARTIFACT, NOW + timedelta(seconds=1))
    assert memory.resting(Room.ARTIFACT, NOW + timedelta(seconds=2)) is None
    assert memory.resting(Room.KEEP_ALIVE, NOW) is None
    assert memory.note(Room.ARTIFACT, DOWN, NOW, 1.0).attempts == 2


def test_what_was_only_seen_does_not_make_a_room_rest() -> None:
    memory = Memory("uid", NOW)
    memory.note_seen(Room.ARTIFACT, DOWN, NOW, 1.0)
    assert memory.resting(Room.ARTIFACT, NOW) is None
    rest = memory.note(Room.ARTIFACT, DOWN, NOW, 1.0)
    assert memory.note_seen(Room.ARTIFACT, errors.NotFound("x"), NOW, 1.0) is rest


def test_a_new_generation_ends_every_rest() -> None:
    memory = Memory("uid", NOW)
    memory.new_generation(1)
    memory.note(Room.ARTIFACT, DOWN, NOW, 1.0)
    memory.refused = Refusal("e2-x", DOWN, NOW)
    memory.new_generation(1)
    assert memory.troubles
    memory.new_generation(2)
    assert not memory.troubles
    assert memory.refused is None


def test_objects_are_trusted_for_a_while() -> None:
    memory = Memory("uid", NOW)
    assert memory.known_objects(NOW) is None
    memory.objects, memory.objects_at = {"a": Content(1, "x")}, NOW
    assert memory.known_objects(NOW + timedelta(minutes=15)) == {"a": Content(1, "x")}
    assert memory.known_objects(NOW + timedelta(minutes=16)) is None


def test_from_the_second_failure_on_an_attempt_is_nothing_new() -> None:
    memory = Memory("uid", NOW)
    assert not memory.note(Room.INSTANCE, DOWN, NOW, 1.0, key="start").covers({"start"})
    memory.note_seen(Room.INSTANCE, DOWN, NOW + timedelta(hours=1), 1.0)
    again = memory.note(Room.INSTANCE, DOWN, NOW + timedelta(hours=2), 1.0, key="start")
    assert again.covers({"start", "label"})
    assert not again.covers({"label", ""})
    assert memory.note(Room.INSTANCE, DOWN, NOW, 1.0, key=None).covers({"label"})
    assert not memory.note(Room.INSTANCE, DOWN, NOW, 1.0).covers({""}), "of nothing that could be attempted"
