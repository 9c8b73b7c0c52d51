"""The README and those of the examples, command for command, in a shell where `.local` is this stack's.

Setting up and taking down is what other tests and CI do; of such commands only their existence is checked
here. Every other command is run, and what it prints is compared with what the document shows.
"""

import os
import re
import selectors
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from dev import documents
from dev.documents import Block
from dev.paths import LOCAL, ROOT
from dev.stack import Stack

DOCUMENTS = (ROOT / "README.md", *sorted(ROOT.glob("examples/*/README.md")))
ELSEWHERE = re.compile(r"make( [a-z0-9]+)?( [A-Z]+=\S+)?|git clone \S+( \S+)?|cd [-\w]+")
COMMAND_SECONDS = 600.0


@dataclass(frozen=True)
class Result:
    """How one command ended."""

    code: int
    out: str
    err: str


class Shell:
    """One bash, as a reader has it open: what a command sets, the next ones see."""

    def __init__(self, place: Path, notes: Path) -> None:
        self._notes = notes
        self._count = 0
        self._bash = subprocess.Popen(
            ["bash", "--noprofile", "--norc", "-o", "pipefail"],
            cwd=place,
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
def shell(stack: Stack, tmp_path: Path) -> Iterator[Shell]:
    """A shell in what looks like the checkout, with this stack's folder as `.local`."""
    place, notes = tmp_path / "checkout", tmp_path / "notes"
    place.mkdir()
    notes.mkdir()
    for entry in ROOT.iterdir():
        if entry not in (LOCAL, ROOT / ".git"):
            (place / entry.name).symlink_to(entry)
    (place / ".local").symlink_to(stack.home.root)
    opened = Shell(place, notes)
    yield opened
    opened.close()
    stack.kubectl("delete", "bd", "--all", "--namespace=default", "--timeout=120s")


def runs_here(command: str) -> bool:
    return ELSEWHERE.fullmatch(command) is None


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def enter(shell: Shell, document: Path) -> None:
    """A reader of an example has sourced the environment as the README told."""
    if document != ROOT / "README.md":
        assert shell.run(". .local/env").code == 0


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_every_command_does_what_the_document_shows(document: Path, shell: Shell) -> None:
    blocks = documents.blocks(document)
    commands = [command for block in blocks for command in block.commands]
    executed = []
    enter(shell, document)
    for block in blocks:
        printed = ""
        for command in filter(runs_here, block.commands):
            result = shell.run(command)
            executed.append(command)
            assert result.code == 0, f"{command}\nended with {result.code}:\n{result.out}{result.err}"
            printed += result.out
        check(block, printed)
    assert executed == [command for command in commands if runs_here(command)]
    assert executed, f"{document} has no commands to run"
    left = shell.run("localcloud ls")
    assert (left.code, left.out) == (0, ""), f"the document's end leaves something behind:\n{left.out}"


def check(block: Block, printed: str) -> None:
    """What was printed is what is shown, for a block that was run here."""
    if block.shown is None or not any(map(runs_here, block.commands)):
        return
    assert documents.agrees(block.shown, printed), (
        f"{block.commands[-1]}\nprinted:\n{documents.plain(printed)}\n"
        f"but the document shows:\n{documents.plain(block.shown.content)}"
    )


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_what_is_not_run_here_is_a_target_of_the_makefile(document: Path) -> None:
    for block in documents.blocks(document):
        for command in block.commands:
            if command.startswith("make") and not runs_here(command):
                argv = ["make", "--dry-run", *command.split()[1:]]
                done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
                assert done.returncode == 0, f"{command}: {done.stderr}"
