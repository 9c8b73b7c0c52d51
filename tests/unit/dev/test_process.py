"""Real processes: found by their mark, ended with their children, never mistaken for others."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dev.paths import Home
from dev.process import Process, marked, processes_of
from dev.progress import until

IGNORES_TERM = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("set", flush=True)
time.sleep(60)
"""


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    home = Home(tmp_path, "test", 99)
    yield home
    for process in processes_of(home):
        process.stop(1)


def test_a_start_is_seen_and_repeating_it_starts_nothing(home: Home) -> None:
    process = Process(home, "sleeper")
    pid = process.start(["sleep", "60"])
    assert process.pid() == pid == int(process.pid_file.read_text())
    assert process.start(["sleep", "60"]) == pid
    assert marked(process.mark) == [pid]


def test_stop_ends_it_and_can_be_repeated(home: Home) -> None:
    process = Process(home, "sleeper")
    process.start(["sleep", "60"])
    assert process.stop() is True
    assert process.pid() is None
    assert not process.pid_file.exists()
    assert process.stop() is False


def test_what_ignores_sigterm_is_killed(home: Home) -> None:
    process = Process(home, "stubborn")
    process.start([sys.executable, "-c", IGNORES_TERM])
    until(lambda: "set" in process.log_tail(), 10, "the child did not start")
    started = time.monotonic()
    assert process.stop(seconds=0.3) is True
    assert time.monotonic() - started < 10
    assert marked(process.mark) == []


def test_a_killed_ones_children_are_ended_at_the_next_start(home: Home) -> None:
    process = Process(home, "parent")
    pid = process.start(["sh", "-c", "sleep 60 & wait"])
    until(lambda: len(marked(process.mark)) == 2, 10, "the child did not start")
    process.kill()
    until(lambda: process.pid() is None, 10, "it lives on")
    orphan = marked(process.mark)
    assert len(orphan) == 1
    assert pid not in orphan
    process.start(["sleep", "60"])
    assert orphan[0] not in marked(process.mark)


def test_a_lost_pid_file_hides_nothing_from_stop(home: Home) -> None:
    process = Process(home, "sleeper")
    process.start(["sleep", "60"])
    process.pid_file.unlink()
    assert [found.name for found in processes_of(home)] == ["sleeper"]
    assert process.stop() is True
    assert processes_of(home) == []


def test_a_reused_pid_is_left_alone(home: Home) -> None:
    process = Process(home, "sleeper")
    stranger = subprocess.Popen(["sleep", "60"])
    try:
        home.run.mkdir()
        process.pid_file.write_text(f"{stranger.pid}\n")
        assert process.pid() is None
        assert process.stop() is False
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_garbage_in_a_pid_file_is_no_process(home: Home) -> None:
    process = Process(home, "sleeper")
    home.run.mkdir()
    process.pid_file.write_text("not a number")
    assert process.pid() is None


def test_the_environment_is_the_given_one_and_the_output_is_logged(home: Home) -> None:
    process = Process(home, "printer")
    process.start(
        ["sh", "-c", "echo $GIVEN$HOME; sleep 60"], env={"GIVEN": "yes", "PATH": os.environ["PATH"]}
    )
    until(lambda: process.log_tail() == "yes", 10, lambda: f"the log holds {process.log_tail()!r}")
