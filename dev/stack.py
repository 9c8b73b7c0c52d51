"""The whole stack of one home: engine, images, control plane, local cloud, CRD, RBAC and the operator.

`up` starts what does not run; `down` ends everything and forgets its state. Both work from any state.
"""

import contextlib
import json
import shutil
import socket
import urllib.error
import urllib.request
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dev import cluster, engine, environment, images
from dev.cluster import Kubectl
from dev.docker import Docker
from dev.errors import DevError
from dev.paths import CLOUD_PORT, ENGINE, HOMES, MAIN, ROOT, VENV_BIN, Home, locked
from dev.process import Process, processes_of
from dev.progress import announce, step, until

CRD = "budgetdeployments.budgetml.dev"
NAMESPACE = "budgetml-system"
ACCOUNT = "budget-operator"
KIND_CLUSTER = "io.x-k8s.kind.cluster"  # kind's label on its nodes
ACCESS = ROOT / "operator" / "deploy" / "kustomize" / "access"


@dataclass(frozen=True)
class Stack:
    """A running stack."""

    home: Home
    docker: Docker
    kubectl: Kubectl

    @property
    def operator(self) -> Process:
        """The operator's process."""
        return operator(self.home)

    def kill_operator(self) -> None:
        """SIGKILL, as in a crash; nothing starts it again."""
        self.operator.kill()

    def operator_lives(self) -> bool:
        """Whether any process of it runs."""
        return self.operator.pid() is not None

    def start_operator(self, **settings: str) -> None:
        """Starts it as its ServiceAccount and waits until it is ready; `settings` replace the usual ones."""
        _start_operator(self.home, settings)


def operator(home: Home) -> Process:
    """The operator's process, running or not."""
    return Process(home, "operator")


def localcloud(home: Home) -> Process:
    """The local cloud's process, running or not."""
    return Process(home, "localcloud")


def up(home: Home = MAIN, kubeconfig: Path | None = None) -> Stack:
    """Everything runs and answers when this returns."""
    with locked(f"stack-{home.network}"):
        with step("Docker engine") as current:
            docker = engine.up()
            current.note = docker.host
        with ThreadPoolExecutor(2) as pool:
            waiting = [pool.submit(_images, docker, home), pool.submit(_cluster, home, kubeconfig)]
            for part in waiting:
                part.result()
        kubectl = Kubectl(home.kubeconfig)
        with step("local cloud", home.cloud_url):
            _start_localcloud(home, docker)
        with step("CRD, ServiceAccount and RBAC"):
            apply_crd(kubectl)
            apply_rbac(kubectl, home)
        environment.write(home, docker)
        with step("operator", f"as {NAMESPACE}/{ACCOUNT}"):
            _start_operator(home, {})
        return Stack(home, docker, kubectl)


def running(home: Home = MAIN) -> bool:
    """Whether this stack is up: all its processes live."""
    parts = (operator(home), localcloud(home))
    return all(part.pid() for part in parts)


def down(home: Home = MAIN) -> None:
    """Ends the stack and forgets its state; the engine, images and logs stay."""
    with locked(f"stack-{home.network}"):
        _withdraw(home)
        operator(home).stop()
        _keep_consoles(home)
        localcloud(home).stop()
        if docker := _engine_for_removal():
            _remove_from_docker(docker, home)
        cluster.down(home)
        for process in processes_of(home):
            process.stop()
        cluster.forget(home)
        shutil.rmtree(home.root / "localcloud", ignore_errors=True)
        for path in (home.root / "given", environment.path(home)):
            path.unlink(missing_ok=True)


def down_all() -> None:
    """Ends every stack of this checkout and the private engine."""
    for home in HOMES:
        if home is MAIN or home.root.exists():
            with step(f"stack {home.network} ended"):
                down(home)
    with step("Docker engine") as current:
        if (docker := _engine_for_removal()) and docker.private:
            _remove(docker, docker("container", "ls", "--all", "--quiet").split(), [])
        current.note = "the private one is ended" if engine.down() else "none of ours is left"


def clean() -> None:
    """Ends everything and removes our images from an engine that stays; `.local` may be deleted then."""
    for home in HOMES:
        down(home)
    if (docker := _engine_for_removal()) and not docker.private:
        images.remove(docker)
    down_all()


def apply_crd(kubectl: Kubectl) -> None:
    """The custom resource, ready to be used: for a second after Established the API server answers 429."""
    kubectl("apply", "--kustomize", ROOT / "crds")
    kubectl("wait", "--for=condition=Established", "--timeout=60s", f"crd/{CRD}")
    until(
        lambda: not kubectl("get", CRD, "--all-namespaces", check=False).returncode,
        30,
        "The API server does not serve BudgetDeployments although their CRD is established",
    )


def apply_rbac(kubectl: Kubectl, home: Home) -> None:
    """The operator's ServiceAccount with its rights, and a kubeconfig that holds nothing but its token."""
    kubectl("apply", "--kustomize", ACCESS)
    token = kubectl("create", "token", ACCOUNT, f"--namespace={NAMESPACE}", "--duration=720h").stdout.strip()
    view = kubectl.json("config", "view", "--raw", "--minify", "--flatten")
    cluster.write_kubeconfig(home.operator_kubeconfig, view["clusters"][0]["cluster"], token)


def _images(docker: Docker, home: Home) -> None:
    with locked("images"), step("images") as current:
        current.note = ", ".join(images.build(docker)) or "unchanged"
    with step("registry"):
        images.publish(docker, home)


def _cluster(home: Home, kubeconfig: Path | None) -> None:
    given = home.root / "given"
    if kubeconfig:
        _take(home, kubeconfig.expanduser().resolve(), given)
    if given.exists():
        return
    with step("control plane built") as current:
        if not cluster.CONTROL_PLANE.is_built():
            announce("compiling the control plane: 4 to 7 minutes when Go's caches are empty")
        current.note = "compiled" if cluster.CONTROL_PLANE.build() else "unchanged"
    with step("control plane"):
        cluster.up(home)


def _take(home: Home, kubeconfig: Path, given: Path) -> None:
    """Uses somebody's cluster from now on; an own control plane of before, and its operator, are ended."""
    view = Kubectl(kubeconfig)("config", "view", "--raw", "--minify", "--flatten").stdout
    if given.exists() and home.kubeconfig.exists() and home.kubeconfig.read_text() == view:
        return
    operator(home).stop()
    cluster.down(home)
    cluster.forget(home)
    cluster.write_private(home.kubeconfig, view)
    known = Kubectl(home.kubeconfig)("get", "crd", CRD, "--ignore-not-found", "--output=name").stdout
    given.write_text("the CRD was there" if known else "the CRD is ours")


def _start_localcloud(home: Home, docker: Docker) -> None:
    server = localcloud(home)
    if not _is_local(home.gateway):
        raise DevError(
            f"Docker's networks end outside of this machine ({home.gateway} is not one of its addresses):"
            " use an engine that runs directly on it and as root, not Docker Desktop."
        )
    server.start(
        [
            *(VENV_BIN / "localcloud", "serve", f"--home={home.root / 'localcloud'}"),
            *(f"--listen={home.gateway}:{CLOUD_PORT}", "--backend=docker"),
            *(f"--network={home.network}", f"--subnet={home.subnet}", f"--vm-image={images.VM_IMAGE}"),
        ],
        env=docker.env,
    )
    until(lambda: _answers(home.cloud_url) or not server.pid(), 60, f"No answer: see {server.log_file}")
    if not server.pid():
        raise DevError(f"The local cloud has ended; {server.log_file} ends:\n{server.log_tail()}")
    knock = f"exec 3<>/dev/tcp/{home.gateway}/{CLOUD_PORT}"
    if docker.run("exec", images.registry_name(home), "timeout", "5", "bash", "-c", knock).returncode:
        raise DevError(
            f"Containers do not reach {home.gateway}:{CLOUD_PORT} on this machine: its firewall drops them."
            f" Let {home.subnet} in (ufw: sudo ufw allow from {home.subnet})."
        )


def _start_operator(home: Home, settings: Mapping[str, str]) -> None:
    process = operator(home)
    if not process.pid():
        process.start([VENV_BIN / "budget-operator", "run"], env={**environment.operator(home), **settings})
    url = f"http://127.0.0.1:{home.known_port('operator')}/readyz"
    failure = f"The operator does not get ready: see {process.log_file}"
    until(lambda: _answers(url, 200) or not process.pid(), 60, failure)
    if not process.pid():
        raise DevError(f"The operator has ended; {process.log_file} ends:\n{process.log_tail()}")


def _is_local(address: str) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True


def _answers(url: str, status: int | None = None) -> bool:
    """Whether anything answers, or answers with this status."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return status in (None, answer.status)
    except urllib.error.HTTPError as error:
        return status in (None, error.code)
    except OSError:
        return False


def _withdraw(home: Home) -> None:
    """Takes our objects out of a cluster that somebody gave us; one of our own is simply forgotten."""
    given = home.root / "given"
    if not given.exists() or not home.kubeconfig.exists():
        return
    kubectl = Kubectl(home.kubeconfig)
    if "ours" in given.read_text():
        kubectl("delete", CRD, "--all", "--all-namespaces", "--timeout=120s", check=False)
        kubectl("delete", "--kustomize", ROOT / "crds", "--ignore-not-found", "--timeout=60s", check=False)
    kubectl("delete", "--kustomize", ACCESS, "--ignore-not-found", "--timeout=60s", check=False)


def _keep_consoles(home: Home) -> None:
    """The consoles of VMs go into the log folder first: the only trace of what went wrong on one."""
    if not localcloud(home).pid():
        return
    with contextlib.suppress(OSError, ValueError):
        for row in _control(home, "resources")["resources"]:
            if row["kind"] == "instance":
                text = _control(home, f"logs/{row['name']}")["text"]
                (home.log / f"vm-{row['name']}.log").write_text(text)


def _control(home: Home, path: str) -> Any:
    with urllib.request.urlopen(f"{home.cloud_url}/_localcloud/v1/{path}", timeout=10) as answer:
        return json.loads(answer.read())


def _engine_for_removal() -> Docker | None:
    """An engine to remove things from; a private one that was killed full of containers is started."""
    with contextlib.suppress(DevError):
        if docker := engine.find():
            return docker
        kept = ENGINE / "data" / "containers"
        if engine.SNAPSHOT.exists() and kept.exists() and any(kept.iterdir()):
            return engine.up()
    return None


def _remove_from_docker(docker: Docker, home: Home) -> None:
    labels = (
        f"{images.STACK}={home.network}",
        f"localcloud={home.network}",
        f"{KIND_CLUSTER}={home.network}",
    )
    containers = [found for label in labels for found in docker.ids("container", label)]
    networks = [found for label in labels for found in docker.ids("network", label)]
    _remove(docker, containers, networks)
    if volumes := docker("volume", "ls", "--quiet", "--filter", f"label=localcloud={home.network}").split():
        docker.run("volume", "rm", "--force", *volumes)


def _remove(docker: Docker, containers: list[str], networks: list[str]) -> None:
    if containers:
        docker.run("container", "rm", "--force", "--volumes", *containers)
    if networks:
        docker.run("network", "rm", *networks)
