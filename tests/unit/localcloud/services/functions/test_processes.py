"""What a function's process is started with, and that it never outlives its server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from localcloud.services.functions import leash
from localcloud.services.functions.processes import Processes, environment
from localcloud.services.functions.runtime import Serving, StartError

NAME = "projects/p/locations/l/functions/fn"
# Stands in for functions-framework: answers with its own variables, or ends at once.
FRAMEWORK = """
import http.server, os, sys
if os.environ.get("BROKEN"):
    sys.exit("cannot import main")
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.end_headers()
        self.wfile.write((os.environ["K_REVISION"] + " " + str(os.getpid())).encode())
http.server.HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""


def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.02)


def gone(pid: int) -> bool:
    """Whether a process has ended (a zombie counts: nothing runs any more)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.fixture
def serving(tmp_path: Path) -> Callable[..., Serving]:
    package = tmp_path / "functions_framework"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(FRAMEWORK)

    def make(revision: str, **variables: str) -> Serving:
        return Serving(NAME, revision, str(tmp_path), sys.executable, "main", "cloudevent", 5, variables)

    return make


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    made = Processes(tmp_path, "http://localcloud.test")
    yield made
    made.stop()


def ask(processes: Processes, serving: Serving) -> list[str]:
    return processes.call(serving, "POST", {}, b"{}").text.split()


def test_the_environment_is_clean(serving: Callable[..., Serving]) -> None:
    parent = {"PATH": "/bin", "SECRET": "x", "PORT": "1"}
    made = environment(serving("r1", K_SERVICE="mine", COLOUR="blue"), 8001, parent, Path("/k/a.json"))
    assert made["GOOGLE_APPLICATION_CREDENTIALS"] == "/k/a.json"
    assert made["COLOUR"] == "blue"
    assert (made["K_SERVICE"], made["K_REVISION"], made["PORT"]) == ("fn", "r1", "8001")
    assert "SECRET" not in made


def test_a_process_is_kept_and_replaced_by_the_next_revision(
    processes: Processes, serving: Callable[..., Serving]
) -> None:
    first = ask(processes, serving("r1"))
    assert ask(processes, serving("r1")) == first
    second = ask(processes, serving("r2"))
    assert (first[0], second[0]) == ("r1", "r2")
    until(lambda: gone(int(first[1])))


def test_a_process_that_died_is_started_again(processes: Processes, serving: Callable[..., Serving]) -> None:
    _, pid = ask(processes, serving("r1"))
    os.kill(int(pid), signal.SIGKILL)
    until(lambda: gone(int(pid)))
    assert ask(processes, serving("r1"))[1] != pid


def test_a_revision_that_does_not_start_leaves_the_one_before(
    processes: Processes, serving: Callable[..., Serving]
) -> None:
    before = ask(processes, serving("r1"))
    with pytest.raises(StartError, match="cannot import main"):
        processes.ensure(serving("r2", BROKEN="1"))
    assert ask(processes, serving("r1")) == before


def test_stop_ends_everything(processes: Processes, serving: Callable[..., Serving]) -> None:
    _, pid = ask(processes, serving("r1"))
    processes.stop()
    assert gone(int(pid))


def test_a_program_ends_with_the_process_that_started_it() -> None:
    """Also where that one is killed and can end nothing itself."""
    starter = (
        "import os, subprocess, sys, time\n"
        f"leash = [sys.executable, {leash.__file__!r}, str(os.getpid())]\n"
        "child = subprocess.Popen([*leash, '/bin/sleep', '60'])\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", starter], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        until(lambda: b"sleep" in Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")[0])
        parent.kill()
    until(lambda: gone(child))
