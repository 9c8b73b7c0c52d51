"""docs/kind.md, command for command, but for its first and its last, which all tests here stand on."""

import os
from pathlib import Path

from dev.kind.install import KindStack
from dev.paths import ROOT
from tests.e2e.test_readme import Shell, play

ELSEWHERE = ("make kind", "make kind-down")


def test_the_page_does_what_it_shows(running: KindStack, tmp_path: Path) -> None:
    shell = Shell(ROOT, tmp_path, dict(os.environ))
    try:
        executed = play(ROOT / "docs" / "kind.md", shell, ELSEWHERE)
    finally:
        shell.close()
    assert any("--proxytunnel" in command for command in executed)
