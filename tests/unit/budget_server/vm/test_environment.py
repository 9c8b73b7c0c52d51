"""Environments for requirements, built by the real uv from files (no index)."""

import hashlib
import subprocess
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from budget_server.vm import environment
from budget_server.vm.artifact import Artifact
from budget_server.vm.config import BudgetConfig, Manifest, Secrets
from budget_server.vm.environment import (
    Environments,
    environment_key,
    explain,
    points_to_file,
    server_requirements,
)
from budget_server.vm.errors import Interrupted, RequirementsFailed
from budget_server.vm.process import Identity
from budget_server.vm.settings import image_paths

ENV = {"PATH": "/usr/bin:/bin"}


def wheel(directory: Path, name: str, version: str) -> str:
    """A one-module wheel; the requirement line that means it."""
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": f"version = {version!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},,\n" for path in (*files, f"{info}/RECORD"))
    path = directory / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in {**files, f"{info}/RECORD": record}.items():
            archive.writestr(file, text)
    return f"./{path.name}"


def artifact(code_dir: Path, requirements: Sequence[str], seconds: float = 60) -> Artifact:
    code_dir.mkdir(exist_ok=True)
    config = BudgetConfig(
        image="i",
        deployment="d",
        revision="a" * 12,
        bucket="b",
        bundle="x",
        bundle_sha256=hashlib.sha256(b"").hexdigest(),
        sealed="y",
        sealed_sha256="",
    )
    manifest = Manifest.model_validate(
        {
            "version": 1,
            "deployment": "team/demo",
            "entrypoint": "predictor:Predictor",
            "requirements": list(requirements),
            "readiness": {"startupSeconds": seconds},
        }
    )
    return Artifact(config, manifest, Secrets(username="u", password="hunter22", token="t0ken"), code_dir)


@pytest.fixture
def environments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Environments:
    """Environments whose server needs nothing, so that no index is asked."""
    monkeypatch.setattr(environment, "server_requirements", tuple)
    root = tmp_path / "environments"
    root.mkdir()
    return Environments(root, tmp_path / "cache", image_paths(), Identity())


def run(python: Path, code: str) -> str:
    done = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_without_requirements_the_image_serves_as_it_is(environments: Environments, tmp_path: Path) -> None:
    provided = environments.provide(artifact(tmp_path / "code", ()), ENV, lambda: False)
    assert provided.name == ""
    assert run(provided.python, "import budget_server; print('here')") == "here"


def test_own_packages_win_and_the_image_stays_visible(environments: Environments, tmp_path: Path) -> None:
    code = tmp_path / "code"
    code.mkdir()
    lines = [wheel(code, "httpx", "99.0")]  # the image has another one
    provided = environments.provide(artifact(code, lines), ENV, lambda: False)
    assert run(provided.python, "import httpx; print(httpx.version)") == "99.0"
    assert run(provided.python, "import budget_server.app, fastapi; print('here')") == "here"
    assert provided.python.parent.parent.name == provided.name


def test_an_environment_is_built_once(
    environments: Environments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = tmp_path / "code"
    code.mkdir()
    wanted = artifact(code, [wheel(code, "demo", "1.0")])
    first = environments.provide(wanted, ENV, lambda: False)
    monkeypatch.setattr(environment, "find_uv_bin", lambda: "/bin/false")
    assert environments.provide(wanted, ENV, lambda: False) == first


def test_a_conflict_is_named_and_leaves_nothing(environments: Environments, tmp_path: Path) -> None:
    code = tmp_path / "code"
    code.mkdir()
    lines = [wheel(code, "demo", "1.0"), "demo>=2"]
    with pytest.raises(RequirementsFailed, match="demo"):
        environments.provide(artifact(code, lines), ENV, lambda: False)
    assert not list((tmp_path / "environments").iterdir())


def test_a_line_that_is_no_requirement_is_named(environments: Environments, tmp_path: Path) -> None:
    with pytest.raises(RequirementsFailed, match="Unexpected '!'") as raised:
        environments.provide(artifact(tmp_path / "code", ["!!"]), ENV, lambda: False)
    assert "error" in raised.value.log


def test_a_file_of_the_code_may_be_referred_to(environments: Environments, tmp_path: Path) -> None:
    code = tmp_path / "code"
    code.mkdir()
    (code / "more.txt").write_text(wheel(code, "demo", "1.0"))
    provided = environments.provide(artifact(code, ["-r more.txt"]), ENV, lambda: False)
    assert run(provided.python, "import demo; print(demo.version)") == "1.0"


def test_newer_intent_and_lateness_end_the_build(
    environments: Environments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    endless = tmp_path / "uv"
    endless.write_text("#!/bin/sh\nexec sleep 60\n")
    endless.chmod(0o755)
    monkeypatch.setattr(environment, "find_uv_bin", lambda: str(endless))
    with pytest.raises(Interrupted):
        environments.provide(artifact(tmp_path / "code", ["demo"]), ENV, lambda: True)
    with pytest.raises(RequirementsFailed, match="longer than"):
        environments.provide(artifact(tmp_path / "code", ["demo"], seconds=0.2), ENV, lambda: False)


def test_sweeping_and_pruning(environments: Environments, tmp_path: Path) -> None:
    root = tmp_path / "environments"
    for name in (".building-x", "old", "current"):
        (root / name / "bin").mkdir(parents=True)
    environments.sweep()
    assert {path.name for path in root.iterdir()} == {"old", "current"}
    environments.prune(frozenset({"current", ""}))
    assert {path.name for path in root.iterdir()} == {"current"}


def test_the_name_follows_the_content() -> None:
    given: dict[str, Any] = {
        "requirements": ["a==1"],
        "server": ["b>2"],
        "image": ["/x"],
        "python": "3.11",
        "code_sha256": "0",
    }
    name = environment_key(**given)
    others = {"requirements": ["a==2"], "server": ["b>3"], "image": ["/y"], "python": "3.12"}
    for field, value in others.items():
        assert environment_key(**{**given, field: value}) != name, field
    assert environment_key(**{**given, "code_sha256": "1"}) == name, "other code, same environment"
    files = {**given, "requirements": ["-r more.txt"]}
    assert environment_key(**{**files, "code_sha256": "1"}) != environment_key(**files)


@pytest.mark.parametrize(
    ("line", "is_file"),
    [("a==1", False), ("-r x.txt", True), (" ./a.whl", True), ("a @ file:///b", True), ("a[b]>=1.0", False)],
)
def test_lines_that_point_to_a_file(line: str, is_file: bool) -> None:
    assert points_to_file(line) is is_file


def test_the_server_asks_for_its_own_but_not_for_process_1() -> None:
    names = " ".join(server_requirements())
    assert "fastapi" in names
    assert "gunicorn" in names
    assert not any(name in names for name in ("caddy", "httpx", "uv<"))


def test_explaining_without_a_word_from_uv() -> None:
    assert explain("", "was ended by SIGKILL").endswith("uv was ended by SIGKILL")
