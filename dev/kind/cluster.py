"""The kind cluster itself: its network, its one node, and the images brought onto that.

Where no hub is reachable nothing of it may look for one: the node's image is our own, and on the private
engine no packet for a pod or Service that is gone leaves this machine.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from dev import cluster, images, stack
from dev.cluster import Kubectl
from dev.docker import Docker
from dev.errors import DevError
from dev.golang import Programs
from dev.kind import node_image
from dev.paths import BIN, KindHome, locked
from dev.progress import announce, step

PROGRAM = Programs("kind", cluster.MODULE, ("sigs.k8s.io/kind",), tags=cluster.CONTROL_PLANE.tags)
# kind calls `docker`: this one knows engines that lack a capability themselves
WRAPPER = Path(__file__).parent / "bin"
SOCKET = "/kind/docker.sock"  # of the node; the local cloud's pod mounts it
CLOUD_PORT, TUNNEL_PORT = 8085, 8086  # of the node; the local cloud's pod listens there
# kind's defaults for pods and Services
RANGES = ("10.244.0.0/16", "10.96.0.0/16")


def up(docker: Docker, home: KindHome) -> Kubectl:
    """A cluster that answers; the images' base must have been found before."""
    own = programs(docker)
    if docker.private:
        _fence("-I")
    images.network(docker, home)
    with step("kind cluster") as current:
        current.note = "new" if _create(docker, home, own) else "there already"
    return Kubectl(home.kubeconfig)


def load(docker: Docker, home: KindHome, target: str) -> str:
    """Brings one of our images onto the node; gives its tag, which names its content."""
    name = f"budgetml/{target}"
    label = f'{{{{index .Config.Labels "{images.INPUTS}"}}}}'
    tag = docker("image", "inspect", "--format", label, f"{name}:local")
    docker("tag", f"{name}:local", f"{name}:{tag}")
    bring(docker, home, f"{name}:{tag}")
    return tag


def bring(docker: Docker, home: KindHome, image: str) -> None:
    """Brings any image onto the node."""
    _kind(docker, home, "load", "docker-image", image)


def down(home: KindHome) -> None:
    """Removes the node, the VMs, the network and all that the cluster's files held."""
    stack.down(home)
    if shutil.which("iptables"):
        _fence("-D")
    shutil.rmtree(home.root, ignore_errors=True)


def keep_logs(docker: Docker, home: KindHome) -> None:
    """What pods and node have printed goes into the log folder: the only trace once they are gone."""
    home.log.mkdir(parents=True, exist_ok=True)
    kubectl = Kubectl(home.kubeconfig)
    (home.log / "node.log").write_text(docker.run("logs", home.node).stdout)
    (home.log / "pods.log").write_text(
        kubectl("get", "pods,events", "--all-namespaces", "--output=wide", check=False).stdout
    )
    for namespace, name in (("budgetml-system", "budget-operator"), ("budgetml-localcloud", "localcloud")):
        words = ("logs", f"deployment/{name}", f"--namespace={namespace}", "--all-pods", "--tail=-1")
        (home.log / f"{name}.log").write_text(kubectl(*words, check=False).stdout)


def programs(docker: Docker) -> bool:
    """kind, and for a node image of our own all that lies in it; true if it takes one of our own."""
    own = images.base(docker) != images.HUB_BASE
    wanted = [] if shutil.which("kind") else [PROGRAM]
    if own:
        wanted += [cluster.CONTROL_PLANE, node_image.NODE]
    with step("kind and node programs") as current:
        if not all(each.is_built() for each in wanted):
            announce("compiling: up to 9 minutes when Go's caches are empty")
        current.note = ", ".join(each.name for each in wanted if each.build()) or "unchanged"
    if own:
        with locked("images"), step("node image") as current:
            current.note = "built" if node_image.build(docker) else "unchanged"
    return own


def _create(docker: Docker, home: KindHome, own: bool) -> bool:
    """False if the cluster was there and answers; one that does not is made anew."""
    if docker.has("container", home.node):
        if not Kubectl(home.kubeconfig)(
            "get", "--raw=/readyz", "--request-timeout=10s", check=False
        ).returncode:
            return False
        docker("container", "rm", "--force", "--volumes", home.node)
    image = [f"--image={node_image.IMAGE}"] if own else []
    try:
        words = (
            "create",
            "cluster",
            f"--kubeconfig={home.kubeconfig}",
            "--config=-",
            "--wait=180s",
            "--retain",
        )
        _kind(docker, home, *words, *image, text=json.dumps(config(docker, home)))
    except DevError:
        keep_logs(docker, home)
        docker.run("container", "rm", "--force", "--volumes", home.node)
        raise
    return True


def config(docker: Docker, home: KindHome) -> dict[str, object]:
    """What kind is told: the engine's socket on the node, and two of its ports on this machine's loopback."""
    mounts = [{"hostPath": _socket(docker), "containerPath": SOCKET}]
    ports = (("cloud", CLOUD_PORT), ("tunnel", TUNNEL_PORT))
    published = [
        {"containerPort": port, "hostPort": home.port(name), "listenAddress": "127.0.0.1"}
        for name, port in ports
    ]
    node = {"role": "control-plane", "extraMounts": mounts, "extraPortMappings": published}
    return {"kind": "Cluster", "apiVersion": "kind.x-k8s.io/v1alpha4", "nodes": [node]}


def _socket(docker: Docker) -> str:
    """The engine's socket, where the engine itself sees it."""
    if sys.platform == "darwin":  # Docker Desktop's engine lives in a machine of its own
        return "/var/run/docker.sock"
    scheme, _, path = docker.host.partition("://")
    if scheme != "unix":
        raise DevError(
            f"The local cloud's pod needs the engine's socket, and {docker.host} is none:"
            " use an engine of this machine."
        )
    return path


def _kind(docker: Docker, home: KindHome, *words: str, text: str | None = None) -> None:
    found = shutil.which("kind") or str(BIN / "kind")
    client = Path(docker.client).parent
    env = {
        **docker.env,
        "PATH": os.pathsep.join((str(WRAPPER), str(client), os.environ["PATH"])),
        "KIND_EXPERIMENTAL_DOCKER_NETWORK": home.network,
    }
    done = subprocess.run(
        [found, *words, f"--name={home.network}", "--quiet"],
        env=env,
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise DevError(f"kind {words[0]} {words[1]}: {done.stderr.strip()[-3000:]}")


def _fence(action: str) -> None:
    """Rules of the chain that Docker leaves to its user; each stands once."""
    for destination in RANGES:
        rule = ["DOCKER-USER", "-d", destination, "-j", "REJECT"]
        if action == "-I" and not _iptables("-C", *rule):
            continue
        if _iptables(action, *rule) and action == "-I":
            raise DevError(
                f"iptables cannot reject what is sent to {destination}: no cluster is made without that."
            )


def _iptables(*words: str) -> int:
    return subprocess.run(["iptables", "-w", *words], capture_output=True, check=False).returncode
