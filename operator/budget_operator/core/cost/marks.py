"""What a VM notes of when it was on, for what Google has forgotten: one text in `state/`, a line for each.

Written by the guest at each boot, and so untrusted: it is read only where the project's operations do
not reach, and no further than they begin.
"""

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from budget_operator.core.artifact import STATE_PREFIX
from budget_operator.core.observed import PowerEvent, PowerKind

#: Google keeps operations for about two weeks.
REMEMBERED = timedelta(days=13)
LIMIT = 256 * 1024  # bytes that are looked at: the last ones
_LINE = re.compile(rb"^([0-9]{1,20}) (on|off) ([0-9]{1,11})$", re.MULTILINE)


def object_name(cloud_name: str) -> str:
    """Where the VM puts it."""
    return f"{STATE_PREFIX}{cloud_name}/power"


def read(data: bytes, instance_id: str) -> tuple[PowerEvent, ...]:
    """What it says of one VM; another one may have been there before, and had its own disk."""
    return tuple(
        PowerEvent(datetime.fromtimestamp(int(at), UTC), PowerKind(kind.decode()))
        for of, kind, at in _LINE.findall(data[-LIMIT:])
        if of.decode() == instance_id
    )


def older(noted: Iterable[PowerEvent], told: Iterable[PowerEvent]) -> tuple[PowerEvent, ...]:
    """What is told by Google, and before that what was noted."""
    known = tuple(told)
    first = min((each.at for each in known), default=None)
    return (*(each for each in noted if first is None or each.at < first), *known)
