"""The images that kubeadm's static pods and add-ons name, as one archive that `ctr images import` takes.

Nothing is pulled: each is one layer of static programs, kube-proxy's with iptables and its libraries out of
the node's own files.
"""

import hashlib
import io
import json
import subprocess
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dev.paths import BIN

XTABLES = "usr/lib/x86_64-linux-gnu/xtables"
MULTI = "/usr/sbin/xtables-nft-multi"
PATH = "PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
WORDS = tuple(f"ip{six}tables{tail}" for six in ("", "6") for tail in ("", "-save", "-restore"))


@dataclass(frozen=True)
class Entry:
    """One file of a layer, or a link to `link`."""

    path: str
    source: Path | None = None
    link: str = ""


def references() -> list[str]:
    """Every image that this kubeadm asks for, with its tag."""
    version = _kubeadm("version", "-o=short").strip()
    return _kubeadm("config", "images", "list", f"--kubernetes-version={version}").split()


def _kubeadm(*words: str) -> str:
    return subprocess.run([str(BIN / "kubeadm"), *words], capture_output=True, text=True, check=True).stdout


def write(archive: Path, root: Path) -> None:
    """The archive with all of them; `root` is the node's file system."""
    manifest = []
    with tarfile.open(archive, "w") as tar:
        for reference in references():
            name = reference.rsplit(":", 1)[0].rsplit("/", 1)[-1]
            layer, program = _layer_of(name, root)
            digest = hashlib.sha256(layer).hexdigest()
            config = _config(program, digest)
            config_name = f"{hashlib.sha256(config).hexdigest()}.json"
            _add(tar, config_name, config)
            _add(tar, f"{digest}.tar", layer)
            manifest.append({"Config": config_name, "RepoTags": [reference], "Layers": [f"{digest}.tar"]})
        _add(tar, "manifest.json", json.dumps(manifest).encode())


def _layer_of(name: str, root: Path) -> tuple[bytes, str]:
    """A layer and the program to run in it: where the published image of that name has it."""
    program = f"/{name}" if name in {"coredns", "pause"} else f"/usr/local/bin/{name}"
    entries = [Entry(program, BIN / name)]
    if name == "kube-proxy":
        entries += _iptables(root)
    return layer(entries), program


def _iptables(root: Path) -> Iterator[Entry]:
    """With the plugins' libraries: one needs libm, and is first used when a Service has two endpoints."""
    plugins = [f"/{path.relative_to(root)}" for path in sorted((root / XTABLES).glob("*.so"))]
    listed = subprocess.run(
        ["chroot", str(root), "ldd", MULTI, *plugins], capture_output=True, text=True, check=True
    ).stdout
    lines = [line.split() for line in listed.splitlines() if line.startswith("\t")]
    libraries = sorted({word for line in lines for word in line if word.startswith("/")})
    for path in (MULTI, *libraries, *plugins, "/etc/protocols", "/etc/services"):
        if (source := root / path[1:]).exists():
            yield Entry(path, source.resolve())
    for word in WORDS:
        yield Entry(f"/usr/sbin/{word}", link="xtables-nft-multi")


def layer(entries: Sequence[Entry]) -> bytes:
    """A tar archive of these and of the folders that they lie in."""
    folders = {"/tmp", "/etc"}
    for entry in entries:
        folders |= {str(parent) for parent in Path(entry.path).parents} - {"/"}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for folder in sorted(folders):
            info = tarfile.TarInfo(folder[1:])
            info.type, info.mode = tarfile.DIRTYPE, 0o1777 if folder == "/tmp" else 0o755
            tar.addfile(info)
        for entry in entries:
            _add_entry(tar, entry)
    return buffer.getvalue()


def _add_entry(tar: tarfile.TarFile, entry: Entry) -> None:
    info = tarfile.TarInfo(entry.path[1:])
    info.mode = 0o755
    if entry.source is None:
        info.type, info.linkname = tarfile.SYMTYPE, entry.link
        tar.addfile(info)
        return
    info.size = entry.source.stat().st_size
    with entry.source.open("rb") as file:
        tar.addfile(info, file)


def _config(program: str, digest: str) -> bytes:
    return json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "created": "2020-01-01T00:00:00Z",
            "config": {"Entrypoint": [program], "Env": [PATH]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        }
    ).encode()


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))
