"""The README and those of the examples, command for command, and what is printed compared with what is shown.

The README is followed where nothing runs, from `make up` to `make down`; an example where a stack runs.
"""

import os
import selectors
import signal
import subprocess
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from dev import documents
from dev.documents import Block
from dev.paths import ROOT
from dev.process import processes_of
from dev.stack import Stack
from tests.e2e import model_hub
from tests.e2e.conftest import Checkout, in_docker

README = ROOT / "README.md"
EXAMPLES = sorted(ROOT.glob("examples/*/README.md"))
ELSEWHERE = {
    "make demo": "test_story.py runs it and looks at every step",
    "make test": "it is what runs this test: CI calls it, and nothing else",
}
COMMAND_SECONDS = 600.0


@dataclass(frozen=True)
class Result:
    """How one command ended."""

    code: int
    out: str
    err: str


class Shell:
    """One bash, as a reader has it open: what a command sets, the next ones see."""

    def __init__(self, place: Path, notes: Path, environment: dict[str, str]) -> None:
        self._notes = notes
        self._count = 0
        self._bash = subprocess.Popen(
            ["bash", "--noprofile", "--norc", "-o", "pipefail"],
            cwd=place,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, command: str) -> Result:
        """Run one command to its end."""
        self._count += 1
        script, out, err = (self._notes / f"{self._count}.{kind}" for kind in ("sh", "out", "err"))
        script.write_text(f"{command}\n")
        assert self._bash.stdin
        self._bash.stdin.write(f". {script} </dev/null >{out} 2>{err}; echo $?\n")
        self._bash.stdin.flush()
        return Result(self._answer(command), out.read_text(), err.read_text())

    def close(self) -> None:
        """End the shell and whatever it still runs."""
        os.killpg(self._bash.pid, signal.SIGKILL)
        self._bash.wait()

    def _answer(self, command: str) -> int:
        assert self._bash.stdout
        with selectors.DefaultSelector() as selector:
            selector.register(self._bash.stdout, selectors.EVENT_READ)
            if not selector.select(COMMAND_SECONDS):
                raise AssertionError(f"still not done after {COMMAND_SECONDS:.0f} s: {command}")
        return int(self._bash.stdout.readline())


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    """A folder for a shell's commands and their output."""
    folder = tmp_path / "notes"
    folder.mkdir()
    return folder


@pytest.fixture
def shell(checkout: Checkout, notes: Path) -> Iterator[Shell]:
    """A shell in a checkout where nothing runs."""
    ended = checkout.make("down")
    assert ended.returncode == 0, ended.stderr
    opened = Shell(checkout.root, notes, checkout.environment)
    yield opened
    opened.close()


@pytest.fixture
def shell_with_stack(stack: Stack, tmp_path: Path, notes: Path) -> Iterator[Shell]:
    """A shell in what looks like a checkout where the stack runs, after the README's `. .local/env`."""
    place = tmp_path / "checkout"
    place.mkdir()
    (place / "examples").symlink_to(ROOT / "examples")
    (place / ".local").symlink_to(stack.home.root)
    with model_hub.served(stack.home.gateway) as hub:
        opened = Shell(place, notes, {**os.environ, "HF_ENDPOINT": hub})
        assert opened.run(". .local/env").code == 0
        yield opened
        opened.close()
    stack.kubectl("delete", "bd", "--all", "--namespace=default", "--timeout=120s")


def test_the_readme_does_what_it_shows_from_up_to_down(shell: Shell, checkout: Checkout) -> None:
    executed = play(README, shell)
    assert executed[0] == "make up"
    assert executed[-1] == "make down"
    assert processes_of(checkout.home) == []
    assert not list(checkout.home.run.glob("*.pid"))
    assert in_docker(checkout.docker, checkout.home) == []
    again = shell.run("make down")
    assert again.code == 0, again.err
    status = shell.run("make status").out
    assert "running" not in status, status


@pytest.mark.parametrize("document", EXAMPLES, ids=lambda path: path.parent.name)
def test_an_example_does_what_it_shows(document: Path, shell_with_stack: Shell) -> None:
    play(document, shell_with_stack)
    left = shell_with_stack.run("localcloud ls")
    assert (left.code, left.out) == (0, ""), f"the document's end leaves something behind:\n{left.out}"


def play(document: Path, shell: Shell, elsewhere: Collection[str] = tuple(ELSEWHERE)) -> list[str]:
    """Run a document's commands and compare what they print with what is shown; the commands."""
    executed = []
    for block in documents.blocks(document):
        printed = ""
        for command in block.commands:
            if command in elsewhere:
                continue
            result = shell.run(command)
            executed.append(command)
            assert result.code == 0, f"{command}\nended with {result.code}:\n{result.out}{result.err}"
            printed += result.out
        check(block, printed)
    assert executed, f"{document} has no commands to run"
    return executed


def check(block: Block, printed: str) -> None:
    """What was printed is what is shown, where anything is."""
    if block.shown is None:
        return
    assert documents.agrees(block.shown, printed), (
        f"{block.commands[-1]}\nprinted:\n{documents.plain(printed)}\n"
        f"but the document shows:\n{documents.plain(block.shown.content)}"
    )


def test_only_the_readme_has_commands_that_are_run_elsewhere() -> None:
    found = [
        command
        for path in (README, *EXAMPLES)
        for block in documents.blocks(path)
        for command in block.commands
    ]
    assert sorted(command for command in found if command in ELSEWHERE) == sorted(ELSEWHERE)
