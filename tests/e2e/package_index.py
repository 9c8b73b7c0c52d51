"""A package index of a few packages where the VMs reach it, in front of a login if wanted."""

import base64
import functools
import io
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class _Index(SimpleHTTPRequestHandler):
    """A folder's listings are pages that uv reads as an index."""

    def __init__(self, *given: Any, login: str, **named: Any) -> None:
        self._expected = f"Basic {base64.b64encode(login.encode()).decode()}" if login else None
        super().__init__(*given, **named)

    def do_GET(self) -> None:
        if self._expected is None or self.headers.get("Authorization") == self._expected:
            super().do_GET()
            return
        self.send_response(401)
        self.send_header("WWW-Authenticate", 'Basic realm="index"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@contextmanager
def served(root: Path, address: str, login: str = "") -> Iterator[str]:
    """`host:port` of the index of a folder that holds a folder per package; `login` is `user:password`."""
    handler = functools.partial(_Index, directory=root, login=login)
    with ThreadingHTTPServer((address, 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"{address}:{server.server_port}"
        server.shutdown()


def add_wheel(root: Path, name: str, module: str) -> None:
    """Version 1.0 of a package with one module of the same name, ready to be installed."""
    file = name.replace("-", "_")
    info = f"{file}-1.0.dist-info"
    (root / name).mkdir(exist_ok=True)
    with zipfile.ZipFile(root / name / f"{file}-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{file}.py", module)
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


def add_source(root: Path, name: str, version: str, build: str) -> None:
    """A source distribution that runs these lines when it is built, with a build backend of its own."""
    backend = f"def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):\n{build}"
    project = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    files = {
        "pyproject.toml": f'{project}[project]\nname = "{name}"\nversion = "{version}"\n',
        "backend.py": backend,
        "PKG-INFO": f"Metadata-Version: 2.2\nName: {name}\nVersion: {version}\n",
    }
    (root / name).mkdir(exist_ok=True)
    with tarfile.open(root / name / f"{name}-{version}.tar.gz", "w:gz") as archive:
        for file, text in files.items():
            member = tarfile.TarInfo(f"{name}-{version}/{file}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
