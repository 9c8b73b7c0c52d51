"""Prometheus' own checker of rules, built from Go modules like the control plane; or the one in PATH."""

import hashlib
import os
import shutil
import subprocess

from dev.cluster import FLAGS, NO_GO, find_go
from dev.errors import DevError
from dev.paths import BIN, ROOT

MODULE = ROOT / "dev" / "promtool"
STAMP = BIN / ".promtool"
# Without the ways to discover what is to be scraped, which are most of the code.
TAGS = ("-tags=grpcnotrace,remove_all_sd",)


def build() -> bool:
    """Compiles it unless it is there; true if it was compiled."""
    if (BIN / "promtool").exists() and STAMP.exists() and STAMP.read_text() == _inputs():
        return False
    go = find_go()
    if not go:
        raise DevError(NO_GO)
    BIN.mkdir(parents=True, exist_ok=True)
    env = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly", "GOGC": "400"}
    argv = [go, "build", *FLAGS, *TAGS, "-ldflags=-s -w", f"-o={BIN}/", "tool"]
    done = subprocess.run(argv, cwd=MODULE, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise DevError(f"promtool cannot be compiled:\n{done.stderr[-2000:]}")
    STAMP.write_text(_inputs())
    return True


def program() -> str:
    """The built program, or the one in PATH."""
    found = shutil.which("promtool", path=f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}")
    if not found:
        raise DevError("promtool is neither built (make cluster) nor in PATH.")
    return found


def _inputs() -> str:
    digest = hashlib.sha256(repr((FLAGS, TAGS)).encode())
    for name in ("go.mod", "go.sum"):
        digest.update((MODULE / name).read_bytes())
    return digest.hexdigest()
