"""Prometheus' own checker of rules: the one in PATH, or that of Debian's package, fetched below `.local`."""

import shutil

from dev.packages import unpack
from dev.paths import LOCAL, locked

FOLDER = LOCAL / "prometheus"


def program() -> str:
    """Its path.

    Raises:
        DevError: it is neither there nor to be had.
    """
    if installed := shutil.which("promtool"):
        return installed
    path = FOLDER / "usr" / "bin" / "promtool"
    with locked("promtool"):
        if not path.exists():
            unpack(("prometheus",), FOLDER)
    return str(path)
