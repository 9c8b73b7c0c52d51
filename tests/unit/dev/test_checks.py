"""Checks that run beside others."""

import os
import sys
from pathlib import Path

import pytest

from dev.checks import aside


def test_what_runs_aside_tells_at_its_end() -> None:
    with aside("good", [sys.executable, "-c", "print('done')"]) as end:
        result = end()
    assert (result.name, result.passed, result.output) == ("good", True, "done\n")
    with aside("bad", [sys.executable, "-c", "raise SystemExit('broken')"]) as end:
        result = end()
    assert (result.passed, result.output) == (False, "broken\n")


def test_what_runs_aside_ends_with_the_others(tmp_path: Path) -> None:
    told = tmp_path / "pid"
    os.mkfifo(told)
    program = f"import os, time; open({str(told)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    with pytest.raises(KeyboardInterrupt), aside("endless", [sys.executable, "-c", program]):
        pid = int(told.read_text())
        raise KeyboardInterrupt
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
