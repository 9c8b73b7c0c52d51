"""What can be said of the VM image without an engine; tests/e2e/test_vm_boot.py boots it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

INIT = Path(__file__).parents[3] / "localcloud" / "vm-image" / "vm-init"


def test_init_is_a_bash_script() -> None:
    assert subprocess.run(["bash", "-n", INIT], check=False).returncode == 0


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="shellcheck is not installed")
def test_shellcheck_has_nothing_to_say() -> None:
    done = subprocess.run(["shellcheck", INIT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
