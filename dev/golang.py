"""Programs compiled from Go modules into `.local/bin`, again whenever what their go.mod pins changes."""

import contextlib
import hashlib
import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from dev.errors import DevError
from dev.paths import BIN, MAIN, locked

QUICK = "-dwarf=false -l"
FLAGS = (
    "-trimpath",
    "-gcflags=all=-dwarf=false",
    f"-gcflags=k8s.io/client-go/...={QUICK}",
    f"-gcflags=k8s.io/kubernetes/...={QUICK}",
)
"""Without debugging tables; without inlining what is most of the code and little of the work.
Of the patterns that fit a package only the last counts."""
NO_GO = (
    "The command `go` is missing: {name} is compiled from Go modules."
    " Install Go 1.21 or later (it fetches the version it needs), or give a cluster: make up KUBECONFIG=…"
)


@dataclass(frozen=True)
class Programs:
    """Some of a module's commands, which are compiled together.

    `packages` are import paths. A program is called after its package's last part, or as `renamed` says.
    """

    name: str
    module: Path
    packages: tuple[str, ...]
    tags: str
    renamed: dict[str, str] = field(default_factory=dict)

    @property
    def programs(self) -> list[Path]:
        """Where they lie once compiled."""
        names = [package.rsplit("/", 1)[-1] for package in self.packages]
        return [BIN / self.renamed.get(name, name) for name in names]

    def is_built(self) -> bool:
        """Whether what go.mod pins lies in `.local/bin`."""
        with contextlib.suppress(OSError):
            return self.stamp.read_text() == self._inputs() and all(path.exists() for path in self.programs)
        return False

    def build(self) -> bool:
        """Compiles them unless they are there, or another process just did; true if they were compiled."""
        if self.is_built():
            return False
        if not (go := find_go()):
            raise DevError(NO_GO.format(name=self.name))
        with locked(f"go-{self.name}"):
            if self.is_built():
                return False
            self._make(go)
        return True

    def _make(self, go: str) -> None:
        output = BIN / f".{self.name}.new"
        shutil.rmtree(output, ignore_errors=True)
        output.mkdir(parents=True)
        self._compile(go, output)
        for path in output.iterdir():
            path.replace(BIN / self.renamed.get(path.name, path.name))
        output.rmdir()
        self.stamp.write_text(self._inputs())

    @property
    def stamp(self) -> Path:
        """Tells what the programs were made from."""
        return BIN / f".{self.name}"

    def _compile(self, go: str, output: Path) -> None:
        strip = "-s -w"
        if "k8s.io/kubernetes " in (self.module / "go.mod").read_text():
            version = self._go(go, "list", "-m", "-f", "{{.Version}}", "k8s.io/kubernetes").strip()
            strip += f" -X k8s.io/component-base/version.gitVersion={version}"
        self._go(
            go, "build", *FLAGS, f"-tags={self.tags}", f"-ldflags={strip}", f"-o={output}/", *self.packages
        )

    def _go(self, *argv: str) -> str:
        env = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly", "GOGC": "400"}
        log = MAIN.log / "go-build.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a") as errors:
            done = subprocess.run(
                argv, cwd=self.module, env=env, stdout=subprocess.PIPE, stderr=errors, text=True, check=False
            )
        if done.returncode:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
            raise DevError(f"{self.name} cannot be compiled; {log} ends:\n{tail}")
        return done.stdout

    def _inputs(self) -> str:
        digest = hashlib.sha256(repr((FLAGS, self.tags, self.packages)).encode())
        local = [path for package in self.packages for path in sorted((self.module / package).glob("*.go"))]
        for path in (self.module / "go.mod", self.module / "go.sum", *local):
            digest.update(path.read_bytes())
        return digest.hexdigest()


def find_go() -> str | None:
    """The command `go`, in PATH or where it is usually installed."""
    return shutil.which("go") or shutil.which("go", path="/usr/local/go/bin:/usr/lib/go/bin")
