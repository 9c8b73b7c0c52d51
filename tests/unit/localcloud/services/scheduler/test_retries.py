import pytest

from localcloud.services.scheduler.models import RetryConfig
from localcloud.services.scheduler.retries import pause


def config(**fields: object) -> RetryConfig:
    return RetryConfig.model_validate(fields)


@pytest.mark.parametrize(
    ("given", "pauses"),
    [
        ({"retryCount": 5, "minBackoffDuration": "1s", "maxDoublings": 2}, [1, 2, 4, 8, 12]),
        ({"retryCount": 5, "maxDoublings": 0}, [5, 10, 15, 20, 25]),
        ({"retryCount": 4, "minBackoffDuration": "10s", "maxBackoffDuration": "30s"}, [10, 20, 30, 30]),
        ({"retryCount": 1}, [5]),
    ],
)
def test_pauses_double_and_then_grow_evenly(given: dict[str, object], pauses: list[float]) -> None:
    found = [pause(config(**given), failures, 0) for failures in range(1, len(pauses) + 2)]
    assert found == [*pauses, None]


def test_without_a_count_nothing_is_tried_again() -> None:
    assert pause(None, 1, 0) is None
    assert pause(config(minBackoffDuration="5s"), 1, 0) is None


def test_no_longer_than_the_policy_says() -> None:
    limited = config(retryCount=5, maxRetryDuration="60s")
    assert pause(limited, 1, 59) == 5
    assert pause(limited, 1, 60) is None
