"""What decides about an environment, and what a build may know. Real builds are in the contract tests."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest

from localcloud.services.functions.build import Builder, base_environment, environment_key, tail
from localcloud.services.functions.runtime import BuildError


def archive(**files: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as opened:
        for name, text in files.items():
            opened.writestr(name.replace("__", "."), text)
    return buffer.getvalue()


def test_the_key_follows_requirements_and_interpreter() -> None:
    keys = {
        environment_key(content, python) for content in (b"a", b"b", b"") for python in ("/usr/bin/py", "/py")
    }
    assert len(keys) == 6


def test_only_paths_certificates_and_proxies_are_inherited() -> None:
    parent = {
        "PATH": "/bin",
        "SSL_CERT_FILE": "/c",
        "HTTPS_PROXY": "p",
        "https_proxy": "p",
        "UV_CACHE_DIR": "/u",
    }
    secrets = {
        "GOOGLE_APPLICATION_CREDENTIALS": "/key",
        "PYTHONPATH": "/x",
        "BUDGET_PWD": "x",
        "VIRTUAL_ENV": "/v",
    }
    assert base_environment(parent | secrets) == parent


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"not a zip", "not a zip"), (archive(other__py="x = 1"), "no main.py")],
)
def test_what_cannot_be_built_says_why(content: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=message):
        Builder(tmp_path).build(content, "python311", {}, tmp_path / "log")
    assert not [left for left in (tmp_path / "sources").iterdir() if "." in left.name]


def test_members_stay_inside_the_folder(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as opened:
        opened.writestr("../../escaped.py", "")
    with pytest.raises(BuildError, match=r"no main\.py"):
        Builder(tmp_path / "functions").build(buffer.getvalue(), "python311", {}, tmp_path / "log")
    assert not list(tmp_path.glob("escaped.py"))


def test_tail(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert tail(log) == ""
    log.write_text("\n".join(str(number) for number in range(100)))
    assert tail(log, 2) == "98\n99"
