"""The process's two clocks. They are arguments of everything that asks for the time; only wiring names them.

The wall clock is for times that are written down or compared with the times of others. It may jump: what is
younger than so many seconds, or rests until a moment, is counted on the steady clock, which no correction of
the machine's time touches.
"""

import time
from datetime import UTC, datetime, timedelta

_STARTED = datetime.now(UTC) - timedelta(seconds=time.monotonic())


def wall_clock() -> datetime:
    """The machine's time."""
    return datetime.now(UTC)


def steady_clock() -> datetime:
    """What a clock would show that was right when the process began and was never set since."""
    return _STARTED + timedelta(seconds=time.monotonic())


def uptime() -> float:
    """Seconds since the machine started, also those that it was suspended for; nobody can set it."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
