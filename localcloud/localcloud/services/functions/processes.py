"""The processes of functions: started when first needed, kept, replaced when a new revision serves.

What runs is told by the serving record of a function (kept by `deployments`), so a restart changes nothing.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx

from localcloud.accounts import new_key
from localcloud.operations import Interrupted
from localcloud.ports import free_port
from localcloud.services.functions import leash
from localcloud.services.functions.build import Builder, base_environment, tail
from localcloud.services.functions.runtime import Built, Serving, StartError

_START_SECONDS = 60.0
_STOP_SECONDS = 5.0
_CUT = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length", "content-encoding"})


def environment(serving: Serving, port: int, parent: Mapping[str, str], key: Path) -> dict[str, str]:
    """The variables of the process: a clean base, the user's, and those Cloud Run sets.

    The key of its account stands in for the metadata server that functions have there.
    """
    return {
        **base_environment(parent),
        "PYTHONUNBUFFERED": "1",
        "GOOGLE_APPLICATION_CREDENTIALS": str(key),
        **serving.variables,
        "K_SERVICE": serving.short,
        "K_REVISION": serving.revision,
        "K_CONFIGURATION": serving.short,
        "CLOUD_RUN_TIMEOUT_SECONDS": str(serving.timeout),
        "PORT": str(port),
        "FUNCTION_TARGET": serving.entry_point,
        "FUNCTION_SIGNATURE_TYPE": serving.signature,
    }


def command(serving: Serving, port: int) -> list[str]:
    framework = [serving.python, "-m", "functions_framework", f"--target={serving.entry_point}"]
    options = [
        "--source=main.py",
        f"--signature-type={serving.signature}",
        "--host=127.0.0.1",
        f"--port={port}",
    ]
    return [sys.executable, "-I", "-S", leash.__file__, str(os.getpid()), *framework, *options]


@dataclass(frozen=True)
class Running:
    """A process that listens."""

    revision: str
    port: int
    process: subprocess.Popen[bytes]

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def end(self) -> None:
        """Ask, wait, then make sure; the process and its workers are one group."""
        for sign in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.process.pid, sign)
            except ProcessLookupError:
                break
            try:
                self.process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                continue
        self.process.wait()


class Processes:
    """`Runtime`: at most one process for each function. All is kept below one folder."""

    def __init__(self, home: Path, url: str) -> None:
        self._url = url
        self._keys = home / "keys"
        self._builder = Builder(home / "functions")
        self._logs = home / "log"
        self._logs.mkdir(parents=True, exist_ok=True)
        self._running: dict[str, Running] = {}
        self._locks: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()
        # A leash ends a program with the thread that started it, so all are started by one that lasts.
        self._starter = ThreadPoolExecutor(1, "function-starter")
        self._http = httpx.Client(trust_env=False, follow_redirects=False)

    def build(self, archive: bytes, runtime: str, variables: Mapping[str, str], log: Path) -> Built:
        return self._builder.build(archive, runtime, variables, log)

    def log(self, short: str) -> Path:
        return self._logs / f"function-{short}.log"

    def start(self) -> None:
        """Processes start when they are needed."""

    def stop(self) -> None:
        with self._lock:
            running, self._running = list(self._running.values()), {}
        for process in running:
            process.end()
        self._starter.shutdown(wait=True)
        self._http.close()

    def ensure(self, serving: Serving) -> Running:
        """The process of this revision: the one that runs, or a new one that replaces what runs."""
        with self._lock:
            lock = self._locks.setdefault(serving.function, threading.Lock())
        with lock:
            there = self._running.get(serving.function)
            if there is not None and there.alive and there.revision == serving.revision:
                return there
            started = self._start(serving)
            with self._lock:
                self._running[serving.function] = started
        if there is not None:
            there.end()
        return started

    def end(self, function: str) -> None:
        with self._lock:
            running = self._running.pop(function, None)
        if running is not None:
            running.end()

    def call(self, serving: Serving, method: str, headers: Mapping[str, str], body: bytes) -> httpx.Response:
        """Hand a request to the function; raises StartError or httpx.HTTPError."""
        kept = {name: value for name, value in headers.items() if name.lower() not in _CUT}
        url = f"http://127.0.0.1:{self.ensure(serving).port}/"
        return self._http.request(method, url, headers=kept, content=body, timeout=serving.timeout)

    def _start(self, serving: Serving) -> Running:
        port = free_port()
        try:
            process = self._starter.submit(self._spawn, serving, port).result()
        except RuntimeError as error:  # the starter is gone: the server stops
            raise Interrupted from error
        running = Running(serving.revision, port, process)
        try:
            _await_listening(running)
        except StartError as error:
            running.end()
            raise StartError(f"{error}\n{tail(self.log(serving.short))}") from error
        return running

    def _key(self, account: str) -> Path:
        path = self._keys / f"{account}.json"
        if not path.exists():
            _write_private(path, json.dumps(new_key(account, self._url)))
        return path

    def _spawn(self, serving: Serving, port: int) -> subprocess.Popen[bytes]:
        with self.log(serving.short).open("ab") as output:
            return subprocess.Popen(
                command(serving, port),
                cwd=serving.source,
                env=environment(serving, port, os.environ, self._key(serving.account)),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )


def _write_private(path: Path, text: str) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.write_text(text)


def _await_listening(running: Running) -> None:
    """Poll until the port accepts. Real time: a process does not care how a test turns its clock."""
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if not running.alive:
            raise StartError(f"the function's process ended with status {running.process.returncode}")
        with socket.socket() as probe:
            probe.settimeout(0.2)
            if probe.connect_ex(("127.0.0.1", running.port)) == 0:
                return
        time.sleep(0.02)
    raise StartError(f"the function did not listen on its port within {_START_SECONDS:.0f} seconds")
