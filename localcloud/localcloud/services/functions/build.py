"""From a zip to something that can run: the unpacked source and a virtual environment for its requirements.

An environment belongs to the content of a requirements.txt, so a changed main.py builds nothing again.
Environments are built beside and moved into place: one that is there is whole.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import sys
import uuid
import zipfile
from collections.abc import Mapping
from pathlib import Path

from uv import find_uv_bin

from localcloud.services.functions.runtime import BuildError, Built

_FRAMEWORK = "functions-framework"
_BUILD_SECONDS = 900
_KEPT = ("PATH", "HOME", "LANG", "TMPDIR")
_KEPT_PREFIXES = ("UV_", "PIP_", "SSL_", "REQUESTS_", "CURL_", "LC_")
_PROXIES = ("http_proxy", "https_proxy", "no_proxy")


def base_environment(parent: Mapping[str, str]) -> dict[str, str]:
    """What a function may know of the process it is started from: search paths, certificates and proxies."""
    return {
        name: value
        for name, value in parent.items()
        if name in _KEPT or name.startswith(_KEPT_PREFIXES) or name.lower() in _PROXIES
    }


def environment_key(requirements: bytes, python: str) -> str:
    """Equal for equal requirements on an equal interpreter."""
    return hashlib.sha256(python.encode() + b"\0" + requirements).hexdigest()[:24]


class Builder:
    """Builds below one folder; `log` files get what uv says."""

    def __init__(self, folder: Path) -> None:
        self._sources = folder / "sources"
        self._environments = folder / "environments"
        for made in (self._sources, self._environments):
            made.mkdir(parents=True, exist_ok=True)
            for unfinished in made.glob("*.*"):  # of a build that the last server did not end
                shutil.rmtree(unfinished)

    def build(self, archive: bytes, runtime: str, variables: Mapping[str, str], log: Path) -> Built:
        """Unpack and install; raises BuildError with the last lines of the log."""
        source = self._unpack(archive)
        if not (source / "main.py").is_file():
            raise BuildError("the archive has no main.py in its root")
        requirements = source / "requirements.txt"
        content = requirements.read_bytes() if requirements.is_file() else b""
        environment = base_environment(os.environ) | dict(variables)
        python = self._interpreter(runtime, environment)
        place = self._environments / environment_key(content, python)
        if not place.is_dir():
            self._install(place, python, requirements if content else None, environment, log)
        return Built(source, place / "bin" / "python")

    def _unpack(self, archive: bytes) -> Path:
        place = self._sources / hashlib.sha256(archive).hexdigest()[:24]
        if place.is_dir():
            return place
        beside = place.with_name(f"{place.name}.{uuid.uuid4().hex[:8]}")
        try:
            with zipfile.ZipFile(io.BytesIO(archive)) as opened:
                opened.extractall(beside)
            beside.replace(place)
        except zipfile.BadZipFile as error:
            raise BuildError(f"the source is not a zip archive: {error}") from error
        finally:
            shutil.rmtree(beside, ignore_errors=True)
        return place

    def _interpreter(self, runtime: str, environment: Mapping[str, str]) -> str:
        """The runtime's Python if this machine has it, else our own: none is ever downloaded."""
        digits = runtime.removeprefix("python")
        wanted = f"{digits[0]}.{digits[1:]}"
        if wanted == f"{sys.version_info.major}.{sys.version_info.minor}":
            return sys.executable
        command = [
            find_uv_bin(),
            "python",
            "find",
            "--no-python-downloads",
            "--no-project",
            "--system",
            wanted,
        ]
        found = subprocess.run(command, env=dict(environment), capture_output=True, text=True, check=False)
        return found.stdout.strip() if found.returncode == 0 else sys.executable

    def _install(
        self, place: Path, python: str, requirements: Path | None, environment: Mapping[str, str], log: Path
    ) -> None:
        beside = place.with_name(f"{place.name}.{uuid.uuid4().hex[:8]}")
        target = ["--python", str(beside / "bin" / "python")]
        try:
            _uv(["venv", "--relocatable", "--no-project", "--python", python, str(beside)], environment, log)
            if requirements is not None:
                _uv(["pip", "install", *target, "-r", str(requirements)], environment, log)
            if not list(beside.glob("lib/python*/site-packages/functions_framework")):
                _uv(["pip", "install", *target, _FRAMEWORK], environment, log)
            beside.replace(place)
        finally:
            shutil.rmtree(beside, ignore_errors=True)


def _uv(arguments: list[str], environment: Mapping[str, str], log: Path) -> None:
    with log.open("ab") as output:
        output.write(f"$ uv {' '.join(arguments)}\n".encode())
        output.flush()
        try:
            done = subprocess.run(
                [find_uv_bin(), *arguments],
                # an index may be reached through a proxy that only the machine's certificates vouch for
                env={"UV_SYSTEM_CERTS": "1", **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=_BUILD_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise BuildError(f"the build took more than {_BUILD_SECONDS} seconds") from error
    if done.returncode != 0:
        raise BuildError(tail(log))


def tail(log: Path, lines: int = 20) -> str:
    """The last lines of a log."""
    if not log.is_file():
        return ""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
