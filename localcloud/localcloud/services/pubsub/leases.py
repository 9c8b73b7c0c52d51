"""Ack ids: which delivery of which message in which subscription one stands for. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from localcloud.errors import invalid

_WITHIN = re.compile(r"(\d{20}(?:-\d{1,9})?)\.(\d{1,9})")


@dataclass(frozen=True)
class Lease:
    """A message in a subscription (`sequence` is its place there), and the number of the delivery."""

    subscription: str
    sequence: str
    number: int

    @property
    def key(self) -> str:
        """Of the message in the backlog."""
        return f"{self.subscription}/{self.sequence}"

    @property
    def ack_id(self) -> str:
        return f"{self.subscription}:{self.sequence}.{self.number}"

    @classmethod
    def read(cls, subscription: str, ack_id: str) -> Lease:
        """Raises a 400 for what that subscription never gives out."""
        owner, _, rest = ack_id.rpartition(":")
        within = _WITHIN.fullmatch(rest)
        if owner != subscription or within is None:
            raise invalid(f"You have passed an invalid ack ID to the service (ack_id={ack_id}).")
        return cls(subscription, within[1], int(within[2]))
