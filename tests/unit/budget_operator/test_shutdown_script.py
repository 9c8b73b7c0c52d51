"""The script of the soft-off in a real bash with a real curl, beside servers that stand in for Google's."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[3] / "operator" / "budget_operator" / "boot" / "shutdown.sh"
TOKEN = "ya29.very-secret"
CONFIG = {
    "image": "r/s:1",
    "deployment": "budget-iris-0123456789",
    "bucket": "b",
    "keepAliveTopic": "projects/p/topics/budget-keepalive",
    "keepAliveData": "eyJ9",
}


@dataclass
class Google:
    """Metadata, Pub/Sub and Cloud Storage on one port; what was posted to it."""

    preempted: str = "TRUE"
    config: dict[str, str] = field(default_factory=lambda: dict(CONFIG))
    hanging: str = ""
    posted: list[tuple[str, str, bytes]] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)
    port: int = 0

    def get(self, path: str) -> str | None:
        values = {
            "preempted": self.preempted,
            "service-accounts/default/token": json.dumps({"access_token": TOKEN, "expires_in": 3000}),
            "attributes/budget-config": json.dumps(
                {**self.config, "apiEndpoint": f"http://127.0.0.1:{self.port}"}, separators=(",", ":")
            ),
        }
        return values.get(path.removeprefix("/computeMetadata/v1/instance/"))

    def published(self) -> list[Any]:
        return [json.loads(body) for path, _, body in self.posted if path.endswith(":publish")]

    def saved(self) -> list[bytes]:
        return [body for path, _, body in self.posted if path.startswith("/upload/")]


@pytest.fixture
def google() -> Iterator[Google]:
    served = Google()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.reply(served.get(self.path))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            served.posted.append((self.path, self.headers["Authorization"], body))
            self.reply("{}")

        def reply(self, content: str | None) -> None:
            if served.hanging and served.hanging in self.path:
                served.released.wait(30)
            self.send_response(404 if content is None else 200)
            self.end_headers()
            self.wfile.write((content or "").encode())

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.port = server.server_port
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield served
    served.released.set()
    server.shutdown()


def entry(line: str) -> str:
    """A line of the engine's json-file."""
    content = {"log": f"{line}\n", "stream": "stdout", "time": "t"}
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026") + "\n"


@dataclass
class Machine:
    """Its own /run/budgetml and a `docker` that tells how it was called."""

    folder: Path
    google: Google

    @property
    def run(self) -> Path:
        return self.folder / "run"

    def docker(self, body: str) -> None:
        program = self.folder / "bin" / "docker"
        program.parent.mkdir(exist_ok=True)
        program.write_text(f'#!/bin/bash\necho "$*" >>{self.run}/calls\n{body}\n')
        program.chmod(0o755)

    def container(self, pid: int, *lines: str) -> None:
        """One that runs or has run, and its log as the engine writes it."""
        log = self.folder / "container-json.log"
        log.write_text("".join(entry(line) for line in lines))
        (self.run / "container").write_text(f"{pid} {log}\n")

    def soft_off(self) -> str:
        text = SCRIPT.read_text().replace("/run/budgetml", str(self.run))
        text = text.replace("http://169.254.169.254", f"http://127.0.0.1:{self.google.port}")
        text = text.replace("patience=5", "patience=1").replace("/var/lib/budgetml", str(self.folder))
        environment = {**os.environ, "PATH": f"{self.folder}/bin:{os.environ['PATH']}", "no_proxy": "*"}
        done = subprocess.run(
            ["bash", "-c", text], env=environment, capture_output=True, text=True, timeout=30, check=False
        )
        assert done.returncode == 0, done.stderr
        assert TOKEN not in done.stdout + done.stderr
        return done.stdout

    @property
    def calls(self) -> list[str]:
        return (self.run / "calls").read_text().splitlines()


@pytest.fixture
def machine(tmp_path: Path, google: Google) -> Machine:
    made = Machine(tmp_path, google)
    made.run.mkdir()
    made.docker("")
    made.container(os.getpid() + 2**22, "words")
    return made


def test_the_loops_end_and_the_container_gets_its_time(machine: Machine) -> None:
    loop = subprocess.Popen(["bash", "-c", "while :; do sleep 60; done"], start_new_session=True)
    (machine.run / "keep.pid").write_text(f"{loop.pid}\n")
    (machine.run / "follow.pid").write_text("")
    machine.docker("exit 1")
    try:
        machine.soft_off()
        assert loop.wait(timeout=10) == -signal.SIGTERM
    finally:
        loop.kill()
    assert (machine.run / "stopping").exists()
    assert "stop -t 27 budgetml" in machine.calls, "an engine that is going down already is no failure"


def test_a_vm_that_is_taken_away_tells_the_keep_alive(machine: Machine, google: Google) -> None:
    told = machine.soft_off()
    assert google.published() == [{"messages": [{"data": "eyJ9"}]}]
    path, authorization, _ = next(each for each in google.posted if each[0].endswith(":publish"))
    assert path == "/v1/projects/p/topics/budget-keepalive:publish"
    assert authorization == f"Bearer {TOKEN}"
    assert "told the keep-alive" in told


@pytest.mark.parametrize("without", ["preemption", "topic"])
def test_nobody_is_told_of_an_ordinary_stop(machine: Machine, google: Google, without: str) -> None:
    if without == "preemption":
        google.preempted = "FALSE"
    else:
        google.config |= {"keepAliveTopic": "", "keepAliveData": ""}
    machine.soft_off()
    assert google.published() == []
    assert google.saved()


def test_the_end_of_the_log_is_saved_at_once_and_with_the_last_words(
    machine: Machine, google: Google
) -> None:
    """The engine is being stopped already: it answers nobody, and the container goes on for a moment."""
    machine.docker("echo no engine >&2; exit 1")
    last = shlex.quote(entry('the <end> of "all" & everything\té'))
    until_saved = f"until [[ -s {machine.run}/log-so-far ]]; do sleep 0.05; done"
    log = machine.folder / "container-json.log"
    ending = f"{until_saved}; sleep 0.3; printf %s {last} >>{log}"
    with subprocess.Popen(["bash", "-c", ending]) as container:
        machine.container(container.pid, *["a line of the log"] * 9999)
        # the parent of a process that has ended keeps its entry until it asks
        threading.Thread(target=container.wait, daemon=True).start()
        told = machine.soft_off()
    first, second = google.saved()
    assert second.endswith('a line of the log\nthe <end> of "all" & everything\té\n'.encode())
    assert first.endswith(b"a line of the log\n")
    assert len(second) == 64 * 1024
    (path,) = {path for path, _, _ in google.posted if path.startswith("/upload/")}
    assert path == "/upload/storage/v1/b/b/o?uploadType=media&name=state%2Fbudget-iris-0123456789%2Flog-tail"
    assert told.splitlines()[-1] == "budgetml-host: the end of the log is in the bucket"


@pytest.mark.parametrize("what", ["preempted", "token", "budget-config", ":publish", "/upload/"])
def test_what_hangs_holds_nothing_else_up(machine: Machine, google: Google, what: str) -> None:
    google.hanging = what
    began = time.monotonic()
    machine.soft_off()
    assert time.monotonic() - began < 8  # bounds of 1 s here
    assert "stop -t 27 budgetml" in machine.calls
    if what in ("preempted", ":publish"):
        assert google.saved()
    if what == "/upload/":
        assert google.published()


def test_a_machine_that_never_ran_a_container_saves_nothing(machine: Machine, google: Google) -> None:
    (machine.run / "container").unlink()
    machine.soft_off()
    assert google.saved() == []
    assert google.published()


def test_the_time_is_noted_for_the_next_boot(machine: Machine) -> None:
    machine.soft_off()
    assert not (machine.folder / "alive").exists(), "nobody noted that it was on"
    (machine.run / "power-noted").touch()
    before = int(time.time())
    machine.soft_off()
    assert before <= int((machine.folder / "alive").read_text()) <= time.time()
