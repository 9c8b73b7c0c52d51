"""The images: a base where no hub is reachable, the Dockerfile's targets, the registry that VMs pull from.

Each image carries the hash of its inputs as a label; what is unchanged is not built or pushed again.
"""

import contextlib
import hashlib
import json
import os
import selectors
import subprocess
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from dev import debian, dockerfile
from dev.docker import Docker
from dev.errors import DevError
from dev.paths import MAIN, REGISTRY_DATA, REGISTRY_HOST, ROOT, Home, version_of
from dev.progress import until

STACK_TARGETS = ("vm", "server", "registry")  # in the order of the Dockerfile
TARGETS = (*STACK_TARGETS, "localcloud", "operator")
VM_IMAGE = "budgetml/vm:local"
HUB_BASE = "python:3.11-slim-bookworm"
OWN_BASE = "budgetml/base:local"
INPUTS = "budgetml.inputs"
BASE_OPTIONS = (
    "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr",  # else a package that needs all of Perl does it
    # a machine behind its own certificate authority builds images that trust it too
    '--customize-hook=cp /etc/ssl/certs/ca-certificates.crt "$1/etc/ssl/certs/ca-certificates.crt"',
)
STACK = "budgetml.stack"
PULL_SILENCE = 15.0
PULL_SECONDS = 300.0
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")


def server_image() -> str:
    """The server image as VMs name it."""
    return f"{REGISTRY_HOST}/budgetml/server:{version_of('server')}"


def build(docker: Docker, targets: Sequence[str] = STACK_TARGETS) -> list[str]:
    """Builds what changed; gives the names of the targets that were built."""
    stands_on = base(docker)
    base_id = docker("image", "inspect", "--format", "{{.Id}}", stands_on)
    # without BuildKit a build goes through all stages before its own: one after the other, it finds them made
    with ThreadPoolExecutor(len(targets) if _has_buildkit(docker) else 1) as pool:
        built = list(pool.map(lambda target: _build_target(docker, target, stands_on, base_id), targets))
    return [target for target, changed in zip(targets, built, strict=True) if changed]


def publish(docker: Docker, home: Home) -> None:
    """Runs the stack's network and registry and brings the server image into it."""
    network(docker, home)
    _registry(docker, home)
    port = home.known_port("registry")
    tag = version_of("server")
    image_id = docker("image", "inspect", "--format", "{{.Id}}", "budgetml/server:local")
    if _published(port, tag) == image_id:
        return
    pushed = f"127.0.0.1:{port}/budgetml/server:{tag}"
    docker("tag", "budgetml/server:local", pushed)
    docker("push", "--quiet", pushed)
    docker("rmi", "--no-prune", pushed)


def registry_name(home: Home) -> str:
    """The registry's container."""
    return f"{home.network}-registry"


def network(docker: Docker, home: Home) -> None:
    """The stack's Docker network; the host has its gateway address as soon as it is there."""
    if docker.has("network", home.network):
        return
    docker(
        *("network", "create", f"--subnet={home.subnet}", f"--gateway={home.gateway}"),
        f"--ip-range={home.unnamed}",
        *(f"--label={STACK}={home.network}", home.network),
    )


def remove(docker: Docker) -> None:
    """Removes our images; only `make clean` does."""
    images = docker("image", "ls", "--quiet", "--filter", f"label={INPUTS}").split()
    if images:
        docker("image", "rm", "--force", *dict.fromkeys(images))


def base(docker: Docker) -> str:
    """What all images stand on: the hub's, where one is reachable."""
    own = docker.has("image", OWN_BASE)
    if docker.has("image", HUB_BASE) or (not own and _pull(docker)):
        return HUB_BASE
    command = debian.bootstrap("python3,python3-venv,ca-certificates", "-", *BASE_OPTIONS)
    inputs = hashlib.sha256("\0".join(command).encode()).hexdigest()[:16]
    if not own or _inputs(docker, OWN_BASE) != inputs:
        _bootstrap(docker, command, inputs)
    return OWN_BASE


def _pull(docker: Docker) -> bool:
    """Pulls the hub's base; gives up where the hub does not begin to answer within seconds."""
    command = [docker.client, "pull", HUB_BASE]
    with subprocess.Popen(command, env=docker.env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as pull:
        assert pull.stdout
        with selectors.DefaultSelector() as selector:
            selector.register(pull.stdout, selectors.EVENT_READ)
            began = bool(selector.select(PULL_SILENCE))
        try:
            pull.communicate(timeout=PULL_SECONDS if began else 0)
        except subprocess.TimeoutExpired:
            pull.kill()
    return pull.returncode == 0


def _bootstrap(docker: Docker, command: Sequence[str], inputs: str) -> None:
    """Debian's packages make the base where no hub is reachable. The machine's own apt sources land in it."""
    debian.require()
    env = os.environ | dockerfile.environment(ROOT, "build")  # SOURCE_DATE_EPOCH
    with (MAIN.log / "image-base.log").open("wb") as log:
        made = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=log)
        imported = subprocess.run(
            [docker.client, "import", f"--change=LABEL {INPUTS}={inputs}", "-", OWN_BASE],
            env=docker.env,
            stdin=made.stdout,
            stdout=log,
            stderr=log,
            check=False,
        )
        if made.wait() or imported.returncode:
            docker.run("image", "rm", OWN_BASE)
            raise DevError(f"mmdebstrap could not make the base image: see {log.name}")


def _has_buildkit(docker: Docker) -> bool:
    """Debian 12's own client has it built in; others have it if the component buildx is installed."""
    return docker.private or docker.run("buildx", "version").returncode == 0


def _build_target(docker: Docker, target: str, base: str, base_id: str) -> bool:
    tag = f"budgetml/{target}:local"
    inputs = dockerfile.fingerprint(ROOT, target, base_id)
    if _inputs(docker, tag) == inputs:
        return False
    _run_build(docker, target, base, f"--tag={tag}", f"--label={INPUTS}={inputs}")
    return True


def build_again(docker: Docker, target: str, tag: str, attempt: str) -> None:
    """Builds a target under another name, with nothing of earlier builds but of the same attempt."""
    _run_build(docker, target, base(docker), f"--tag={tag}", f"--build-arg=ATTEMPT={attempt}")


def _run_build(docker: Docker, target: str, base: str, *options: str) -> None:
    proxies = [f"--build-arg={name}" for name in PROXIES if name in os.environ]
    command = [docker.client, "build", f"--target={target}", f"--build-arg=BASE={base}", *proxies, *options]
    log = MAIN.log / f"image-{target}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        kit = "1" if _has_buildkit(docker) else "0"
        env = {**docker.env, "DOCKER_BUILDKIT": kit, "BUILDKIT_PROGRESS": "plain"}
        done = subprocess.run([*command, str(ROOT)], env=env, stdout=output, stderr=output, check=False)
    if done.returncode:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-25:])
        raise DevError(f"The image {target} cannot be built; {log} ends:\n{tail}")


def _inputs(docker: Docker, tag: str) -> str:
    """What an image was made from; empty if it is not there."""
    form = f'{{{{index .Config.Labels "{INPUTS}"}}}}'
    return docker.run("image", "inspect", "--format", form, tag).stdout.strip()


def _registry(docker: Docker, home: Home) -> None:
    """The stack's registry, replaced when its image changed; what it stores lies below `.local`."""
    name = registry_name(home)
    image_id = docker("image", "inspect", "--format", "{{.Id}}", "budgetml/registry:local")
    state = docker.run(
        "container", "inspect", "--format", "{{.State.Running}} {{.Image}}", name
    ).stdout.split()
    if state != ["true", image_id]:
        docker.run("container", "rm", "--force", "--volumes", name)
        REGISTRY_DATA.mkdir(parents=True, exist_ok=True)
        docker(
            *("run", "--detach", f"--name={name}", f"--label={STACK}={home.network}"),
            *(f"--network={home.network}", f"--ip={home.registry_ip}", f"--network-alias={REGISTRY_HOST}"),
            *(f"--publish=127.0.0.1:{home.port('registry')}:80", f"--user={os.getuid()}:{os.getgid()}"),
            *(
                f"--volume={REGISTRY_DATA}:/var/lib/registry",
                "--log-opt=max-size=10m",
                "budgetml/registry:local",
            ),
        )
    port = home.known_port("registry")
    until(
        lambda: _get(port, "") is not None,
        30,
        lambda: f"The registry {name} does not answer: docker logs {name}",
    )


def _published(port: int, tag: str) -> str | None:
    manifest = _get(port, f"budgetml/server/manifests/{tag}")
    return str(manifest.get("config", {}).get("digest")) if manifest else None


def _get(port: int, path: str) -> dict[str, dict[str, str]] | None:
    accept = "application/vnd.docker.distribution.manifest.v2+json"
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v2/{path}", headers={"Accept": accept})
    with contextlib.suppress(OSError, ValueError), urllib.request.urlopen(request, timeout=5) as answer:
        return dict(json.loads(answer.read() or b"{}"))
    return None
