import threading
from datetime import UTC, datetime

import pytest

from localcloud.clock import ManualClock, SystemClock, parse_rfc3339, rfc3339


def test_a_manual_clock_stands_still_until_it_is_turned() -> None:
    clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
    assert clock.now() == clock.now()
    clock.advance(90)
    assert clock.now() == datetime(2026, 1, 1, 0, 1, 30, tzinfo=UTC)
    assert clock.monotonic() == 90
    with pytest.raises(ValueError, match="backwards"):
        clock.advance(-1)


def test_whoever_waits_on_a_manual_clock_goes_on_when_it_is_turned() -> None:
    clock, results = ManualClock(), list[bool]()
    waiting = threading.Thread(target=lambda: results.append(clock.wait(60, threading.Event())))
    waiting.start()
    clock.advance(59)
    waiting.join(0.1)
    assert waiting.is_alive()
    while waiting.is_alive():  # however late the thread began to wait
        clock.advance(60)
        waiting.join(0.05)
    assert results == [False]


@pytest.mark.parametrize("clock", [ManualClock(), SystemClock()])
def test_a_wait_ends_when_it_is_woken(clock: ManualClock | SystemClock) -> None:
    wake = threading.Event()
    wake.set()
    assert clock.wait(3600, wake) is True


def test_times_are_printed_as_google_prints_them() -> None:
    moment = datetime(2026, 3, 4, 5, 6, 7, 89000, tzinfo=UTC)
    assert rfc3339(moment) == "2026-03-04T05:06:07.089Z"
    assert parse_rfc3339(rfc3339(moment)) == moment
