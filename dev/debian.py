"""File systems made of Debian's packages alone, for images where no hub is reachable.

The machine's own apt sources are used and land in them. Only root on Debian 12 can do it.
"""

import os
import re
import shutil
from pathlib import Path

from dev import engine
from dev.errors import DevError


def bootstrap(packages: str, target: str | Path, *more: str) -> list[str]:
    """The command that makes one with these packages (comma-separated); to `-` is an archive on stdout."""
    candidates = (Path("/etc/apt/sources.list.d/debian.sources"), Path("/etc/apt/sources.list"))
    sources = [path for path in candidates if path.exists() and path.stat().st_size]
    return [
        *("mmdebstrap", "--mode=root", "--variant=minbase", "--quiet"),
        f"--include={packages}",
        '--aptopt=Acquire::Check-Valid-Until "false"',
        '--aptopt=Acquire::Languages "none"',
        '--aptopt=APT::Install-Recommends "false"',
        *(f"--dpkgopt=path-exclude=/usr/share/{folder}/*" for folder in ("man", "locale", "doc")),
        "--dpkgopt=path-include=/usr/share/doc/*/copyright",
        "--dpkgopt=force-unsafe-io",
        *more,
        *("bookworm", str(target), *map(str, sources)),
    ]


def require() -> None:
    """Raises DevError where that command cannot work; installs what it needs."""
    release = dict(re.findall(r'^(\w+)="?([^"\n]*)', Path("/etc/os-release").read_text(), re.MULTILINE))
    if release.get("VERSION_CODENAME") != "bookworm" or os.geteuid() != 0:
        raise DevError(
            "No image hub can be reached, and only root on Debian 12 can make a base without one."
            " Make the hub reachable, or load the image that is missing: docker load."
        )
    if not shutil.which("mmdebstrap"):
        engine.apt_install("mmdebstrap")
