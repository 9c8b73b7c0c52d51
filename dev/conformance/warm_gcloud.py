"""gcloud with its modules loaded once: a server that forks for each call, and what is run in Python's place.

Loading them takes most of the processor time of a call. gcloud's own Python, which is not ours, runs a copy
of this file: it imports nothing but the standard library.
"""

from __future__ import annotations

import json
import os
import runpy
import socket
import sys
from pathlib import Path
from typing import Any, NoReturn

OWN = "CLOUDSDK_PYTHON"
ARGUMENTS = f"{OWN}_ARGS"
WHICH_PYTHON = (OWN, ARGUMENTS, f"{OWN}_SITEPACKAGES", "CLOUDSDK_GSUTIL_PYTHON", "CLOUDSDK_BQ_PYTHON")
STREAMS = 3
KILLED = b"137"


def call(address: str, *words: str) -> int:
    """One call with this process's streams, folder and environment; gcloud's exit code."""
    given = words[len(os.environ.get(ARGUMENTS, "").split()) + 1 :]  # after Python's and gcloud's program
    asked = {"words": given, "folder": str(Path.cwd()), "environment": dict(os.environ)}
    text = json.dumps(asked).encode()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address)
        socket.send_fds(connection, [len(text).to_bytes(8, "big")], range(STREAMS))
        connection.sendall(text)
        return int(connection.recv(16) or KILLED)


def serve(program: str, address: str) -> NoReturn:
    """Answers calls until it is killed; each of them ends a process of its own."""
    _load(program)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen(64)
        _stand_in(address)
        while True:
            connection, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                _answer(connection, program)
            connection.close()
            while _ended():
                pass


def _load(program: str) -> None:
    """The modules. The program itself says where they are, and is to find the path as it was."""
    sys.path[0] = str(Path(program).resolve().parent)
    before = list(sys.path)
    runpy.run_path(program, run_name="loaded")
    __import__("googlecloudsdk.gcloud_main")
    sys.path[:] = before


def _ended() -> bool:
    try:
        return os.waitpid(-1, os.WNOHANG)[0] != 0
    except ChildProcessError:
        return False


def _stand_in(address: str) -> None:
    """Writes what takes the place of gcloud's Python. It is there as soon as calls are answered."""
    draft = Path(f"{address}.new")
    draft.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "{__file__}" call "{address}" "$@"\n')
    draft.chmod(0o700)
    draft.rename(f"{address}.python")


def _answer(connection: socket.socket, program: str) -> NoReturn:
    size, streams, _, _ = socket.recv_fds(connection, 8, STREAMS)
    with connection.makefile("rb") as file:
        asked = json.loads(file.read(int.from_bytes(size, "big")))
    gcloud = os.fork()
    if gcloud == 0:
        connection.close()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        _be_gcloud(program, asked)
    for stream in (*streams, *range(STREAMS)):
        os.close(stream)
    code = os.waitstatus_to_exitcode(os.waitpid(gcloud, 0)[1])
    connection.sendall(b"%d" % (code if code >= 0 else 128 - code))
    os._exit(0)


def _be_gcloud(program: str, asked: dict[str, Any]) -> NoReturn:
    """As its program would; from the beginning where modules may have looked at other settings."""
    loaded_with = _settings(dict(os.environ))
    environment = _as_without_us(asked["environment"])
    os.chdir(asked["folder"])
    if _settings(environment) != loaded_with:
        arguments = environment[ARGUMENTS].split()
        os.execve(sys.executable, [sys.executable, *arguments, program, *asked["words"]], environment)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [program, *asked["words"]]
    runpy.run_path(program, run_name="__main__")
    sys.exit()


def _settings(environment: dict[str, str]) -> dict[str, str]:
    """What gcloud may look at while its modules are loaded."""
    names = (name for name in environment if name.startswith("CLOUDSDK_") and name not in WHICH_PYTHON)
    return {name: environment[name] for name in (*names, "HOME") if name in environment}


def _as_without_us(environment: dict[str, str]) -> dict[str, str]:
    """Which Python is gcloud's is as it found it for the server, without this file."""
    kept = {name: value for name, value in environment.items() if name not in WHICH_PYTHON}
    found = {name: os.environ[name] for name in WHICH_PYTHON if name in os.environ}
    return kept | found | {ARGUMENTS: found.get(ARGUMENTS, "").partition(__file__)[0].strip()}


if __name__ == "__main__":
    mode, *given = sys.argv[1:]
    sys.exit(call(*given) if mode == "call" else serve(*given))
