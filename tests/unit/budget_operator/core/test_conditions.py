"""Ready is computed; times move only on flips; every reason in use is a documented constant."""

from datetime import UTC, datetime, timedelta

import pytest

from budget_operator.core import errors
from budget_operator.core.conditions import (
    DEPENDENCIES,
    IN_MOTION,
    MESSAGE_LIMIT,
    Reason,
    Type,
    Verdict,
    find,
    is_true,
    is_warning,
    kept,
    merged,
    not_seen,
    ready,
)
from budget_operator.core.serving import GUEST_REASONS

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
GOOD = dict.fromkeys(DEPENDENCIES, Verdict("True", Reason.UPLOADED))


def test_ready_needs_every_dependency() -> None:
    assert ready(GOOD).status == "True"
    for kind in DEPENDENCIES:
        found = ready({**GOOD, kind: Verdict("False", Reason.LOAD_FAILED, "why")})
        assert (found.status, found.reason, found.message) == ("False", Reason.LOAD_FAILED, f"{kind}: why")
        assert ready({**GOOD, kind: Verdict("Unknown", Reason.UNKNOWN)}).status == "Unknown"


def test_what_is_false_counts_more_than_what_is_unknown() -> None:
    found = ready(
        {
            **GOOD,
            Type.ARTIFACT_UPLOADED: Verdict("Unknown", Reason.UNKNOWN),
            Type.MODEL_SERVING: Verdict("False", Reason.BOOTING),
        }
    )
    assert found.status == "False"


def test_transition_times_move_only_on_flips() -> None:
    first = merged((), {Type.READY: Verdict("False", Reason.BOOTING)}, 1, NOW)
    later = NOW + timedelta(minutes=1)
    same = merged(first, {Type.READY: Verdict("False", Reason.LOADING)}, 2, later)
    assert same[0].last_transition_time == first[0].last_transition_time == "2026-11-24T12:00:00Z"
    assert (same[0].reason, same[0].observed_generation) == (Reason.LOADING, 2)
    flipped = merged(same, {Type.READY: Verdict("True", Reason.SERVING)}, 2, later)
    assert flipped[0].last_transition_time == "2026-11-24T12:01:00Z"


def test_conditions_keep_their_order_and_size() -> None:
    verdicts = {Type.STALLED: Verdict("False", "X"), Type.READY: Verdict("True", "Y", "m" * 9999)}
    found = merged((), verdicts, 1, NOW)
    assert [condition.type for condition in found] == [Type.READY, Type.STALLED]
    assert len(found[0].message) == MESSAGE_LIMIT


def test_what_could_not_be_looked_at_keeps_what_was_known() -> None:
    known = merged((), {Type.READY: Verdict("True", Reason.SERVING, "well")}, 1, NOW)
    assert kept(known, Type.READY, "x") == Verdict("True", Reason.SERVING, "well")
    assert kept((), Type.READY, "why") == Verdict("Unknown", Reason.UNKNOWN, "why")
    assert is_true(known, Type.READY)
    assert find(known, Type.STALLED) is None


def every_error() -> list[type[errors.BudgetError]]:
    found, todo = [], [errors.BudgetError]
    while todo:
        kind = todo.pop()
        found.append(kind)
        todo.extend(kind.__subclasses__())
    return found


@pytest.mark.parametrize("kind", every_error())
def test_every_error_has_a_documented_reason(kind: type[errors.BudgetError]) -> None:
    assert kind.reason in set(Reason)
    assert kind.reason not in IN_MOTION, "an error is worth a warning"


def test_the_guests_reasons_are_documented() -> None:
    assert set(Reason) >= GUEST_REASONS
    assert not GUEST_REASONS & IN_MOTION


@pytest.mark.parametrize(
    ("kind", "status", "reason", "warns"),
    [
        (Type.READY, "True", Reason.SERVING, False),
        (Type.READY, "False", Reason.BOOTING, False),
        (Type.READY, "False", Reason.LOAD_FAILED, True),
        (Type.STALLED, "True", Reason.INVALID_SPEC, True),
        (Type.STALLED, "False", Reason.UP_TO_DATE, False),
        (Type.RECONCILING, "True", Reason.PROVISIONING, False),
        (Type.RECONCILING, "True", Reason.CLOUD_UNAVAILABLE, True),
        (Type.RECONCILING, "False", Reason.UP_TO_DATE, False),
    ],
)
def test_which_transitions_are_warnings(kind: Type, status: str, reason: Reason, warns: bool) -> None:
    condition = merged((), {kind: Verdict(status, reason)}, 1, NOW)[0]  # type: ignore[arg-type]
    assert is_warning(condition) is warns


def test_ready_names_the_trouble_before_what_waits_for_it() -> None:
    found = ready(
        {
            **GOOD,
            Type.KEEP_ALIVE_ARMED: Verdict("False", Reason.ARMING, "waits for the bucket"),
            Type.INSTANCE_RUNNING: Verdict("Unknown", Reason.PERMISSION_DENIED, "get firewall rule"),
            Type.MODEL_SERVING: Verdict("False", Reason.INSTANCE_NOT_RUNNING, "the VM is not running"),
        }
    )
    assert (found.status, found.reason) == ("False", Reason.PERMISSION_DENIED)
    assert found.message == "InstanceRunning: get firewall rule"


@pytest.mark.parametrize(
    ("was", "expected"),
    [
        (Verdict("True", Reason.UPLOADED, "there"), ("True", Reason.UPLOADED, "there")),
        (Verdict("False", Reason.UPLOADING, "the bucket is being made"), ("Unknown", "CloudUnavailable")),
    ],
)
def test_what_cannot_be_looked_at_stays_only_if_it_was_there(was: Verdict, expected: tuple[str, ...]) -> None:
    before = merged((), {Type.ARTIFACT_UPLOADED: was}, 1, NOW)
    found = not_seen(before, Type.ARTIFACT_UPLOADED, errors.Unavailable("no answer"))
    assert (found.status, found.reason, found.message)[: len(expected)] == expected


def test_a_sentence_has_the_remedy_and_the_pace() -> None:
    assert errors.PermissionDenied("a.", remedy="b", retry="c").sentence == "a; b; c"
    assert errors.InvalidSpec("spec.x: no").sentence == "spec.x: no"
    assert "tried again every minute" in errors.QuotaExceeded("CPUS").sentence
