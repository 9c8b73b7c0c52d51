"""Every check of the project, each announced with its seconds; `make test` and CI run them all.

One after another, but for three things. What knows no time but its own runs aside from the beginning, and
gets what the others leave of the processor. The control plane is compiled meanwhile. What mostly computes
runs beside tests that mostly wait.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from dev import engine, images
from dev.cluster import CONTROL_PLANE
from dev.errors import DevError
from dev.kind import cluster as kind
from dev.paths import ROOT, VENV_BIN, locked
from dev.progress import step

DEV = (sys.executable, "-m", "dev")
TYPED = ("budget_operator", "budget_server", "localcloud", "dev")


@dataclass(frozen=True)
class Check:
    """One check: its name and the commands that must all succeed."""

    name: str
    commands: tuple[tuple[str, ...], ...]
    aside: bool = False  # knows no time but its own, so it may run beside the others
    beside: str = ""  # runs while that one does, if both are asked for


@dataclass(frozen=True)
class Result:
    """Of a check; `output` of one that ran aside.

    `cpu_seconds` is the processor time of its processes: what it costs, whatever else runs. Docker's
    containers are not in it, nor what was built for it before.
    """

    name: str
    passed: bool
    seconds: float
    cpu_seconds: float
    output: str = ""


SCRIPTS = (
    ".ci/run",
    "dev/existing.sh",
    "dev/image/minimal.sh",
    "dev/image/seal.sh",
    "dev/kind/bin/docker",
    "dev/kind/node/node-init",
    "dev/venv.sh",
    "localcloud/vm-image/poweroff",
    "localcloud/vm-image/vm-init",
    "operator/budget_operator/boot/shutdown.sh",
    "operator/budget_operator/boot/startup.sh",
)

COMPILED = {"cluster", "e2e", "kind"}  # these need a control plane
HISTORIES = ("tests/simulation/test_histories.py", "tests/simulation/test_planted_bugs.py")
CHECKS = (
    Check(
        "lint",
        (
            ("ruff", "check", "."),
            ("ruff", "format", "--check", "."),
            ("shellcheck", "--external-sources", *SCRIPTS),
        ),
    ),
    Check(
        "types",
        (
            ("mypy", "--strict", *(f"--package={package}" for package in TYPED)),
            ("mypy", "--strict", "restart_function/main.py"),
            ("mypy", "--strict", "tests"),
        ),
        beside="unit",
    ),
    Check("imports", (("lint-imports",),)),
    Check("unit", (("pytest", "tests/unit"),)),
    Check("contract", (("pytest", "tests/contract"),), beside="e2e"),
    Check(
        "simulation",
        (("pytest", "tests/simulation", *(f"--ignore={file}" for file in HISTORIES)),),
        aside=True,
    ),
    Check("histories", (("pytest", *HISTORIES),), aside=True),
    Check("cluster", (("pytest", "tests/cluster"),), beside="e2e"),
    Check("e2e", (("pytest", "tests/e2e"),)),
    Check("kind", (("pytest", "tests/kind"),)),
)


def run(only: list[str]) -> bool:
    """Runs the checks in order, all of them even if one fails; true if none did."""
    if unknown := set(only) - {check.name for check in CHECKS}:
        known = ", ".join(check.name for check in CHECKS)
        raise DevError(f"No such check: {', '.join(sorted(unknown))}. There are {known}.")
    chosen = [check for check in CHECKS if check.name in only or not only]
    lowest = [check.name for check in chosen if check.aside and len(chosen) > 1]
    started = time.monotonic()
    with ExitStack() as stack:
        if chosen[0].name not in COMPILED and COMPILED & {check.name for check in chosen}:
            # while the checks in front of them run; whoever needs it before it is done waits for its lock
            stack.enter_context(aside("control plane", (*DEV, "cluster", "build"), niceness=5))
        ends = [stack.enter_context(aside(name, _alone(name), niceness=19)) for name in lowest]
        results = [result for group in groups(chosen, lowest) for result in _together(*group)]
        results += [end() for end in ends]
    for result in results:
        print(result.output, end="")
    print()
    for result in results:
        cpu = f"{result.cpu_seconds:8.1f} s of a processor"
        print(f"{result.name:<18}{_word(result):<8}{result.seconds:8.1f} s{cpu}")
    print(f"{'all':<26}{time.monotonic() - started:8.1f} s")
    return all(result.passed for result in results)


def groups(chosen: Sequence[Check], lowest: Sequence[str]) -> list[tuple[Check, list[str]]]:
    """The checks in front, in order, each with the names of those that run beside it."""
    names = {check.name for check in chosen}
    front = [check for check in chosen if check.name not in lowest and check.beside not in names]
    return [(check, [each.name for each in chosen if each.beside == check.name]) for check in front]


def _together(check: Check, beside: Sequence[str]) -> list[Result]:
    if not beside:
        return [_one(check)]
    print(f"\n=== {', '.join(beside)}: beside {check.name}", flush=True)
    with aside(", ".join(beside), _alone(*beside), niceness=10) as end:
        return [_one(check), end()]


def _one(check: Check) -> Result:
    print(f"\n=== {check.name}", flush=True)
    since = time.monotonic()
    with _prepared(check.name):
        ended = [_run(command) for command in check.commands]
    passed, cpu_seconds = all(good for good, _ in ended), sum(spent for _, spent in ended)
    result = Result(check.name, passed, time.monotonic() - since, cpu_seconds)
    print(f"=== {check.name}: {_word(result)} after {result.seconds:.1f} s", flush=True)
    return result


def _word(result: Result) -> str:
    return "ok" if result.passed else "FAILED"


def _alone(*names: str) -> tuple[str, ...]:
    return (*DEV, "test", *names)


@contextmanager
def aside(name: str, argv: Sequence[str], niceness: int) -> Iterator[Callable[[], Result]]:
    """Runs something beside the checks; gives what waits for its end. It never outlives the block."""
    since = time.monotonic()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            argv, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        _be_nice(process.pid, niceness)

        def end() -> Result:
            passed, cpu_seconds = _ended(process)
            output.seek(0)
            told = output.read().decode(errors="replace")
            return Result(name, passed, time.monotonic() - since, cpu_seconds, told)

        try:
            yield end
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _be_nice(session: int, niceness: int) -> None:
    """Lets others go first, also where the scheduler weighs sessions, not processes (sched(7), autogroup)."""
    os.setpriority(os.PRIO_PROCESS, session, niceness)
    with suppress(OSError):  # a kernel without them, or a /proc that may not be written to
        Path(f"/proc/{session}/autogroup").write_text(str(niceness))


@contextmanager
def _prepared(name: str) -> Iterator[None]:
    """Builds what a check stands on where its seconds are seen; ends the engine if it was started here."""
    if name in COMPILED:
        with step("control plane built"):
            CONTROL_PLANE.build()
    if name not in {"e2e", "kind"}:
        yield
        return
    was_up = engine.find() is not None
    docker = engine.up()
    try:
        with locked("images"), step("images built"):
            images.build(docker, images.TARGETS if name == "kind" else images.STACK_TARGETS)
        if name == "kind":
            kind.programs(docker)
        yield
    finally:
        if not was_up:
            engine.release()


def _run(command: tuple[str, ...]) -> tuple[bool, float]:
    argv = [str(VENV_BIN / command[0]), *command[1:]]
    with subprocess.Popen(argv, cwd=ROOT) as process:
        return _ended(process)


def _ended(process: subprocess.Popen[bytes]) -> tuple[bool, float]:
    """Waits for it. Whether it ended well, and the processor's seconds of it and of all it waited for."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode == 0, usage.ru_utime + usage.ru_stime
