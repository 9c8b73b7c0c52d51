"""Every command in a document is run by a test: by which one, and the ones that need nothing else."""

import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from dev.__main__ import app
from dev.paths import ROOT, VENV_BIN

RUN_BY = {
    "README.md": "e2e/test_readme.py",
    "CONTRIBUTING.md": "every test: the environment that it makes is the one they run in",
    "docs/benchmarks.md": "test_a_benchmark_takes_its_options",
    "docs/certificates.md": "cluster/test_troubleshooting.py",
    "docs/gcp.md": "contract/test_gcp.py what gcloud does, kind/test_with_helm.py all else",
    "docs/kind.md": "kind/test_page.py",
    "docs/local-cloud.md": "contract/test_local_cloud_page.py",
    "docs/orphans.md": "contract/test_orphans.py",
    "docs/serving.md": "test_a_predictor_is_checked_as_shown",
    "docs/troubleshooting.md": "cluster/test_troubleshooting.py",
    "operator/deploy/iam/README.md": "contract/test_gcp.py",
}
SHELLS = re.compile(r"^```(?:sh|bash|console)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def documents() -> Iterator[str]:
    for path in sorted(ROOT.rglob("*.md")):
        name = path.relative_to(ROOT)
        # examples' are found by e2e/test_readme.py itself
        if name.parts[0] not in (".local", "examples") and SHELLS.search(path.read_text()):
            yield str(name)


def scripts(name: str) -> list[str]:
    return SHELLS.findall((ROOT / name).read_text())


def test_every_document_with_commands_has_its_test() -> None:
    assert list(documents()) == sorted(RUN_BY)
    for told in RUN_BY.values():
        for path in re.findall(r"[a-z0-9]+/test_[a-z_]+\.py", told):
            assert (ROOT / "tests" / path).exists(), path


def benchmarks() -> list[str]:
    lines = [
        line.partition("#")[0].strip()
        for script in scripts("docs/benchmarks.md")
        for line in script.splitlines()
    ]
    return [line for line in lines if line]


@pytest.mark.parametrize("command", benchmarks())
def test_a_benchmark_takes_its_options(command: str) -> None:
    make, target, *given = shlex.split(command)
    assert make == "make"
    assert re.search(
        rf"^{target}: .*\n\t@\$\(DEV\) {target} \$\(ARGS\)$", (ROOT / "Makefile").read_text(), re.MULTILINE
    )
    words = given[0].removeprefix("ARGS=").split() if given else []
    program = typer.main.get_group(app).commands[target]
    assert program.make_context(target, words).args == []


def test_a_predictor_is_checked_as_shown() -> None:
    (script,) = scripts("docs/serving.md")
    first, *shown = script.splitlines()
    command = shlex.split(first.removeprefix("$ "))
    done = subprocess.run(
        [VENV_BIN / command[0], *command[1:]], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "\n".join(shown[2:]) + "\n"
    assert json.loads(done.stdout)["species"] == "setosa"
    numbers = re.compile(r"\d+\.\d+")
    assert [numbers.sub("N", line) for line in done.stderr.splitlines()] == [
        numbers.sub("N", line) for line in shown[:2]
    ]
    assert Path(ROOT, command[2]).is_dir()
