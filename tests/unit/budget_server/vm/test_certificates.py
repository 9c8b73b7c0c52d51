"""Certificates of a whole process 1: real Caddy on both sides, a real DNS server, orders counted at the CA.

The authority validates on ports 80 and 443 of a loopback address of its own; what listens there forwards to
the VM, as Google's network does.
"""

import base64
import contextlib
import json
import shutil
import socket
import socketserver
import ssl
import subprocess
import sysconfig
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from budget_server.vm.certificates_rules import Subject
from budget_server.vm.certificates_store import certificate_path
from localcloud.ports import free_port

IP, CA_IP, DNS_IP, OTHER_IP = "127.77.0.10", "127.77.0.2", "127.77.0.3", "127.77.0.11"
NAME = "model.test"
SHARED = "127-77-0-10.sslip.io"
COPY = "state/budget-demo/certificates.sealed"
R = ("a" * 12, "b" * 12, "c" * 12, "d" * 12)
#: As no pause of ours.
RETRY_AFTER = "5400"
PROFILES = {"shortlived": "six days"}


class NameServer(socketserver.ThreadingUDPServer):
    """Answers from a dict; a name in `aliases` is a CNAME."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self) -> None:
        self.records: dict[tuple[str, str], list[str]] = {}
        self.aliases: dict[str, str] = {}
        super().__init__((DNS_IP, 53), NameHandler)


class NameHandler(socketserver.BaseRequestHandler):
    server: NameServer

    def handle(self) -> None:
        data, reply_to = self.request
        query = dns.message.from_wire(data)
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True).lower()
        answer = dns.message.make_response(query)
        answer.flags |= dns.flags.RA
        if target := self.server.aliases.get(name):
            answer.answer.append(dns.rrset.from_text(question.name, 1, "IN", "CNAME", f"{target}."))
            name = target
        kind = "AAAA" if question.rdtype == 28 else "A"
        known = any(name == each for each, _ in self.server.records)
        if not known:
            answer.set_rcode(dns.rcode.NXDOMAIN)
        values = self.server.records.get((name, kind)) if question.rdtype in (1, 28) else None
        if values:
            answer.answer.append(dns.rrset.from_text(f"{name}.", 1, "IN", kind, *values))
        reply_to.sendto(answer.to_wire(), self.client_address)


class Forwarder(socketserver.ThreadingTCPServer):
    """A port of the public address; somebody else answers there while `target` is None."""

    daemon_threads = True
    allow_reuse_address = True
    target: int | None = None

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Whoever hung up."""


class ForwardHandler(socketserver.BaseRequestHandler):
    server: Forwarder

    def handle(self) -> None:
        if self.server.target is None:
            self.request.recv(4096)
            self.request.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nother")
            return
        with socket.create_connection(("127.0.0.1", self.server.target), timeout=10) as inner:
            inner.settimeout(None)
            back = threading.Thread(target=pump, args=(inner, self.request), daemon=True)
            back.start()
            pump(self.request, inner)
            back.join(10)


def pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


@dataclass
class Authority:
    """A recording proxy before Caddy's `acme_server`; it can limit orders of some names."""

    pem: str = ""
    inner: int = 0
    port: int = 0
    root: str = ""
    #: Names of the orders that were asked for.
    orders: list[tuple[str, ...]] = field(default_factory=list)
    accounts: list[dict[str, Any]] = field(default_factory=list)
    profiles: list[str] = field(default_factory=list)
    limited: set[str] = field(default_factory=set)
    away: bool = False

    @property
    def directory(self) -> str:
        return f"https://{CA_IP}:{self.port}/acme/local/directory"

    def trusted(self) -> ssl.SSLContext:
        return ssl.create_default_context(cadata=self.root)


def proxy_handler(authority: Authority) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            """Quiet."""

        def answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
            self.send_response(status)
            for name, value in headers:
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if authority.away:
                return self.answer(503, [], b"away")
            if self.path.endswith("/new-order"):
                wanted = payload(body)
                names = tuple(each["value"] for each in wanted["identifiers"])
                authority.orders.append(names)
                authority.profiles.append(wanted.get("profile", ""))
                if authority.limited & set(names):
                    problem = {
                        "type": "urn:ietf:params:acme:error:rateLimited",
                        "detail": "too many",
                        "status": 429,
                    }
                    headers = [("Content-Type", "application/problem+json"), ("Retry-After", RETRY_AFTER)]
                    return self.answer(429, headers, json.dumps(problem).encode())
            if self.path.endswith("/new-account"):
                authority.accounts.append(payload(body))
            return self.forward(body)

        def do_GET(self) -> None:
            if authority.away:
                return self.answer(503, [], b"away")
            return self.forward(b"")

        def do_HEAD(self) -> None:
            self.do_GET()

        def forward(self, body: bytes) -> None:
            kept = {"host", "content-type", "user-agent"}
            headers = {name: value for name, value in self.headers.items() if name.lower() in kept}
            url = f"http://{CA_IP}:{authority.inner}{self.path}"
            got = httpx.request(self.command, url, headers=headers, content=body, timeout=60)
            content = got.content
            if "/authz/" in self.path:
                content = judged(got.json())
            if self.path.endswith("/directory"):
                content = json.dumps(got.json() | {"meta": {"profiles": PROFILES}}).encode()
            passed = {"content-type", "location", "replay-nonce", "link", "retry-after"}
            self.answer(
                got.status_code, [each for each in got.headers.multi_items() if each[0] in passed], content
            )

    return Handler


def judged(authorization: dict[str, Any]) -> bytes:
    """As other authorities have it: what was not proved at once is not waited for."""
    if any(each.get("error") for each in authorization.get("challenges", ())):
        authorization["status"] = "invalid"
    return json.dumps(authorization).encode()


def payload(body: bytes) -> dict[str, Any]:
    text = json.loads(body)["payload"]
    return dict(json.loads(base64.urlsafe_b64decode(text + "==")))


class Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was reconfigured leaves broken connections behind."""


def own_certificate(place: Path) -> str:
    """For the proxy itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "directory")])
    now = datetime.now(UTC)
    built = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(CA_IP))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, SHA256())
    )
    pem = built.public_bytes(Encoding.PEM)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (place / "proxy.pem").write_bytes(pem + private)
    return pem.decode()


def acme_server(place: Path, port: int, outside: str) -> dict[str, Any]:
    acme = {"handler": "acme_server", "ca": "local", "host": outside}
    server = {
        "listen": [f"{CA_IP}:{port}"],
        "automatic_https": {"disable": True},
        "routes": [{"handle": [acme]}],
    }
    return {
        "admin": {"disabled": True},
        "storage": {"module": "file_system", "root": str(place / "data")},
        "apps": {
            "pki": {"certificate_authorities": {"local": {"install_trust": False}}},
            "http": {"servers": {"acme": server}},
        },
    }


@contextlib.contextmanager
def served(server: socketserver.BaseServer) -> Iterator[None]:
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def names() -> Iterator[NameServer]:
    server = NameServer()
    with served(server):
        yield server


@pytest.fixture
def authority(names: NameServer, until: Callable[..., Any]) -> Iterator[Authority]:
    place = Path(tempfile.mkdtemp(prefix="ca-", dir="/tmp"))
    ca = Authority(pem=own_certificate(place), inner=free_port(CA_IP), port=free_port(CA_IP))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(place / "proxy.pem")
    proxy = Quiet((CA_IP, ca.port), proxy_handler(ca))
    proxy.socket = context.wrap_socket(proxy.socket, server_side=True, do_handshake_on_connect=False)
    (place / "caddy.json").write_text(json.dumps(acme_server(place, ca.inner, f"{CA_IP}:{ca.port}")))
    (place / "resolv.conf").write_text(f"nameserver {DNS_IP}\noptions timeout:1 attempts:1\n")
    # the authority resolves by its machine's resolver, which is another one here
    own = f'mount --bind {place}/resolv.conf /etc/resolv.conf && exec "$@"'
    caddy = str(Path(sysconfig.get_path("scripts"), "caddy"))
    log = (place / "log").open("wb")
    process = subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", own, "sh", caddy, "run", "--config", str(place / "caddy.json")],
        env={"HOME": str(place), "PATH": "/usr/bin:/bin:/usr/sbin:/sbin"},
        stdout=log,
        stderr=subprocess.STDOUT,
    )
    try:
        root = place / "data/pki/authorities/local/root.crt"
        until(root.exists, 20, (place / "log").read_text)
        ca.root = root.read_text()
        with served(proxy):
            yield ca
    finally:
        process.terminate()
        process.wait(10)
        log.close()
        shutil.rmtree(place, ignore_errors=True)


@dataclass
class Public:
    """The VM's public address."""

    http: Forwarder
    https: Forwarder


@pytest.fixture
def public(vm: Any) -> Iterator[Public]:
    with Forwarder((IP, 80), ForwardHandler) as http, Forwarder((IP, 443), ForwardHandler) as https:
        http.target, https.target = vm.http, vm.https
        with served(http), served(https):
            yield Public(http, https)


@pytest.fixture
def machine(vm: Any, world: Any, public: Public, names: NameServer, authority: Authority) -> "Machine":
    world.external_ip = IP
    vm.environ["BUDGET_RESOLVER"] = f"{DNS_IP}:53"
    return Machine(vm, world, public, names, authority)


@dataclass
class Machine:
    vm: Any
    world: Any
    public: Public
    names: NameServer
    authority: Authority

    def tls(self, **changes: str) -> dict[str, str]:
        tls = {"mode": "Acme", "host": NAME, "email": "", "directory": self.authority.directory}
        return tls | {"caBundle": self.authority.pem} | changes

    def publish(self, code: dict[str, str], revision: str = R[0], **tls: str) -> None:
        self.world.publish(revision, code, tls=self.tls(**tls))

    @property
    def told(self) -> dict[str, Any]:
        return dict(json.loads(self.world.guest.get("certificate") or "{}"))

    def await_told(self, seconds: float = 40, **wanted: Any) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        while not wanted.items() <= self.told.items():
            assert time.monotonic() < deadline, f"told {self.told}, wanted {wanted}"
            time.sleep(0.05)
        return self.told

    def certificate(self, name: str | None = NAME, context: ssl.SSLContext | None = None) -> x509.Certificate:
        """What port 443 shows to whom trusts the authority."""
        if context is None:
            context = self.authority.trusted()
            context.check_hostname = name is not None
        with (
            socket.create_connection(("127.0.0.1", self.vm.https), timeout=10) as plain,
            context.wrap_socket(plain, server_hostname=name) as secure,
        ):
            return x509.load_der_x509_certificate(secure.getpeercert(binary_form=True) or b"")

    def get(self, path: str, verify: Any, name: str = NAME, host: str = NAME) -> httpx.Response:
        with httpx.Client(verify=verify) as client:
            request = client.build_request("GET", f"https://127.0.0.1:{self.vm.https}{path}")
            request.headers["Host"] = host
            request.extensions["sni_hostname"] = name
            return client.send(request)

    def reboot(self) -> None:
        self.vm.shut_down()
        self.world.guest.clear()
        self.world.states.clear()
        self.vm.boot()


def blind() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def resolve(names: NameServer, name: str = NAME, address: str = IP) -> None:
    names.records[(name, "A")] = [address]


def test_one_order_over_restarts_switches_a_lost_disk_and_another_address(
    machine: Machine, predictor: Callable[[str], dict[str, str]], until: Callable[..., Any]
) -> None:
    resolve(machine.names)
    machine.publish(predictor("one"), email="ada@models.test")
    machine.vm.boot()
    told = machine.await_told(state="Valid", reason="Issued", name=NAME)
    assert told["orders"] == 1
    assert told["notAfter"] > time.time()
    assert machine.authority.accounts[0]["contact"] == ["mailto:ada@models.test"]
    machine.world.await_state(phase="serving")
    serial = machine.certificate().serial_number
    until(lambda: "certificate" in machine.world.state["boot"])
    assert machine.world.guest["ca"] == ""
    for _ in range(6):
        machine.reboot()
        machine.await_told(state="Valid")
        assert machine.certificate().serial_number == serial
    machine.world.await_state(phase="serving")
    before = machine.vm.output.read_text().count("is ordered from")
    for revision in R[1:]:
        machine.publish(predictor(revision), revision, email="ada@models.test")
        machine.world.await_state(active=revision)
        assert machine.certificate().serial_number == serial
    machine.vm.shut_down()
    until(lambda: COPY in machine.world.objects)
    shutil.rmtree(machine.vm.disk)
    machine.world.guest.clear()
    machine.vm.boot()
    machine.await_told(state="Valid", orders=1)
    until(lambda: machine.certificate(NAME, blind()).serial_number == serial)
    machine.world.external_ip = OTHER_IP
    machine.reboot()
    machine.await_told(state="Valid")
    assert machine.certificate().serial_number == serial
    assert machine.authority.orders == [(NAME,)]
    assert len(machine.authority.accounts) == 1
    assert machine.vm.output.read_text().count("is ordered from") == before


def test_before_a_certificate_the_record_is_told_and_callers_are_answered(
    machine: Machine, predictor: Callable[[str], dict[str, str]]
) -> None:
    machine.publish(predictor("one"))
    machine.vm.boot()
    told = machine.await_told(state="Pending", reason="NameNotResolved", name=NAME)
    assert f"create an A record {NAME} -> {IP}" in told["message"]
    assert machine.get("/healthz/live", False).json() == {"status": "alive"}
    assert httpx.get(f"http://127.0.0.1:{machine.vm.http}/healthz/live").json() == {"status": "alive"}
    resolve(machine.names, address=OTHER_IP)
    told = machine.await_told(reason="WrongAddress")
    assert OTHER_IP in told["message"]
    assert machine.authority.orders == []
    machine.names.aliases[NAME] = "other.test"
    resolve(machine.names, "other.test")
    machine.await_told(state="Valid", orders=1)
    machine.world.await_state(phase="serving")
    # by bare address, without a server name or with a strange one, it is the domain's certificate
    for name in (None, "127.0.0.1", "strange.test"):
        names = machine.certificate(name, blind()).extensions.get_extension_for_class(
            x509.SubjectAlternativeName
        )
        assert names.value.get_values_for_type(x509.DNSName) == [NAME]
    assert machine.get("/healthz/ready", machine.authority.trusted(), host="strange.test").status_code == 200


def test_a_forgotten_aaaa_costs_no_order(
    machine: Machine, predictor: Callable[[str], dict[str, str]]
) -> None:
    resolve(machine.names)
    machine.names.records[(NAME, "AAAA")] = ["2001:db8::1"]
    machine.publish(predictor("one"))
    machine.vm.boot()
    told = machine.await_told(state="Pending", reason="ForeignAAAA")
    assert "2001:db8::1" in told["message"]
    assert "remove" in told["message"]
    assert machine.authority.orders == []
    del machine.names.records[(NAME, "AAAA")]
    machine.await_told(state="Valid", orders=1)
    assert len(machine.authority.orders) == 1


def test_a_rate_limit_is_kept_over_a_reboot_and_a_lost_disk(
    machine: Machine, predictor: Callable[[str], dict[str, str]], until: Callable[..., Any]
) -> None:
    resolve(machine.names)
    machine.authority.limited.add(NAME)
    machine.publish(predictor("one"))
    machine.vm.boot()
    told = machine.await_told(state="Waiting", reason="RateLimited")
    assert told["retryAt"] == pytest.approx(time.time() + int(RETRY_AFTER), abs=30)
    until(lambda: machine.world.objects.get(COPY))
    machine.reboot()
    assert machine.await_told(state="Waiting", reason="RateLimited")["retryAt"] == told["retryAt"]
    machine.vm.shut_down()
    shutil.rmtree(machine.vm.disk)
    machine.world.guest.clear()
    machine.vm.boot()
    assert machine.await_told(state="Waiting", reason="RateLimited")["retryAt"] == told["retryAt"]
    # longer than Caddy waits before it tries again by itself
    time.sleep(70)
    assert machine.authority.orders == [(NAME,)]


def test_an_authority_out_of_reach_is_told_and_costs_no_order(
    machine: Machine, predictor: Callable[[str], dict[str, str]]
) -> None:
    resolve(machine.names)
    machine.authority.away = True
    machine.publish(predictor("one"))
    machine.vm.boot()
    told = machine.await_told(60, state="Waiting", reason="DirectoryUnreachable")
    assert told["orders"] == 0
    assert 0 < told["retryAt"] - time.time() <= 61
    machine.authority.away = False
    # whoever changes the settings need not wait
    machine.publish(predictor("one"), email="ada@models.test")
    machine.await_told(state="Valid", orders=1)
    assert len(machine.authority.orders) == 1


@pytest.mark.parametrize("closed", ["http", "https"])
def test_one_way_to_prove_the_name_is_enough_and_each_failure_costs_one_order(
    machine: Machine, predictor: Callable[[str], dict[str, str]], closed: str
) -> None:
    getattr(machine.public, closed).target = None
    resolve(machine.names)
    machine.publish(predictor("one"))
    machine.vm.boot()
    if closed == "https":
        machine.await_told(state="Valid", orders=1)
        return
    told = machine.await_told(state="Waiting", reason="OrderFailed")
    assert told["orders"] == len(machine.authority.orders) == 1
    machine.await_told(90, state="Valid", orders=2)
    assert len(machine.authority.orders) == 2


def test_a_renewal_comes_in_time_while_the_old_one_serves(
    machine: Machine, predictor: Callable[[str], dict[str, str]], until: Callable[..., Any]
) -> None:
    """It was issued for 120 minutes, 70 minutes ago."""
    old = seed(machine, NAME, timedelta(minutes=70), timedelta(minutes=50))
    resolve(machine.names)
    machine.names.records[(NAME, "AAAA")] = ["2001:db8::1"]
    machine.publish(predictor("one"))
    machine.vm.boot()
    until(lambda: "AAAA" in machine.told.get("message", ""), 30)
    assert (machine.told["state"], machine.told["reason"]) == ("Valid", "Issued")
    assert machine.certificate(NAME, blind()).serial_number == old
    assert machine.authority.orders == []
    del machine.names.records[(NAME, "AAAA")]
    machine.await_told(state="Valid", orders=1, message="")
    assert machine.certificate().serial_number != old
    assert machine.authority.orders == [(NAME,)]


def test_a_certificate_in_its_prime_is_not_renewed(
    machine: Machine, predictor: Callable[[str], dict[str, str]]
) -> None:
    old = seed(machine, NAME, timedelta(minutes=50), timedelta(minutes=70))
    resolve(machine.names)
    machine.publish(predictor("one"))
    machine.vm.boot()
    machine.await_told(state="Valid", message="", orders=0)
    machine.world.await_state(phase="serving")
    assert machine.certificate(NAME, blind()).serial_number == old
    assert machine.authority.orders == []


def seed(machine: Machine, name: str, age: timedelta, left: timedelta) -> int:
    """Put a certificate on the disk; its serial number."""
    now = datetime.now(UTC)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    built = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - age)
        .not_valid_after(now + left)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, SHA256())
    )
    folder = machine.vm.disk / "certificates"
    folder.mkdir(parents=True)
    pem = built.public_bytes(Encoding.PEM) + key.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    certificate_path(folder, Subject(name, machine.authority.directory)).write_bytes(pem)
    return built.serial_number


def test_modes_change_while_the_model_serves(
    machine: Machine, predictor: Callable[[str], dict[str, str]], until: Callable[..., Any]
) -> None:
    resolve(machine.names)
    machine.publish(predictor("one"), mode="Internal")
    machine.vm.boot()
    machine.world.await_state(phase="serving")
    until(lambda: machine.world.guest.get("ca"))
    root = machine.world.guest["ca"]
    model = machine.vm.children("gunicorn")
    assert machine.get("/healthz/ready", ssl.create_default_context(cadata=root), IP, IP).status_code == 200
    machine.publish(predictor("one"))
    machine.await_told(state="Valid", mode="Acme", orders=1)
    assert machine.get("/healthz/ready", machine.authority.trusted()).status_code == 200
    machine.publish(predictor("one"), mode="Off")
    machine.await_told(mode="Off")
    assert httpx.get(f"http://127.0.0.1:{machine.vm.http}/healthz/ready").status_code == 200
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", machine.vm.https), timeout=5)
    machine.publish(predictor("one"))
    machine.await_told(state="Valid", mode="Acme")
    assert machine.get("/healthz/ready", machine.authority.trusted()).status_code == 200
    assert machine.vm.children("gunicorn") == model
    assert len(machine.authority.orders) == 1


def test_without_a_host_the_address_is_named_and_a_limit_of_the_shared_name_gone_around(
    machine: Machine, predictor: Callable[[str], dict[str, str]]
) -> None:
    resolve(machine.names, SHARED)
    machine.publish(predictor("one"), host="")
    machine.vm.boot()
    machine.await_told(state="Valid", name=SHARED, orders=1)
    machine.vm.shut_down()
    shutil.rmtree(machine.vm.disk)
    machine.world.objects.clear()
    machine.world.guest.clear()
    machine.authority.limited.add(SHARED)
    machine.publish(predictor("one"), host="")
    machine.vm.boot()
    machine.await_told(60, state="Valid", name=IP, orders=2)
    assert machine.authority.orders == [(SHARED,), (SHARED,), (IP,)]
    assert machine.authority.profiles[-1] == "shortlived"
    names = machine.certificate(None).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.IPAddress) == [ip_address(IP)]


def test_a_copy_that_does_not_open_is_ignored(
    machine: Machine, predictor: Callable[[str], dict[str, str]]
) -> None:
    resolve(machine.names)
    machine.publish(predictor("one"))
    machine.world.objects[COPY] = bytes(200)
    machine.vm.boot()
    machine.await_told(state="Valid", orders=1)
    assert "is ignored: it does not open" in machine.vm.output.read_text()


def test_a_bucket_out_of_reach_holds_up_no_serving_and_gets_its_copy_later(
    machine: Machine, predictor: Callable[[str], dict[str, str]], until: Callable[..., Any]
) -> None:
    resolve(machine.names)
    machine.publish(predictor("one"))
    machine.world.state_closed = True
    machine.vm.boot()
    machine.world.await_state(phase="serving")
    assert machine.get("/healthz/ready", False).status_code == 200
    machine.await_told(state="Pending")
    assert machine.authority.orders == []
    machine.world.state_closed = False
    machine.await_told(state="Valid", orders=1)
    until(lambda: COPY in machine.world.objects)
    until((machine.vm.disk / "certificates/copied").exists)
    # what an earlier boot could not bring there
    machine.vm.shut_down()
    machine.world.objects.pop(COPY)
    (machine.vm.disk / "certificates/copied").unlink()
    machine.vm.boot()
    until(lambda: COPY in machine.world.objects)
    machine.reboot()
    machine.await_told(state="Valid", orders=1)
    assert b"PRIVATE" not in machine.world.objects[COPY]
