"""A certificate from a real ACME authority, through the bad days of its VM: it is ordered once.

The authority is Caddy's `acme_server` on the bridge. The VM finds its name through the local cloud; the
authority, which can only ask the machine's resolver, in an /etc/hosts of its own.
"""

import json
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509

from dev import environment, images, plain
from dev.paths import VENV_BIN
from dev.process import Process
from dev.progress import until
from dev.stack import Stack

NAME = "model.test"
PORT = 14443
FIRST_ZONE, OTHER_ZONE = "us-central1-a", "us-central1-b"
PREEMPTIONS, ROLLOUTS = 6, 3
PREDICTOR = """
class Predictor:
    def load(self): pass
    def predict(self, request): return {{"word": "{word}"}}
"""


@dataclass(frozen=True)
class Authority:
    """A running ACME authority: where it is, whom to trust, and what it was asked."""

    url: str
    root: str
    log: Path
    hosts: Path

    def learn(self, ip: str, name: str = NAME) -> None:
        """Find this name."""
        self.hosts.write_text(f"127.0.0.1 localhost\n{ip} {name}\n")

    def orders(self) -> int:
        """How many certificates were ever ordered."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        asked = [json.loads(line)["request"]["uri"] for line in lines]
        return sum(uri.endswith("/new-order") for uri in asked)


def authority_configuration(home: Path, address: str, log: Path) -> dict[str, Any]:
    acme = {
        "handler": "acme_server",
        "ca": "local",
        "host": f"{address}:{PORT}",
        "resolvers": [f"{address}:53"],
    }
    server = {
        "listen": [f"{address}:{PORT}"],
        "protocols": ["h1", "h2"],
        "automatic_https": {"disable_redirects": True},
        "tls_connection_policies": [{"default_sni": address}],
        "routes": [{"handle": [acme]}],
        "logs": {"default_logger_name": "asked"},
    }
    written = {"output": "file", "filename": str(log)}
    return {
        "admin": {"disabled": True},
        "storage": {"module": "file_system", "root": str(home)},
        "logging": {"logs": {"asked": {"writer": written, "include": ["http.log.access.asked"]}}},
        "apps": {
            "pki": {"certificate_authorities": {"local": {"install_trust": False}}},
            "tls": {
                "certificates": {"automate": [address]},
                "automation": {"policies": [{"issuers": [{"module": "internal"}]}]},
            },
            "http": {"servers": {"acme": server}},
        },
    }


@pytest.fixture(scope="module")
def authority(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Authority]:
    place = tmp_path_factory.mktemp("authority")
    log, root = place / "asked.json", place / "data/pki/authorities/local/root.crt"
    configuration = authority_configuration(place / "data", stack.home.gateway, log)
    (place / "caddy.json").write_text(json.dumps(configuration))
    process = Process(stack.home, "authority")
    hosts = place / "hosts"
    hosts.write_text("127.0.0.1 localhost\n")
    own = 'mount --bind "$1" /etc/hosts && exec "$2" run --config "$3"'
    given = (hosts, VENV_BIN / "caddy", place / "caddy.json")
    process.start(["unshare", "--mount", "sh", "-c", own, "sh", *given])
    try:
        until(root.exists, 20, "the ACME authority does not start")
        url = f"https://{stack.home.gateway}:{PORT}/acme/local/directory"
        yield Authority(url, root.read_text(), log, hosts)
    finally:
        process.stop()


@pytest.fixture(scope="module")
def localcloud(stack: Stack) -> Callable[..., str]:
    def run(*words: str) -> str:
        argv = [str(VENV_BIN / "localcloud"), *words]
        env = {"LOCALCLOUD_URL": stack.home.cloud_url, "PATH": str(VENV_BIN)}
        return subprocess.run(argv, env=env, check=True, capture_output=True, text=True).stdout

    return run


def acme(authority: Authority) -> dict[str, str]:
    return {
        "mode": "Acme",
        "email": "me@models.test",
        "directory": authority.url,
        "caBundle": authority.root,
    }


def spec(
    authority: Authority, word: str, zones: tuple[str, ...] = (FIRST_ZONE, OTHER_ZONE)
) -> dict[str, Any]:
    return {
        "predictor": {"inline": PREDICTOR.format(word=word)},
        "placement": {"zones": list(zones)},
        "endpoint": {"host": NAME, "tls": acme(authority)},
    }


def is_true(status: dict[str, Any], kind: str) -> bool:
    return any(each["type"] == kind and each["status"] == "True" for each in status.get("conditions", ()))


@dataclass
class Caller:
    """Somebody who opens the endpoint by its name and trusts the authority."""

    authority: Authority
    ip: str
    token: str
    name: str = NAME

    def certificate(self) -> x509.Certificate:
        """The verified one."""
        trusted = ssl.create_default_context(cadata=self.authority.root)
        with (
            socket.create_connection((self.ip, 443), timeout=5) as connection,
            trusted.wrap_socket(connection, server_hostname=self.name) as secure,
        ):
            return x509.load_der_x509_certificate(secure.getpeercert(binary_form=True) or b"")

    def word(self) -> str:
        """The model's answer; empty if there is none."""
        trusted = ssl.create_default_context(cadata=self.authority.root)
        headers = {"Authorization": f"Bearer {self.token}", "Host": self.name}
        with httpx.Client(verify=trusted, timeout=5, trust_env=False, headers=headers) as client:
            request = client.build_request("POST", f"https://{self.ip}/predict_dict", json={"payload": {}})
            request.extensions["sni_hostname"] = self.name
            try:
                answer = client.send(request)
            except httpx.TransportError:
                return ""
        return str(answer.json()["word"]) if answer.is_success else ""

    def wait(self, word: str, seconds: float = 120) -> None:
        until(lambda: self.word() == word, seconds, f"{self.name} does not answer {word}")


def test_one_order_over_preemptions_rollouts_a_lost_vm_and_another_zone(
    stack: Stack, deploy: Callable[[str], Any], authority: Authority, localcloud: Callable[..., str]
) -> None:
    named = deploy("named")
    named.apply_secret(
        "named-login", {"username": "ada", "password": "lovelace-1815", "token": "a-token-1815"}
    )
    wanted = spec(authority, "zero") | {"auth": {"secretName": "named-login"}}
    named.apply(wanted)
    ip = named.wait(lambda status: bool(status.get("ip")))["ip"]

    def tells_the_record(status: dict[str, Any]) -> bool:
        condition = named.condition("CertificateValid", status)
        return condition.get("reason") == "NameNotResolved" and ip in condition["message"]

    named.wait(tells_the_record, 120)
    assert authority.orders() == 0

    authority.learn(ip)
    localcloud("dns", "set", NAME, "A", ip)
    status = named.wait(lambda status: is_true(status, "Ready"), 120)
    assert status["endpoint"] == f"https://{NAME}"
    caller = Caller(authority, ip, "a-token-1815")
    caller.wait("zero")
    first = caller.certificate()
    (job,) = [row["name"] for row in json.loads(localcloud("ls", "--output", "json")) if row["kind"] == "job"]

    for _ in range(PREEMPTIONS):
        preempt(named, localcloud)
        localcloud("tick", job.rpartition("/")[2])
        caller.wait("zero")
    for word in ("one", "two", "three")[:ROLLOUTS]:
        wanted |= {"predictor": {"inline": PREDICTOR.format(word=word)}}
        named.apply(wanted)
        caller.wait(word)

    for image in (another_image(named), images.server_image()):
        stack.operator.stop()
        stack.start_operator(BUDGET_IMAGE=image)
        named.wait(lambda status, image=image: status.get("replacement", {}).get("image") == image, 120)
        caller.wait("three")

    delete_vm(named)
    caller.wait("three")

    named.apply(wanted | {"placement": {"zones": [OTHER_ZONE]}})
    move(named, localcloud)
    caller.wait("three")

    assert authority.orders() == 1
    assert caller.certificate().serial_number == first.serial_number
    assert named.status()["ip"] == ip


def zones(deployment: Any) -> list[str]:
    return [each["zone"].rpartition("/")[2] for each in deployment.instances()]


def preempt(deployment: Any, localcloud: Callable[..., str]) -> None:
    """Until the VM is off."""
    before = deployment.instance()
    localcloud("preempt", before["name"])

    def gone() -> bool:
        seen = deployment.instances()
        return [each.get("lastStopTimestamp") for each in seen] != [before.get("lastStopTimestamp")]

    until(gone, 120, "the VM was not taken away")


def delete_vm(deployment: Any) -> None:
    """By hand, and until there is another one."""
    vm = deployment.instance()
    url = url_of(deployment.stack, FIRST_ZONE, vm["name"])
    plain.delete(url, timeout=30, trust_env=False).raise_for_status()
    until(lambda: [each["id"] for each in deployment.instances()] not in ([], [vm["id"]]), 120, "no new VM")


def move(deployment: Any, localcloud: Callable[..., str]) -> None:
    """To the other zone, as the one where it is has no machines."""
    localcloud("stock-out", FIRST_ZONE)
    try:
        preempt(deployment, localcloud)
        until(lambda: zones(deployment) == [OTHER_ZONE], 180, "the VM was not moved")
    finally:
        localcloud("stock-out", FIRST_ZONE, "--over")


def another_image(deployment: Any) -> str:
    """The image that its VM runs, pushed under a name of its own and with another content."""
    stack, name = deployment.stack, f"{images.server_image().rpartition(':')[0]}:certificates-test"
    made = f"docker commit --change 'LABEL budget.test=other' budgetml {name} && docker push --quiet {name}"
    vm = f"{stack.home.network}.{deployment.instance()['name']}"
    stack.docker("exec", vm, "sh", "-c", f"{made} && docker image rm {name}")
    return name


def url_of(stack: Stack, zone: str, name: str) -> str:
    path = f"compute/v1/projects/{environment.PROJECT}/zones/{zone}/instances/{name}"
    return f"{stack.home.cloud_url}/{path}"


def test_another_mode_reaches_what_serves(
    deploy: Callable[[str], Any], authority: Authority, localcloud: Callable[..., str]
) -> None:
    modes = deploy("modes")
    login = {"username": "ada", "password": "lovelace-1815", "token": "a-token-1815"}
    modes.apply_secret("modes-own-login", login)
    wanted = {
        "predictor": {"inline": PREDICTOR.format(word="still")},
        "auth": {"secretName": "modes-own-login"},
    }

    def change(tls: dict[str, str], endpoint: str) -> None:
        modes.apply(wanted | {"endpoint": {"tls": tls}})
        reached = modes.wait(lambda each: is_true(each, "Ready") and each["endpoint"] == endpoint, 120)
        revisions.add(reached["revision"]["active"])
        vms.add((modes.instance()["id"], modes.instance()["lastStartTimestamp"]))

    revisions: set[str] = set()
    vms: set[tuple[str, str]] = set()
    modes.apply(wanted)
    ip = modes.wait(lambda each: bool(each.get("ip")))["ip"]
    change({"mode": "Internal"}, f"https://{ip}")
    with modes.client(login["token"]) as client:
        assert client.post("/predict_dict", json={"payload": {}}).json() == {"word": "still"}

    change({"mode": "Off"}, f"http://{ip}")
    answer = plain.post(
        f"http://{ip}/predict_dict",
        json={"payload": {}},
        headers={"Authorization": f"Bearer {login['token']}"},
        trust_env=False,
    )
    assert answer.json() == {"word": "still"}
    with pytest.raises(OSError), socket.create_connection((ip, 443), timeout=5):
        pass

    shared = f"{ip.replace('.', '-')}.sslip.io"
    authority.learn(ip, shared)
    change(acme(authority), f"https://{shared}")
    Caller(authority, ip, login["token"], shared).wait("still")

    change({"mode": "Internal"}, f"https://{ip}")
    assert (len(revisions), len(vms)) == (1, 1)
    load_lines = modes.console().count("serves\n")
    assert load_lines == 1, modes.console()
    modes.stack.kubectl("delete", "secret", "modes-own-login", "--namespace=default")
