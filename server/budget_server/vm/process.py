"""Child processes: under which user they run, where their output goes, how they end.

Output is passed on to this process's own (the container's log) with secret values masked; the last lines are
kept for the state that the operator shows.
"""

import contextlib
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

MASK = "[secret]"
_MAX_LINE = 65536
#: Put before a command: on a full machine the kernel ends this one first, and never what serves.
EXPENDABLE = ("/bin/sh", "-c", 'echo 1000 >/proc/self/oom_score_adj; exec "$@"', "sh")
_MIN_SECRET = 4  # masking a value like "1" would only garble the log


def log(text: str) -> None:
    """One line of process 1 in the container's log, told apart from its children's."""
    sys.stdout.write(f"budget: {text}\n")
    sys.stdout.flush()


class UnknownUser(Exception):
    """The user to run the model as does not exist in this image."""


@dataclass(frozen=True)
class Identity:
    """Who runs the model and what builds its environment; nobody in particular: as this process."""

    uid: int | None = None
    gid: int | None = None

    @classmethod
    def of(cls, user: str) -> "Identity":
        if not user or os.geteuid() != 0:
            return cls()
        try:
            entry = pwd.getpwnam(user)
        except KeyError:
            raise UnknownUser(
                f"The image has no user {user!r} to run the model as; build it FROM the server's image"
            ) from None
        return cls(entry.pw_uid, entry.pw_gid)

    def own(self, path: Path) -> Path:
        """Make a directory that belongs to this user, and in which process 1 may still work.

        By the group, because process 1 lacks the capability to override permissions.
        """
        path.mkdir(mode=0o770, parents=True, exist_ok=True)
        if self.uid is not None and path.stat().st_uid != self.uid:
            path.chmod(0o770)
            os.chown(path, self.uid, os.getegid())
        return path

    def remove(self, path: Path) -> None:
        """Remove a tree that this user made, whatever permissions it gave to it."""
        if self.uid is None:
            shutil.rmtree(path, ignore_errors=True)
        else:
            self.run(["rm", "-rf", "--", str(path)])
            with contextlib.suppress(OSError):
                path.rmdir()  # its parent may be closed to that user

    def run(self, command: Sequence[str]) -> int:
        done = subprocess.run(
            command,
            user=self.uid,
            group=self.gid,
            extra_groups=self.groups,
            check=False,
            stderr=subprocess.DEVNULL,
        )
        return done.returncode

    @property
    def groups(self) -> list[int] | None:
        return None if self.uid is None else []


def _quoted(value: str) -> tuple[str, str]:
    """How it looks in a printed dict, such as the whole environment, and in JSON."""
    return repr(value)[1:-1], json.dumps(value)[1:-1]


class Masker:
    """Replaces secret values in lines that people will see."""

    def __init__(self, secrets: Sequence[str]) -> None:
        lines = (line for value in secrets for line in (value, *value.splitlines(), *_quoted(value)))
        # the longest first: one value may be part of another
        self._secrets = sorted({line for line in lines if len(line) >= _MIN_SECRET}, key=len, reverse=True)

    def __call__(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, MASK)
        return text


class Child:
    """A running program in its own session, its output relayed."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        identity: Identity = Identity(),
        cwd: Path | None = None,
        stdin: bytes | None = None,
        mask: Masker | None = None,
        keep_lines: int = 80,
    ) -> None:
        self._mask = mask or Masker(())
        self._lines: deque[str] = deque(maxlen=keep_lines)
        self._process = subprocess.Popen(
            command,
            env=dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            user=identity.uid,
            group=identity.gid,
            extra_groups=identity.groups,
            start_new_session=True,
        )
        self._relay = threading.Thread(target=self._pass_on, name=f"output of {self.pid}", daemon=True)
        self._relay.start()
        if stdin is not None and self._process.stdin:
            with contextlib.suppress(BrokenPipeError), self._process.stdin as pipe:
                pipe.write(stdin)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        return self._process.poll()

    def tail(self) -> str:
        """The last lines of output; all of them once the program has ended."""
        if self.exit_code is not None:
            self._relay.join(timeout=1)
        return "\n".join(self._lines)

    def terminate(self) -> None:
        if self.exit_code is None:
            self._process.terminate()

    def wait(self, seconds: float | None) -> bool:
        """Whether it ended within these seconds; None: however long it takes."""
        try:
            self._process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def kill(self) -> None:
        """End it and whatever it started, at once."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()

    def _pass_on(self) -> None:
        pipe = self._process.stdout
        assert pipe
        for raw in iter(lambda: pipe.readline(_MAX_LINE), b""):
            line = self._mask(raw.decode(errors="replace").rstrip("\n"))
            self._lines.append(line)
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()


def members(session: int) -> tuple[int, ...]:
    """The processes of a session: a program and whatever it has forked."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            # the name, in brackets, may hold blanks and brackets itself
            if int(path.read_text().rpartition(")")[2].split()[3]) == session:
                found.append(int(path.parent.name))
    return tuple(found)


def describe_exit(code: int | None) -> str:
    """How a program ended, for people."""
    if code is None:
        return "is still running"
    if code >= 0:
        return f"ended with exit code {code}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
    hint = "; the machine may be out of memory" if name == "SIGKILL" else ""
    return f"was ended by {name}{hint}"
