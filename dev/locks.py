"""The locks: one hash-pinned file per deployable and one for development, compiled by uv.

Index addresses are left out, so that a lock means the same behind every mirror.
"""

import subprocess

from dev.errors import DevError
from dev.paths import ROOT, VENV_BIN
from dev.progress import step

OPTIONS = (
    *("--quiet", "--universal", "--python-version=3.11", "--generate-hashes"),
    *("--no-emit-index-url", "--no-header", "--no-annotate", "--system-certs"),
)
FUNCTION = "restart_function/requirements.in"
DEPLOYABLES = ("operator/pyproject.toml", "server/pyproject.toml", "localcloud/pyproject.toml")
LOCKS: dict[str, tuple[str, ...]] = {
    "requirements/operator.txt": ("operator/pyproject.toml",),
    "requirements/server.txt": ("server/pyproject.toml", "--extra=vm"),
    "requirements/localcloud.txt": ("localcloud/pyproject.toml",),
    "restart_function/requirements.txt": (FUNCTION,),
    "requirements/dev.txt": (*DEPLOYABLES, FUNCTION, "--all-extras", "--group=pyproject.toml:dev"),
    "requirements/bootstrap.txt": ("--group=pyproject.toml:bootstrap",),
}


def compile_all() -> None:
    """Compiles every lock; what is locked already and still fits is kept."""
    for output, sources in LOCKS.items():
        with step(output):
            argv = [str(VENV_BIN / "uv"), "pip", "compile", *OPTIONS, *sources, f"--output-file={output}"]
            done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
            if done.returncode:
                raise DevError(done.stderr)
