"""When a job that failed is tried again before its next tick. Pure.

RetryConfig's reference: the pause doubles `maxDoublings` times, then grows by the last step, and is never
longer than `maxBackoffDuration`. Without `retryCount` nothing is tried again.
"""

from __future__ import annotations

from localcloud.services.pubsub.models import duration
from localcloud.services.scheduler.models import RetryConfig

_MIN_BACKOFF, _MAX_BACKOFF, _MAX_DOUBLINGS = "5s", "3600s", 5


def pause(config: RetryConfig | None, failures: int, since_first: float) -> float | None:
    """Seconds until the next try after so many failures, the first of them `since_first` seconds ago.

    None: no more tries before the next tick.
    """
    if config is None or failures > (config.retry_count or 0):
        return None
    longest = duration(config.max_retry_duration or "0s")
    if longest and since_first >= longest:
        return None
    doublings = _MAX_DOUBLINGS if config.max_doublings is None else config.max_doublings
    first = duration(config.min_backoff_duration or _MIN_BACKOFF)
    doubled = min(failures - 1, doublings)
    step = first * 2.0**doubled
    return min(step + step * (failures - 1 - doubled), duration(config.max_backoff_duration or _MAX_BACKOFF))
