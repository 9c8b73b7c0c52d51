"""A node image for kind where its published one cannot be pulled: Debian's packages, and programs from Go.

The same Kubernetes as the control plane of `make up`. It has no systemd: `node/node-init` starts containerd
and the kubelet. Root on Debian 12 is needed, as for the base of the other images.
"""

import hashlib
import shutil
import subprocess
import tempfile
from pathlib import Path

from dev import cluster, debian, images
from dev.docker import Docker
from dev.errors import DevError
from dev.golang import Programs
from dev.kind import kubeadm_images
from dev.paths import BIN, LOCAL, MAIN

IMAGE = "budgetml/kind-node:local"
FILES = Path(__file__).parent / "node"
PLACES = {
    "node-init": "usr/local/sbin/node-init",
    "kubelet.conf": "etc/kubernetes/kubelet.conf.d/10-node.conf",
    "10-ptp.conflist": "etc/cni/net.d/10-ptp.conflist",
    "default-cni.yaml": "kind/manifests/default-cni.yaml",
    "default-storage.yaml": "kind/manifests/default-storage.yaml",
}
COMMANDS = ("kubelet", "kubeadm", "kubectl", "containerd", "containerd-shim-runc-v2", "ctr")
NODE = Programs(
    "node",
    cluster.MODULE,
    (
        *(
            f"github.com/containerd/containerd/v2/cmd/{name}"
            for name in ("containerd", "containerd-shim-runc-v2", "ctr")
        ),
        *(f"k8s.io/kubernetes/cmd/{name}" for name in ("kube-proxy", "kube-scheduler", "kubeadm", "kubelet")),
        "./coredns",
        "./pause",
    ),
    tags=cluster.CONTROL_PLANE.tags,
)
PACKAGES = "iptables,iproute2,mount,procps,ca-certificates,runc,containernetworking-plugins"
PLUGINS = {"ptp", "host-local", "portmap", "loopback", "bridge"}


def build(docker: Docker) -> bool:
    """Makes the image unless it is there; true if it was made. The programs are compiled before."""
    inputs = _inputs()
    label = f'{{{{index .Config.Labels "{images.INPUTS}"}}}}'
    if docker.run("image", "inspect", "--format", label, IMAGE).stdout.strip() == inputs:
        return False
    with tempfile.TemporaryDirectory(dir=LOCAL) as folder:
        root = Path(folder) / "root"
        _bootstrap(root)
        _furnish(root)
        _import(docker, root, inputs)
    return True


def _bootstrap(root: Path) -> None:
    log = MAIN.log / "image-kind-node.log"
    debian.require()
    argv = debian.bootstrap(PACKAGES, root)
    with log.open("wb") as output:
        done = subprocess.run(argv, stdout=output, stderr=output, check=False)
    if done.returncode:
        raise DevError(f"mmdebstrap could not make the node's file system: see {log}")


def _furnish(root: Path) -> None:
    """What a node holds besides packages: programs, configuration, and the images of the control plane."""
    for name in COMMANDS:
        _install(BIN / name, root / "usr/local/bin" / name, 0o755)
    for name, place in PLACES.items():
        _install(FILES / name, root / place, 0o755 if name == "node-init" else 0o644)
    references = kubeadm_images.references()
    (root / "kind/version").write_text(_tag_of("kube-apiserver", references))
    kubeadm_images.write(root / "kind/images.tar", root)
    pause = next(each for each in references if "/pause:" in each)
    _write(
        root / "etc/containerd/config.toml", (FILES / "containerd.toml").read_text().replace("PAUSE", pause)
    )
    # an image that was not brought fails here at once, instead of being asked for at a hub
    _write(root / "etc/containerd/certs.d/_default/hosts.toml", 'server = "http://127.0.0.1:9"\n')
    (root / "opt/cni").mkdir(parents=True)
    (root / "opt/cni/bin").symlink_to("/usr/lib/cni")
    for plugin in (root / "usr/lib/cni").iterdir():
        if plugin.name not in PLUGINS:
            plugin.unlink()
    for waste in (
        "var/lib/apt/lists",
        "var/cache/apt",
        *(f"usr/share/{name}" for name in ("man", "locale", "info")),
    ):
        shutil.rmtree(root / waste, ignore_errors=True)


def _import(docker: Docker, root: Path, inputs: str) -> None:
    changes = (
        'ENTRYPOINT ["/usr/local/sbin/node-init"]',
        "ENV container=docker",
        f"LABEL {images.INPUTS}={inputs}",
    )
    argv = [
        docker.client,
        "import",
        *(word for change in changes for word in ("--change", change)),
        "-",
        IMAGE,
    ]
    with subprocess.Popen(["tar", "-C", root, "-c", "."], stdout=subprocess.PIPE) as packed:
        done = subprocess.run(
            argv, env=docker.env, stdin=packed.stdout, capture_output=True, text=True, check=False
        )
    if done.returncode or packed.returncode:
        raise DevError(f"The node image cannot be imported: {done.stderr.strip()}")


def _tag_of(name: str, references: list[str]) -> str:
    return next(each.rsplit(":", 1)[1] for each in references if f"/{name}:" in each)


def _install(source: Path, place: Path, mode: int) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, place)
    place.chmod(mode)


def _write(place: Path, text: str) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)


def _inputs() -> str:
    """Of the programs their stamps, which name what they were made from."""
    digest = hashlib.sha256(PACKAGES.encode())
    own = [Path(__file__), Path(kubeadm_images.__file__), *sorted(FILES.iterdir())]
    for path in (*own, cluster.CONTROL_PLANE.stamp, NODE.stamp):
        digest.update(path.read_bytes() + oct(path.stat().st_mode & 0o111).encode())
    return digest.hexdigest()[:16]
