"""The Python environment for a revision's requirements, below `environments/<hash of its content>`.

One resolution by uv of the user's lines together with the server's declared ranges, so that a conflict is
named before anything runs. The image's own packages (a custom image brings some) stay visible behind those of
the environment. Built beside and moved into place; a deployment without requirements uses the image's Python.
What the lines mean is the business of `requirements`.

`.used-<revision>` beside the environments is a link to the one that a revision uses; what no kept revision
uses is removed.
"""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from uv import find_uv_bin

from budget_server.vm import requirements
from budget_server.vm.artifact import Artifact
from budget_server.vm.disk import flush, move
from budget_server.vm.errors import InstallKilled, Interrupted, RequirementsFailed
from budget_server.vm.process import EXPENDABLE, Child, Identity, Masker, describe_exit, log

_HALF_BUILT = ".building-"
_USED = ".used-"
#: Shares of the disk: what the cache may hold beyond what environments use, what is to be free for a build.
_CACHE_MOST, _FREE_LEAST = 0.2, 0.2
#: Settings of uv that name a file, perhaps one of the code's.
_OF_FILES = frozenset({"UV_BUILD_CONSTRAINT", "UV_CONFIG_FILE", "UV_CONSTRAINT", "UV_EXCLUDE", "UV_OVERRIDE"})


def uv_settings(env: Mapping[str, str]) -> dict[str, str]:
    """Variables of the user's that may change what uv installs. Indexes are where it comes from: their logins
    are renewed without another environment."""
    return {name: env[name] for name in sorted(env) if name.startswith("UV_") and "INDEX" not in name}


def environment_key(
    lines: Sequence[str],
    settings: Mapping[str, str],
    server: Sequence[str],
    image: Sequence[str],
    python: str,
    code_sha256: str,
) -> str:
    """Names an environment by what determines its content."""
    # what points to a file means another environment whenever the code changes
    points = any(map(requirements.points_to_file, lines)) or not _OF_FILES.isdisjoint(settings)
    parts: list[object] = [list(lines), list(server), list(image), python, code_sha256 if points else ""]
    content = json.dumps([*parts, settings] if settings else parts)
    return hashlib.sha256(content.encode()).hexdigest()[:20]


def cache_is_too_large(unused: int, free: int, total: int) -> bool:
    """Whether the cache has to go before a build; `unused` bytes of it are in no environment."""
    return unused > _CACHE_MOST * total or (unused > 0 and free < _FREE_LEAST * total)


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
        server = (requirements.server_version(), *requirements.server_requirements())
        settings = uv_settings(artifact.secrets.env)
        return environment_key(lines, settings, server, self._image, python, code)

    def provide(self, artifact: Artifact, env: dict[str, str], given_up: Callable[[], bool]) -> Environment:
        """The revision's environment, built now if it is not there yet."""
        name = self.key(artifact)
        place = self._root / name
        if name and not place.exists():
            run = _Uv(self._build_env(artifact, env), self._identity, artifact, given_up)
            requirements.check_tools(map(run.mask, artifact.manifest.requirements), shutil.which)
            self._bound_cache()
            self._build_in_place(place, artifact, run)
        self._note_use(artifact.config.revision, name)
        return Environment(place / "bin" / "python" if name else Path(sys.executable), name)

    def sweep(self) -> None:
        """Remove what a power loss left half built, and the cache, which may hold files cut short by it."""
        halves = list(self._root.glob(f"{_HALF_BUILT}*"))
        if halves:
            log("the power was cut while an environment was built: starting with an empty cache")
            self._empty_cache()  # first, so that another power loss in here is noticed as well
        for path in halves:
            self._identity.remove(path)

    def prune(self, kept_revisions: frozenset[str]) -> None:
        """Remove every environment that none of these revisions uses."""
        uses = {path: path.name.removeprefix(_USED) for path in self._root.glob(f"{_USED}*")}
        keep = {path.readlink().name for path, revision in uses.items() if revision in kept_revisions}
        for path in self._root.iterdir():
            if path in uses:
                if uses[path] not in kept_revisions:
                    path.unlink()
            elif path.name not in keep:
                self._identity.remove(path)

    def _note_use(self, revision: str, name: str) -> None:
        link = self._root / f"{_USED}{revision}"
        link.unlink(missing_ok=True)
        if name:
            link.symlink_to(name)

    def _bound_cache(self) -> None:
        disk = shutil.disk_usage(self._root)
        if cache_is_too_large(self._unused_cache(), disk.free, disk.total):
            log("emptying the cache of packages: little of this disk is left")
            self._empty_cache()

    def _unused_cache(self) -> int:
        """Bytes in the cache that no environment shares; counted by the user whom it belongs to."""
        done = subprocess.run(
            [sys.executable, "-I", "-c", _COUNT_UNUSED, str(self._cache)],
            user=self._identity.uid,
            group=self._identity.gid,
            extra_groups=self._identity.groups,
            capture_output=True,
            check=False,
        )
        return int(done.stdout or 0)

    def _empty_cache(self) -> None:
        self._identity.remove(self._cache)
        self._identity.own(self._cache)

    def _build_env(self, artifact: Artifact, env: dict[str, str]) -> dict[str, str]:
        return {
            **env,
            # an index of the user's goes first, but not alone: many hold old versions of common packages
            "UV_INDEX_STRATEGY": "unsafe-first-match",
            **artifact.secrets.env,
            "UV_CACHE_DIR": str(self._cache),
            "UV_LINK_MODE": "hardlink",
            "UV_PYTHON_DOWNLOADS": "never",
            **_PLAIN,
        }

    def _build_in_place(self, place: Path, artifact: Artifact, run: "_Uv") -> None:
        half = self._root / f"{_HALF_BUILT}{place.name}"
        self._identity.remove(half)
        self._identity.own(half)
        # from here on a power loss is noticed at the next boot: uv itself flushes nothing, its cache neither
        flush(self._root)
        try:
            self._build(half, artifact, run)
            os.sync()
            move(half, place)
        except BaseException:
            os.sync()
            self._identity.remove(half)
            raise

    def _build(self, half: Path, artifact: Artifact, run: "_Uv") -> None:
        # relocatable, because it is moved once complete
        run(["venv", "--quiet", "--relocatable", "--python", sys.executable, str(half)])
        wheel = requirements.write_server_wheel(
            half, requirements.server_requirements(), requirements.server_version()
        )
        given = requirements.for_uv(artifact.manifest.requirements)
        lines = "\n".join((*given.lines, f"{requirements.SERVER} @ {wheel.as_uri()}", ""))
        python = half / "bin" / "python"
        run(
            ["pip", "install", "--python", str(python), *given.arguments, "--requirements", "-"],
            lines.encode(),
        )
        run.python(python, _SHOW_IMAGE, *self._image)


_PLAIN = {"UV_NO_PROGRESS": "1", "NO_COLOR": "1"}
#: Run by the environment's Python, so that the file belongs to the model's user. The image's own .pth files
#: count as well: that is how editable installs are found.
_SHOW_IMAGE = """
import pathlib, sys, sysconfig
path = pathlib.Path(sysconfig.get_path("purelib"), "budgetml-image.pth")
path.write_text("".join(f"import site; site.addsitedir({line!r})\\n" for line in sys.argv[1:]))
"""
_COUNT_UNUSED = """
import os, sys
stats = (os.lstat(os.path.join(top, name)) for top, _, names in os.walk(sys.argv[1]) for name in names)
print(sum(stat.st_blocks * 512 for stat in stats if stat.st_nlink == 1))
"""


class _Uv:
    """Runs the steps of one build with everything they share."""

    def __init__(
        self,
        env: dict[str, str],
        identity: Identity,
        artifact: Artifact,
        given_up: Callable[[], bool],
    ) -> None:
        self._env = env
        self._identity = identity
        self._artifact = artifact
        self._deadline = time.monotonic() + artifact.manifest.readiness.startup_seconds
        self._given_up = given_up
        secrets = requirements.credentials(artifact.manifest.requirements, env)
        self.mask = Masker((*artifact.secrets.values(), *secrets))

    def __call__(self, arguments: Sequence[str], stdin: bytes | None = None) -> None:
        self._run([find_uv_bin(), *arguments], stdin)

    def python(self, python: Path, code: str, *arguments: str) -> None:
        self._run([str(python), "-I", "-c", code, *arguments], None)

    def _run(self, command: Sequence[str], stdin: bytes | None) -> None:
        child = Child(
            [*EXPENDABLE, *command],
            env=self._env,
            identity=self._identity,
            cwd=self._artifact.code_dir,  # relative lines mean the code's directory
            stdin=stdin,
            mask=self.mask,
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
            ending = describe_exit(child.exit_code)
            lines = self._artifact.manifest.requirements
            kind = InstallKilled if child.exit_code == -signal.SIGKILL else RequirementsFailed
            raise kind(requirements.explain(child.tail(), ending, lines), child.tail())
