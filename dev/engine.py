"""The Docker engine: an answering one is used as it is; on a bare Debian a private one runs below `.local`.

The private engine is ended with all it changed on the machine: mounts, control groups, bridges, firewall
rules, IP forwarding (see `machine`). What it stored (images) stays below `.local` for the next start.
"""

import contextlib
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from dev import docker, machine, process
from dev.docker import Docker
from dev.errors import DevError
from dev.paths import ENGINE, LOCAL, MAIN, locked
from dev.process import Process
from dev.progress import until

DEFAULT_HOST = "unix:///var/run/docker.sock"
SOCKET = ENGINE / "docker.sock"
PRIVATE_HOST = f"unix://{SOCKET}"
SNAPSHOT = ENGINE / "before.json"
CGROUP = f"budgetml-{hashlib.sha256(str(LOCAL).encode()).hexdigest()[:8]}"
PROCESS = Process(MAIN, "dockerd")
PACKAGES = {"docker.io": "dockerd", "iptables": "iptables", "iproute2": "ip", "mmdebstrap": "mmdebstrap"}
NO_ENGINE = (
    "No Docker engine answers. Start Docker, or set DOCKER_HOST to an engine that runs"
    " (only on Debian and as root one is installed with apt and started here)."
)


def up() -> Docker:
    """An engine that answers."""
    with locked("engine"):
        return find() or _private()


def find() -> Docker | None:
    """The engine in use or the one that answers; nothing is started."""
    given = os.environ.get("DOCKER_HOST", "")
    if given and given != PRIVATE_HOST:
        if not docker.answers(given):
            raise DevError(
                f"No Docker engine answers at DOCKER_HOST ({given}): start it, or unset DOCKER_HOST."
            )
        return Docker(given, _client(private=False))
    if SOCKET.exists() and docker.answers(PRIVATE_HOST):
        return Docker(PRIVATE_HOST, _client(private=True), private=True, config=ENGINE / "client")
    if docker.answers(DEFAULT_HOST):
        return Docker(DEFAULT_HOST, _client(private=False))
    if not docker.may_connect(DEFAULT_HOST):
        raise DevError("You may not use Docker's socket: add yourself to the group docker and log in again.")
    return None


def down() -> bool:
    """Ends the private engine and undoes what it changed; true if there was anything to do."""
    with locked("engine"):
        if not SNAPSHOT.exists() and not process.marked(PROCESS.mark):
            return False
        PROCESS.stop(seconds=40)
        _clean()
        machine.undo(machine.recall(SNAPSHOT) or machine.without_docker())
        SNAPSHOT.unlink(missing_ok=True)
        return True


def release() -> bool:
    """Ends the private engine unless something runs in it: another stack may have come up in the meantime."""
    docker = find()
    if docker and docker.private and not docker("container", "ls", "--quiet"):
        return down()
    return False


def _private() -> Docker:
    _refuse_unless_possible()
    _install()
    if found := find():  # the package started its own service (a machine with systemd)
        return found
    PROCESS.stop()
    _clean()
    ENGINE.mkdir(parents=True, exist_ok=True)
    machine.remember(SNAPSHOT)
    # dockerd sets the FORWARD policy to DROP for the whole machine when it has to turn this on itself
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1\n")
    (ENGINE / "daemon.json").write_text("{}\n")
    PROCESS.start(_command())
    until(
        lambda: docker.answers(PRIVATE_HOST),
        60,
        lambda: f"The private Docker engine does not answer; {PROCESS.log_file} ends:\n{PROCESS.log_tail()}",
    )
    # no container may reach a real metadata server past the one that the VMs bring along
    rule = ["DOCKER-USER", "-d", "169.254.0.0/16", "-j", "DROP"]
    if subprocess.run(["iptables", "-w", "-C", *rule], capture_output=True, check=False).returncode:
        subprocess.run(["iptables", "-w", "-I", *rule], capture_output=True, check=True)
    return Docker(PRIVATE_HOST, _client(private=True), private=True, config=ENGINE / "client")


def _command() -> list[str]:
    return [
        _program("dockerd") or "dockerd",
        f"--config-file={ENGINE / 'daemon.json'}",  # not the machine's /etc/docker/daemon.json
        f"--host={PRIVATE_HOST}",
        f"--data-root={ENGINE / 'data'}",
        f"--exec-root={ENGINE / 'exec'}",
        f"--pidfile={ENGINE / 'docker.pid'}",
        "--exec-opt=native.cgroupdriver=cgroupfs",
        f"--cgroup-parent=/{CGROUP}",
        "--bip=10.201.0.1/24",
        "--default-address-pool=base=10.203.0.0/16,size=24",
        "--log-level=warn",
    ]


def _clean() -> None:
    """A killed engine leaves containers, mounts, control groups and pid files that break the next start."""
    machine.end_cgroup(CGROUP)
    machine.unmount_below(ENGINE)
    for path in (ENGINE / "exec", ENGINE / "docker.pid", SOCKET):
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _refuse_unless_possible() -> None:
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise DevError(NO_ENGINE)
    for mark in process.marks().values():
        if mark.endswith("/.local:dockerd") and mark != PROCESS.mark:
            other = mark.removesuffix("/.local:dockerd")
            raise DevError(f"The checkout {other} runs a private Docker engine: run `make down` there first.")


def _install() -> None:
    missing = [package for package, program in PACKAGES.items() if not _program(program)]
    if missing:
        apt_install(*missing)


def apt_install(*packages: str) -> None:
    """Debian packages, waiting for another apt to finish."""
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update"], ["install", "--yes", "--no-install-recommends", *packages]):
        argv = ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=300", *command]
        done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
        if done.returncode:
            raise DevError(f"apt-get {' '.join(command)} failed:\n{(done.stdout + done.stderr)[-2000:]}")


def _program(name: str) -> str | None:
    """Also finds what lies in sbin, which a plain PATH may lack."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin:/usr/bin:/bin")


def _client(private: bool) -> str:
    """Debian's client for Debian's engine: another one earlier in PATH may lack BuildKit."""
    client = "/usr/bin/docker" if private else shutil.which("docker")
    if not client or not Path(client).exists():
        raise DevError("A Docker engine answers, but the command `docker` is missing: install its client.")
    return client
