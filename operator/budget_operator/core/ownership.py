"""Which cluster an installation belongs to: whoever is named by the object `owner` in its bucket. Pure.

The owner says again and again that it is there. Another cluster with the same installation stands back until
the owner has been silent for long, or its administrator says that it is to take over. Silence is what was
watched, on the watcher's own clock: however wrong the clocks of two clusters are, a living owner is heard.
"""

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from budget_operator.core.conditions import timestamp
from budget_operator.core.errors import OwnedElsewhere
from budget_operator.core.observed import Stored

OWNER_OBJECT = "owner"
RENEW_AFTER = timedelta(minutes=5)
SILENT_AFTER = timedelta(minutes=15)
#: What the object itself says of a long silence is believed after it was watched so long: no owner that lives
#: lets that much time pass.
WATCHED = timedelta(minutes=6)
#: An owner that cannot read the object acts on until shortly before others could take over.
MARGIN = timedelta(minutes=3)
_NEVER = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True)
class Claim:
    """What the object says."""

    cluster: str
    since: datetime
    renewed_at: datetime

    def document(self) -> bytes:
        """As it is stored."""
        held = {
            "cluster": self.cluster,
            "since": timestamp(self.since),
            "renewedAt": timestamp(self.renewed_at),
        }
        return json.dumps(held).encode()


@lru_cache(maxsize=4)  # every pass reads the same one
def read(stored: Stored | None) -> Claim | None:
    """The claim that is stored; what cannot be read is somebody's, too."""
    if stored is None:
        return None
    try:
        held = json.loads(stored.data)
        since, renewed_at = (datetime.fromisoformat(held[key]) for key in ("since", "renewedAt"))
        return Claim(str(held["cluster"]), since.astimezone(UTC), renewed_at.astimezone(UTC))
    except (ValueError, KeyError, TypeError):
        return Claim("(unreadable)", _NEVER, _NEVER)


def due(
    claim: Claim | None,
    cluster: str,
    installation: str,
    *,
    now: datetime,
    watched: timedelta,
    takeover: bool,
) -> Claim | None:
    """The claim to be written now; None if the present one is ours and fresh.

    `now` is the wall clock's; `watched` is for how long this process has seen the present one unchanged.

    Raises:
        OwnedElsewhere: it is another cluster's, and that one is not silent.
    """
    if claim is None:
        return Claim(cluster, now, now)
    if claim.cluster == cluster:
        return replace(claim, renewed_at=now) if abs(now - claim.renewed_at) >= RENEW_AFTER else None
    if takeover or _is_silent(claim, now, watched):
        return Claim(cluster, now, now)
    raise OwnedElsewhere(
        f"installation {installation} belongs to cluster {claim.cluster} since {timestamp(claim.since)}: "
        "nothing is changed from here. Give this one a BUDGET_INSTALLATION and a BUDGET_BUCKET of its own; "
        "or end the other's operator and wait until it has been silent for 15 minutes; or set "
        "BUDGET_TAKEOVER=true"
    )


def _is_silent(claim: Claim, now: datetime, watched: timedelta) -> bool:
    return watched >= SILENT_AFTER or (watched >= WATCHED and now - claim.renewed_at >= SILENT_AFTER)


def good_for(claim: Claim, now: datetime) -> timedelta:
    """For how long nobody else can take our claim for that of a silent owner."""
    return SILENT_AFTER - MARGIN - max(timedelta(0), now - claim.renewed_at)
