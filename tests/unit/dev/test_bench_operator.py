"""The benchmark of the operator measures what is at rest."""

from datetime import UTC, datetime

import pytest

from dev.bench.operator.run import beyond_midnight


@pytest.mark.parametrize(
    ("now", "seconds"),
    [
        ("2026-12-01T23:30:00", 0),
        ("2026-12-01T23:49:00", 0),
        ("2026-12-01T23:50:00", 4200),
        ("2026-12-01T23:59:00", 3660),
        ("2026-12-02T00:00:00", 3600),
        ("2026-12-02T00:59:00", 60),
        ("2026-12-02T01:00:00", 0),
        ("2026-12-02T12:00:00", 0),
    ],
)
def test_the_hour_after_midnight_is_waited_out(now: str, seconds: float) -> None:
    assert beyond_midnight(datetime.fromisoformat(now).replace(tzinfo=UTC), 600) == seconds
