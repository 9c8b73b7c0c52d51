"""The Python environment for a revision's requirements, below `environments/<hash of its content>`.

One resolution by uv of the user's lines together with the server's declared ranges, so that a conflict is
named before anything runs. The image's own packages (a custom image brings some) stay visible behind those of
the environment. Built beside and moved into place; a deployment without requirements uses the image's Python.
"""

import hashlib
import importlib.metadata
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from uv import find_uv_bin

from budget_server.vm.artifact import Artifact
from budget_server.vm.errors import Interrupted, RequirementsFailed
from budget_server.vm.process import Child, Identity, Masker, describe_exit

_HALF_BUILT = ".building-"


def server_requirements() -> tuple[str, ...]:
    """What the web side declares to need, without the extras that only process 1 needs."""
    declared = importlib.metadata.requires("budget-server") or []
    return tuple(sorted(line for line in declared if "extra ==" not in line))


def environment_key(
    requirements: Sequence[str], server: Sequence[str], image: Sequence[str], python: str, code_sha256: str
) -> str:
    """Names an environment by what determines its content."""
    # a line that points to a file means another environment whenever the code changes
    code = code_sha256 if any(points_to_file(line) for line in requirements) else ""
    content = json.dumps([list(requirements), list(server), list(image), python, code])
    return hashlib.sha256(content.encode()).hexdigest()[:20]


def points_to_file(line: str) -> bool:
    """Whether a requirement line refers to a file of the code: `-r more.txt`, `./wheel.whl`, `x @ file:…`."""
    return line.lstrip().startswith(("-", ".", "/")) or "file:" in line


@dataclass(frozen=True)
class Environment:
    """A Python to start the web side with; the name is empty for the image's own."""

    python: Path
    name: str = ""


class Environments:
    """The environments below one directory, and how to build more of them."""

    def __init__(self, root: Path, cache: Path, image: Sequence[str], identity: Identity) -> None:
        self._root = root
        self._cache = cache
        self._image = image
        self._identity = identity

    def key(self, artifact: Artifact) -> str:
        """The environment's name; empty where the image's own will do."""
        lines = artifact.manifest.requirements
        if not lines:
            return ""
        python = f"{sys.version} {sys.base_prefix}"
        code = artifact.config.bundle_sha256
        return environment_key(lines, server_requirements(), self._image, python, code)

    def provide(self, artifact: Artifact, env: dict[str, str], given_up: Callable[[], bool]) -> Environment:
        """The revision's environment, built now if it is not there yet."""
        name = self.key(artifact)
        if not name:
            return Environment(Path(sys.executable))
        place = self._root / name
        half = self._root / f"{_HALF_BUILT}{name}"
        if not place.exists():
            try:
                self._build(half, artifact, env, given_up)
                half.rename(place)
            finally:
                self._identity.remove(half)
        return Environment(place / "bin" / "python", name)

    def sweep(self) -> None:
        """Remove what a power loss left half built."""
        for path in self._root.glob(f"{_HALF_BUILT}*"):
            self._identity.remove(path)

    def prune(self, keep: frozenset[str]) -> None:
        """Remove every environment but these."""
        for path in self._root.iterdir():
            if path.name not in keep:
                self._identity.remove(path)

    def _build(
        self, half: Path, artifact: Artifact, env: dict[str, str], given_up: Callable[[], bool]
    ) -> None:
        deadline = time.monotonic() + artifact.manifest.readiness.startup_seconds
        env = {
            **env,
            **artifact.secrets.env,
            "UV_CACHE_DIR": str(self._cache),
            "UV_PYTHON_DOWNLOADS": "never",
            **_PLAIN,
        }
        run = _Uv(env, self._identity, artifact, deadline, given_up)
        # relocatable, because it is moved once complete
        run(["venv", "--quiet", "--relocatable", "--python", sys.executable, str(half)])
        lines = "\n".join((*artifact.manifest.requirements, *server_requirements())) + "\n"
        python = half / "bin" / "python"
        run(["pip", "install", "--python", str(python), "--requirements", "-"], lines.encode())
        run.python(python, _SHOW_IMAGE, *self._image)
        os.sync()  # a power loss must not leave empty files behind a finished name


_PLAIN = {"UV_NO_PROGRESS": "1", "NO_COLOR": "1"}
#: Run by the environment's Python, so that the file belongs to the model's user.
_SHOW_IMAGE = """
import pathlib, sys, sysconfig
path = pathlib.Path(sysconfig.get_path("purelib"), "budgetml-image.pth")
path.write_text("".join(line + "\\n" for line in sys.argv[1:]))
"""


class _Uv:
    """Runs the steps of one build with everything they share."""

    def __init__(
        self,
        env: dict[str, str],
        identity: Identity,
        artifact: Artifact,
        deadline: float,
        given_up: Callable[[], bool],
    ) -> None:
        self._env = env
        self._identity = identity
        self._artifact = artifact
        self._deadline = deadline
        self._given_up = given_up

    def __call__(self, arguments: Sequence[str], stdin: bytes | None = None) -> None:
        self._run([find_uv_bin(), *arguments], stdin)

    def python(self, python: Path, code: str, *arguments: str) -> None:
        self._run([str(python), "-I", "-c", code, *arguments], None)

    def _run(self, command: Sequence[str], stdin: bytes | None) -> None:
        child = Child(
            command,
            env=self._env,
            identity=self._identity,
            cwd=self._artifact.code_dir,  # relative lines mean the code's directory
            stdin=stdin,
            mask=Masker(self._artifact.secrets.values()),
        )
        while not child.wait(0.1):
            late = time.monotonic() > self._deadline
            if late or self._given_up():
                child.kill()
                if not late:
                    raise Interrupted
                seconds = f"{self._artifact.manifest.readiness.startup_seconds:.0f} s"
                raise RequirementsFailed(f"The requirements took longer than {seconds}", child.tail())
        if child.exit_code != 0:
            raise RequirementsFailed(explain(child.tail(), describe_exit(child.exit_code)), child.tail())


def explain(output: str, ending: str) -> str:
    """The sentence of uv's output that tells the cause."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    causes = [line for line in lines if line.startswith(("cause:", "Caused by:"))]
    errors = [line for line in lines if line.startswith("error:")]
    cause = " ".join((*errors[:1], *causes[:1])) or (lines[-1] if lines else f"uv {ending}")
    return f"The requirements cannot be installed together with the server's own: {cause}"
