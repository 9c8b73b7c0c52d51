"""Background processes of a stack: start, find and end them, whatever was killed in between.

Each process carries a mark in its environment that its children inherit. The mark, not a number in a
file, says what is ours: a reused pid is never signalled, children and orphans without a pid file are found.
`run/NAME.pid` is for people and scripts.
"""

import contextlib
import os
import select
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dev.paths import Home
from dev.progress import until

MARK = "BUDGETML_PROCESS"


@dataclass(frozen=True)
class Process:
    """One background process of a stack, running or not."""

    home: Home
    name: str

    @property
    def pid_file(self) -> Path:
        """Holds the pid and nothing else."""
        return self.home.run / f"{self.name}.pid"

    @property
    def log_file(self) -> Path:
        """Gets both output streams, appended."""
        return self.home.log / f"{self.name}.log"

    @property
    def mark(self) -> str:
        """What the environment of this process and its children holds."""
        return f"{self.home.root}:{self.name}"

    def pid(self) -> int | None:
        """The pid of the living process."""
        try:
            pid = int(self.pid_file.read_text())
        except (OSError, ValueError):
            return None
        return pid if mark_of(pid) == self.mark else None

    def start(self, argv: Sequence[str | Path], env: Mapping[str, str] | None = None) -> int:
        """Starts it unless it runs; what an earlier run left behind is ended first."""
        if (running := self.pid()) is not None:
            return running
        self._kill_marked()
        self.home.run.mkdir(parents=True, exist_ok=True)
        self.home.log.mkdir(parents=True, exist_ok=True)
        with self.log_file.open("ab") as log:
            child = subprocess.Popen(
                [str(part) for part in argv],
                env={**(os.environ if env is None else env), MARK: self.mark},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.pid_file.write_text(f"{child.pid}\n")
        # for a moment in the middle of exec the environment reads as empty
        until(lambda: self.pid() is not None or child.poll() is not None, 10, f"{self.name} does not start")
        return child.pid

    def stop(self, seconds: float = 30) -> bool:
        """Asks it to end, then kills it and all its children; true if there was anything to end."""
        pid = self.pid()
        found = pid is not None
        if pid is not None:
            _signal(pid, self.mark, signal.SIGTERM, seconds)
        found = self._kill_marked() or found
        self.pid_file.unlink(missing_ok=True)
        return found

    def kill(self) -> None:
        """SIGKILL to the process alone, as a crash would."""
        if (pid := self.pid()) is not None:
            _signal(pid, self.mark, signal.SIGKILL, 10)

    def log_tail(self, lines: int = 25) -> str:
        """The log's last lines, for an error message."""
        with contextlib.suppress(OSError):
            return "\n".join(self.log_file.read_text(errors="replace").splitlines()[-lines:])
        return ""

    def _kill_marked(self) -> bool:
        found = False

        def none_left() -> bool:
            nonlocal found
            pids = marked(self.mark)
            for pid in pids:
                found = True
                _signal(pid, self.mark, signal.SIGKILL, 1)
            return not pids

        until(none_left, 20, f"{self.name}: some of its processes do not end", interval=0.05)
        return found


def marks() -> dict[int, str]:
    """Every living process that carries a mark, of whatever checkout."""
    if not Path("/proc").is_dir():  # elsewhere than on Linux all that we run is containers
        return {}
    pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
    return {pid: mark for pid in pids if (mark := mark_of(pid))}


def marked(mark: str) -> list[int]:
    """All living processes with this mark."""
    return [pid for pid, found in marks().items() if found == mark]


def processes_of(home: Home) -> list[Process]:
    """Whatever lives of this stack, also what no pid file tells of; the engine belongs to all stacks."""
    prefix = f"{home.root}:"
    names = {mark.removeprefix(prefix) for mark in marks().values() if mark.startswith(prefix)}
    return [Process(home, name) for name in sorted(names - {"dockerd"})]


def mark_of(pid: int) -> str | None:
    """A zombie's environment is empty, so the dead have no mark."""
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return None
    prefix = f"{MARK}=".encode()
    for item in environment.split(b"\0"):
        if item.startswith(prefix):
            return item[len(prefix) :].decode(errors="replace")
    return None


def _signal(pid: int, mark: str, number: signal.Signals, seconds: float) -> None:
    """Signals through a pidfd, checked after it was opened: the pid cannot become another's in between."""
    with contextlib.suppress(ProcessLookupError):
        pidfd = os.pidfd_open(pid)
        try:
            if mark_of(pid) != mark:
                return
            signal.pidfd_send_signal(pidfd, number)
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            poll.poll(seconds * 1000)
        finally:
            os.close(pidfd)
