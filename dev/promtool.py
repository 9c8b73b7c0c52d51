"""Prometheus' own checker of rules, built from Go modules like the control plane; or the one in PATH."""

import os
import shutil

from dev.errors import DevError
from dev.golang import Programs
from dev.paths import BIN, ROOT

PROMTOOL = Programs(
    "promtool",
    ROOT / "dev" / "promtool",
    ("github.com/prometheus/prometheus/cmd/promtool",),
    # without the ways to discover what is to be scraped, which are most of the code
    tags="grpcnotrace,remove_all_sd",
)


def program() -> str:
    """The built program, or the one in PATH."""
    found = shutil.which("promtool", path=f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}")
    if not found:
        raise DevError("promtool is neither built (make cluster) nor in PATH.")
    return found
