"""A real Kubernetes control plane: etcd, kube-apiserver, kube-controller-manager, built from Go modules.

Three processes on loopback with data below the stack's home. No scheduler, no kubelet: pods stay Pending.
"""

import contextlib
import json
import secrets
import shutil
import ssl
import subprocess
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dev.errors import DevError
from dev.golang import Programs
from dev.paths import BIN, ROOT, Home
from dev.process import Process
from dev.progress import until

MODULE = ROOT / "dev" / "cluster"
# etcd's main package is the root of the module …/server/v3
CONTROL_PLANE = Programs(
    "control-plane",
    MODULE,
    (
        "go.etcd.io/etcd/server/v3",
        *(
            f"k8s.io/kubernetes/cmd/{name}"
            for name in ("kube-apiserver", "kube-controller-manager", "kubectl")
        ),
    ),
    tags="grpcnotrace,no_btrfs,no_zfs,no_devmapper",
    renamed={"server": "etcd", "v3": "etcd"},
)


@dataclass(frozen=True)
class Kubectl:
    """kubectl with one kubeconfig."""

    kubeconfig: Path

    def __call__(
        self,
        *args: str | Path,
        input: str | None = None,  # noqa: A002 (subprocess calls it so)
        check: bool = True,
    ) -> subprocess.CompletedProcess[str]:
        """Runs one command; a failure raises what kubectl said, unless the caller judges it."""
        argv = [program("kubectl"), f"--kubeconfig={self.kubeconfig}", *map(str, args)]
        done = subprocess.run(argv, input=input, capture_output=True, text=True, check=False)
        if check and done.returncode:
            raise DevError(
                f"kubectl {' '.join(map(str, args))}: {done.stderr.strip() or done.stdout.strip()}"
            )
        return done

    def json(self, *args: str | Path) -> Any:
        """One command's output as JSON."""
        return json.loads(self(*args, "--output=json").stdout)


def program(name: str) -> str:
    """The built program, or for kubectl with a given cluster the one in PATH."""
    if (built := BIN / name).exists():
        return str(built)
    if found := shutil.which(name):
        return found
    raise DevError(f"{name} is neither built (make cluster) nor in PATH.")


def up(home: Home) -> None:
    """Starts what does not run and waits until it answers."""
    pki = home.cluster / "pki"
    pki.mkdir(parents=True, exist_ok=True)
    etcd, apiserver, controllers = processes(home)
    if not (etcd.pid() and apiserver.pid()):
        apiserver.stop()
        etcd.stop()
        etcd.start(_etcd_command(home))
        _write_admin(home)
        apiserver.start(_apiserver_command(home))
    until(lambda: _ready(home), 120, lambda: _failure(apiserver, etcd))
    controllers.start(_controllers_command(home))
    kubectl = Kubectl(home.kubeconfig)
    until(
        lambda: not kubectl("get", "serviceaccount", "default", "-n=default", check=False).returncode,
        60,
        lambda: _failure(controllers),
    )


def down(home: Home) -> bool:
    """Ends the control plane; its data stays."""
    stopped = [process.stop() for process in reversed(processes(home))]
    return any(stopped)


def forget(home: Home) -> None:
    """Removes the control plane's data: the next start is an empty cluster."""
    shutil.rmtree(home.cluster, ignore_errors=True)
    audit_log(home).unlink(missing_ok=True)
    home.kubeconfig.unlink(missing_ok=True)
    home.operator_kubeconfig.unlink(missing_ok=True)


def processes(home: Home) -> tuple[Process, ...]:
    """etcd, kube-apiserver, kube-controller-manager."""
    return Process(home, "etcd"), Process(home, "kube-apiserver"), Process(home, "kube-controller-manager")


def _etcd_command(home: Home) -> list[str | Path]:
    client, peer = (f"http://127.0.0.1:{home.port(name)}" for name in ("etcd", "etcd-peer"))
    return [
        BIN / "etcd",
        f"--data-dir={home.cluster / 'etcd'}",
        "--unsafe-no-fsync",
        "--log-level=warn",
        *(f"--listen-client-urls={client}", f"--advertise-client-urls={client}"),
        *(
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
        ),
    ]


def _apiserver_command(home: Home) -> list[str | Path]:
    pki = home.cluster / "pki"
    key = pki / "apiserver.key"  # kube-apiserver makes its own pair before it reads the ServiceAccount keys
    return [
        BIN / "kube-apiserver",
        f"--etcd-servers=http://127.0.0.1:{home.known_port('etcd')}",
        f"--cert-dir={pki}",
        *("--bind-address=127.0.0.1", "--advertise-address=127.0.0.1"),
        f"--secure-port={home.known_port('kube-apiserver')}",
        "--endpoint-reconciler-type=none",
        "--service-cluster-ip-range=10.96.0.0/16",
        "--authorization-mode=Node,RBAC",
        f"--token-auth-file={_tokens(home)}",
        *(f"--audit-policy-file={MODULE / 'audit-policy.yaml'}", f"--audit-log-path={audit_log(home)}"),
        *("--audit-log-maxsize=20", "--audit-log-maxbackup=1"),
        "--service-account-issuer=https://kubernetes.default.svc",
        *(f"--service-account-signing-key-file={key}", f"--service-account-key-file={key}"),
    ]


def _controllers_command(home: Home) -> list[str | Path]:
    pki = home.cluster / "pki"
    return [
        BIN / "kube-controller-manager",
        f"--kubeconfig={home.kubeconfig}",
        "--leader-elect=false",
        f"--service-account-private-key-file={pki / 'apiserver.key'}",
        f"--root-ca-file={pki / 'apiserver.crt'}",
        "--secure-port=0",
    ]


def audit_log(home: Home) -> Path:
    """What the operator's ServiceAccount has asked the API server for: one JSON object a line."""
    return home.log / "audit.log"


def _tokens(home: Home) -> Path:
    return home.cluster / "tokens.csv"


def _write_admin(home: Home) -> None:
    """The administrator's token survives restarts; the port may not."""
    tokens = _tokens(home)
    if not tokens.exists():
        write_private(tokens, f"{secrets.token_urlsafe(32)},admin,admin,system:masters\n")
    server = f"https://127.0.0.1:{home.port('kube-apiserver')}"
    authority = {"certificate-authority": str(home.cluster / "pki" / "apiserver.crt")}
    write_kubeconfig(home.kubeconfig, {"server": server, **authority}, tokens.read_text().split(",")[0])


def write_kubeconfig(path: Path, cluster: dict[str, str], token: str) -> None:
    """A kubeconfig with one cluster and one token (JSON is YAML)."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "budgetml",
        "clusters": [{"name": "budgetml", "cluster": cluster}],
        "users": [{"name": "budgetml", "user": {"token": token}}],
        "contexts": [{"name": "budgetml", "context": {"cluster": "budgetml", "user": "budgetml"}}],
    }
    write_private(path, json.dumps(config, indent=1))


def write_private(path: Path, text: str) -> None:
    """A file that only its owner may read, from its first byte."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(text)


def _ready(home: Home) -> bool:
    """False while there is no certificate yet, the port is closed, or it answers 500."""
    with contextlib.suppress(OSError):
        tls = ssl.create_default_context(cafile=home.cluster / "pki" / "apiserver.crt")
        url = f"https://127.0.0.1:{home.known_port('kube-apiserver')}/readyz"
        with urllib.request.urlopen(url, context=tls, timeout=5) as answer:
            return bool(answer.status == 200)
    return False


def _failure(*suspects: Process) -> str:
    logs = "\n".join(f"{process.log_file} ends:\n{process.log_tail(10)}" for process in suspects)
    return f"The control plane does not become ready.\n{logs}"
