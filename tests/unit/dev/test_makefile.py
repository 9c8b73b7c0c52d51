"""What ends or tells works in any state and installs nothing, as long as nothing can be running."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from dev.paths import HOMES, ROOT

NO_PYTHON = "PYTHON=/bin/false"
ENDING = ("down", "status", "clean")
REMEMBERS = """\
#!/bin/bash
[ "$1" = -c ] || echo "$@" >> calls
"""
BROKEN = """\
#!/bin/bash
exit 1
"""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A checkout as far as these targets look at it; its files are newer than any environment in it."""
    (tmp_path / "dev").mkdir()
    for name in ("Makefile", "dev/existing.sh", "dev/venv.sh"):
        shutil.copy(ROOT / name, tmp_path / name)
    for name in ("requirements", "operator", "server", "localcloud"):
        (tmp_path / name).mkdir()
    for name in ("requirements/bootstrap.txt", "requirements/dev.txt"):
        (tmp_path / name).touch()
    for name in ("operator", "server", "localcloud"):
        (tmp_path / name / "pyproject.toml").touch()
    return tmp_path


def environment(clone: Path, python: str) -> None:
    """A virtual environment whose Python is this script."""
    (clone / ".local" / "venv" / "bin").mkdir(parents=True)
    program = clone / ".local" / "venv" / "bin" / "python"
    program.write_text(python)
    program.chmod(0o755)


def make(clone: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    # these tests run below `make test`, whose options are nobody's here
    env = {key: value for key, value in os.environ.items() if key not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    return subprocess.run(["make", *argv], cwd=clone, env=env, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("target", ENDING)
def test_nothing_runs_in_a_fresh_clone(clone: Path, target: str) -> None:
    done = make(clone, target, NO_PYTHON)
    assert (done.returncode, done.stdout) == (0, "Nothing runs.\n"), done.stderr
    assert not (clone / ".local").exists()


@pytest.mark.parametrize("target", ENDING)
def test_nothing_runs_where_the_installation_was_interrupted(clone: Path, target: str) -> None:
    environment(clone, BROKEN)
    done = make(clone, target, NO_PYTHON)
    assert (done.returncode, done.stdout) == (0, "Nothing runs.\n"), done.stderr


@pytest.mark.parametrize("target", ENDING)
def test_a_stale_environment_is_used_as_it_is(clone: Path, target: str) -> None:
    environment(clone, REMEMBERS)
    done = make(clone, target, NO_PYTHON)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert (clone / "calls").read_text() == f"-m dev {target}\n"


@pytest.mark.parametrize("folder", [str(home.run.relative_to(ROOT)) for home in HOMES])
@pytest.mark.parametrize("target", ENDING)
def test_what_outlived_its_environment_is_not_denied(clone: Path, target: str, folder: str) -> None:
    (clone / folder).mkdir(parents=True)
    (clone / folder / "operator.pid").write_text("1\n")
    done = make(clone, target, NO_PYTHON)
    assert done.returncode != 0
    assert "Python 3.11 is needed" in done.stderr, "the environment is made again first"
    assert (clone / folder / "operator.pid").exists()


def test_other_targets_bring_a_stale_environment_up_to_date(clone: Path) -> None:
    environment(clone, REMEMBERS)
    assert "Python 3.11 is needed" in make(clone, "up", NO_PYTHON).stderr


def test_what_python_compiled_is_kept(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    environment(clone, "#!/bin/bash\necho ${PYTHONDONTWRITEBYTECODE-kept}\n")
    done = make(clone, "status", NO_PYTHON)
    # it is tried before it is used
    assert (done.returncode, done.stdout) == (0, "kept\n" * 2), done.stderr
