"""Every check of the project, each announced with its seconds; `make test` and CI run them all."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from dev import cluster, engine, images, promtool
from dev.errors import DevError
from dev.paths import ROOT, VENV_BIN, locked
from dev.progress import step

TYPED = ("budget_operator", "budget_server", "localcloud", "dev")


@dataclass(frozen=True)
class Check:
    """One check: its name and the commands that must all succeed."""

    name: str
    commands: tuple[tuple[str, ...], ...]


SCRIPTS = (
    ".ci/run",
    "dev/existing.sh",
    "dev/venv.sh",
    "localcloud/vm-image/vm-init",
    "operator/budget_operator/boot/shutdown.sh",
    "operator/budget_operator/boot/startup.sh",
)

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
    ),
    Check("imports", (("lint-imports",),)),
    Check("unit", (("pytest", "tests/unit"),)),
    Check("contract", (("pytest", "tests/contract"),)),
    Check("simulation", (("pytest", "tests/simulation"),)),
    Check("cluster", (("pytest", "tests/cluster"),)),
    Check("e2e", (("pytest", "tests/e2e"),)),
)


def run(only: list[str]) -> bool:
    """Runs the checks in order, all of them even if one fails; true if none did."""
    if unknown := set(only) - {check.name for check in CHECKS}:
        known = ", ".join(check.name for check in CHECKS)
        raise DevError(f"No such check: {', '.join(sorted(unknown))}. There are {known}.")
    chosen = [check for check in CHECKS if check.name in only or not only]
    started = time.monotonic()
    lines = []
    for check in chosen:
        print(f"\n=== {check.name}", flush=True)
        since = time.monotonic()
        with _prepared(check.name):
            good = [_succeeds(command) for command in check.commands]
        seconds = time.monotonic() - since
        lines.append((check.name, all(good), seconds))
        print(f"=== {check.name}: {'ok' if all(good) else 'FAILED'} after {seconds:.1f} s", flush=True)
    print()
    for name, passed, seconds in lines:
        print(f"{name:<12}{'ok' if passed else 'FAILED':<8}{seconds:8.1f} s")
    print(f"{'all':<20}{time.monotonic() - started:8.1f} s")
    return all(passed for _, passed, _ in lines)


@contextmanager
def _prepared(name: str) -> Iterator[None]:
    """Builds what a check stands on where its seconds are seen; ends the engine if it was started here."""
    if name in {"cluster", "e2e"}:
        with locked("go"), step("control plane built"):
            cluster.build()
        if name == "cluster":
            with locked("go"), step("promtool built"):
                promtool.build()
    if name != "e2e":
        yield
        return
    was_up = engine.find() is not None
    docker = engine.up()
    try:
        with locked("images"), step("images built"):
            images.build(docker)
        yield
    finally:
        if not was_up:
            engine.release()


def _succeeds(command: tuple[str, ...]) -> bool:
    argv = [str(VENV_BIN / command[0]), *command[1:]]
    return subprocess.run(argv, cwd=ROOT, check=False).returncode == 0
