"""What runs in the kind cluster: `operator/deploy/kustomize/local` with the images of this checkout.

`up` is all of `make kind` before its story: engine, images, registry, cluster, local cloud and operator.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager

from dev import engine, environment, images, stack
from dev.cluster import Kubectl
from dev.docker import Docker
from dev.errors import DevError
from dev.kind import cluster
from dev.paths import KIND, ROOT, KindHome, locked
from dev.progress import step, until
from dev.stack import NAMESPACE, Stack

OVERLAY = ROOT / "operator" / "deploy" / "kustomize" / "local"
OPERATOR = f"--namespace={NAMESPACE}", "deployment/budget-operator"
CLOUD = "--namespace=budgetml-localcloud", "deployment/localcloud"
SELECTOR = "app.kubernetes.io/name=budget-operator"
COMMAND_LINE = "budget-operator run"
REPLICAS = 2


class KindStack(Stack):
    """A running stack whose operator is pods."""

    def kill_operator(self) -> None:
        """SIGKILL to every pod's process; no pod takes their places."""
        self.kubectl("scale", *OPERATOR, "--replicas=0")

        def dead() -> bool:  # the kubelet starts one again that it does not know to be unwanted yet
            self.docker.run("exec", node_of(self), "pkill", "-KILL", "-f", COMMAND_LINE)
            pods = self.kubectl(
                "get", "pods", *OPERATOR[:1], f"--selector={SELECTOR}", "--output=name"
            ).stdout
            return not pods and not self.operator_lives()

        until(dead, 90, "pods of the operator do not end")

    def operator_lives(self) -> bool:
        """Whether the node runs any process of it."""
        return self.docker.run("exec", node_of(self), "pgrep", "-f", COMMAND_LINE).returncode == 0

    def start_operator(self, **settings: str) -> None:
        """As many pods as the manifests say."""
        assert not settings, "a pod's settings are its ConfigMap's"
        self.kubectl("scale", *OPERATOR, f"--replicas={REPLICAS}")
        rolled_out(self.kubectl, *OPERATOR)


def node_of(running: Stack) -> str:
    """The node's container."""
    assert isinstance(running.home, KindHome)
    return running.home.node


def up(home: KindHome = KIND) -> KindStack:
    """Everything runs and answers when this returns."""
    with locked(f"stack-{home.network}"):
        with step("Docker engine") as current:
            docker = engine.up()
            current.note = docker.host
        with locked("images"), step("images") as current:
            current.note = ", ".join(images.build(docker, images.TARGETS)) or "unchanged"
        with step("registry"):
            images.publish(docker, home)
        kubectl = cluster.up(docker, home)
        with step("images on the node"):
            tags = {name: cluster.load(docker, home, name) for name in ("operator", "localcloud")}
        with step("CRD"):
            stack.apply_crd(kubectl)
        with step("local cloud and operator"):
            apply(docker, home, kubectl, tags)
        environment.write(home, docker)
        return KindStack(home, docker, kubectl)


def apply(docker: Docker, home: KindHome, kubectl: Kubectl, tags: dict[str, str]) -> None:
    """The overlay with these images, until all its pods are ready."""
    folder = home.root / "install"
    folder.mkdir(parents=True, exist_ok=True)
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [os.path.relpath(OVERLAY, folder)],
        "images": [{"name": f"budgetml/{name}", "newTag": tag} for name, tag in tags.items()],
    }
    (folder / "kustomization.yaml").write_text(json.dumps(kustomization, indent=1))
    kubectl("apply", "--kustomize", folder)
    with logs_kept(docker, home):
        for deployment in (CLOUD, OPERATOR):
            rolled_out(kubectl, *deployment)


def rolled_out(kubectl: Kubectl, *deployment: str) -> None:
    """Waits until its pods are ready and none of before is left."""
    kubectl("rollout", "status", *deployment, "--timeout=300s")


@contextmanager
def logs_kept(docker: Docker, home: KindHome) -> Iterator[None]:
    """When this fails, what pods and node have said stays in the log folder."""
    try:
        yield
    except DevError:
        cluster.keep_logs(docker, home)
        raise
