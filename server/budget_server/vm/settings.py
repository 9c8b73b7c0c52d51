"""What process 1 is told by its environment, and where its things lie on the volume and in /tmp.

What to serve is not a setting: that stands in the instance's metadata (`config`).
"""

import os
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import budget_server


@dataclass(frozen=True)
class Settings:
    """Environment of process 1; every field has the value a VM needs as its default."""

    metadata_host: str = "metadata.google.internal"
    state_dir: Path = Path("/var/lib/budgetml")
    run_dir: Path = Path("/tmp/budget")  # noqa: S108  the container's own tmpfs
    #: How much memory is free.
    memory_info: Path = Path("/proc/meminfo")
    https_port: int = 443
    http_port: int = 80
    #: The model runs as this user when process 1 is root; empty: as the same user as process 1.
    predictor_user: str = "predictor"
    #: Whom to ask whether a name resolves to this VM, as `host:port`; empty: the machine's resolver.
    resolver: str = ""
    #: Seconds the host spent before this process began, by phase; passed on in the state.
    host_seconds: tuple[tuple[str, float], ...] = ()
    #: The image that this runs in, as the host calls it; empty where the host does not tell.
    image: str = ""

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] = os.environ) -> "Settings":
        host = ((name, environ.get(f"BUDGET_BOOT_{name.upper()}", "")) for name in ("engine", "pull"))
        return cls(
            metadata_host=environ.get("GCE_METADATA_HOST") or cls.metadata_host,
            state_dir=Path(environ.get("BUDGET_STATE_DIR") or cls.state_dir),
            run_dir=Path(environ.get("BUDGET_RUN_DIR") or cls.run_dir),
            memory_info=Path(environ.get("BUDGET_MEMORY_INFO") or cls.memory_info),
            https_port=int(environ.get("BUDGET_HTTPS_PORT") or cls.https_port),
            http_port=int(environ.get("BUDGET_HTTP_PORT") or cls.http_port),
            predictor_user=environ.get("BUDGET_PREDICTOR_USER", cls.predictor_user),
            resolver=environ.get("BUDGET_RESOLVER", cls.resolver),
            host_seconds=tuple((name, float(text)) for name, text in host if _is_number(text)),
            image=environ.get("BUDGET_BOOT_IMAGE", cls.image),
        )

    @property
    def artifacts(self) -> Path:
        return self.state_dir / "artifacts"

    @property
    def environments(self) -> Path:
        return self.state_dir / "environments"

    @property
    def cache(self) -> Path:
        return self.state_dir / "cache"

    @property
    def home(self) -> Path:
        return self.state_dir / "home"

    @property
    def scratch(self) -> Path:
        return self.state_dir / "tmp"

    @property
    def revisions(self) -> Path:
        return self.state_dir / "revisions.json"

    @property
    def caddy_storage(self) -> Path:
        return self.state_dir / "caddy"

    @property
    def certificates(self) -> Path:
        return self.state_dir / "certificates"

    @property
    def door(self) -> Path:
        return self.run_dir / "door"


def image_paths() -> tuple[str, ...]:
    """Where the image's own packages lie: the server's code first, then what a custom image installed."""
    server = str(Path(budget_server.__file__).resolve().parent.parent)
    installed = (sysconfig.get_path("purelib"), sysconfig.get_path("platlib"))
    return tuple(dict.fromkeys((server, *installed)))


def _is_number(text: str) -> bool:
    try:
        return float(text) >= 0
    except ValueError:
        return False
