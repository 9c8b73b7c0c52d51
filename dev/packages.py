"""Debian's packages unpacked below `.local`, for programs that are not installed. Nothing is installed."""

import os
import shutil
import subprocess
from pathlib import Path

from dev.errors import DevError


def unpack(packages: tuple[str, ...], folder: Path) -> None:
    """Replaces the folder by what they hold, without what they depend on.

    Raises:
        DevError: this is no Debian, or apt cannot have them; `apt-get install` of the first is named.
    """
    remedy = f"Install {packages[0]}, and have it in PATH: apt-get install {packages[0]}."
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise DevError(f"{packages[0]} is missing, and this is no Debian to fetch it from. {remedy}")
    draft = folder.with_name(f"{folder.name}.new")
    shutil.rmtree(draft, ignore_errors=True)
    downloads = draft / "packages"
    downloads.mkdir(parents=True)
    # A list may be missing or tell of packages that are gone; only root may bring it up to date.
    if not _download(packages, downloads):
        if os.geteuid() == 0:
            _run(["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=300", "update"], draft)
        if not _download(packages, downloads):
            raise DevError(f"apt-get cannot download {' '.join(packages)}. {remedy}")
    for package in downloads.glob("*.deb"):
        if not _run(["dpkg-deb", "-x", str(package), str(draft)], draft):
            raise DevError(f"{package.name} cannot be unpacked. {remedy}")
    shutil.rmtree(downloads)
    shutil.rmtree(folder, ignore_errors=True)
    draft.rename(folder)


def _download(packages: tuple[str, ...], folder: Path) -> bool:
    # root's apt would hand the download to a user who may not write here
    return _run(["apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", *packages], folder)


def _run(argv: list[str], folder: Path) -> bool:
    return not subprocess.run(argv, cwd=folder, capture_output=True, check=False, timeout=600).returncode
