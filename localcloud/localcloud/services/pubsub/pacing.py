"""When an undelivered message is tried again. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from localcloud.services.pubsub.models import RetryPolicy, duration


@dataclass(frozen=True)
class Pacing:
    """Seconds between deliveries: doubled from `shortest` up to `longest`."""

    shortest: float
    longest: float

    @classmethod
    def of(cls, policy: RetryPolicy | None) -> Pacing:
        """Google's push back-off, or what a retry policy says (10 s to 600 s where it is silent)."""
        if policy is None:
            return cls(0.1, 60.0)
        return cls(duration(policy.minimum_backoff), duration(policy.maximum_backoff))

    def delay(self, attempts: int) -> float:
        """The pause after so many failed attempts (at least one)."""
        return min(self.shortest * 2.0 ** min(attempts - 1, 30), self.longest)
