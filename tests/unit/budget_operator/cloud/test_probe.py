"""Probes against real sockets: what they prove, and what they say when they fail."""

import datetime
import ipaddress
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from budget_operator.cloud import doors
from budget_operator.cloud.probe import HttpProber
from budget_operator.core.gateways import Door
from localcloud.ports import free_port

PROBER = HttpProber()
NOW = datetime.datetime.now(datetime.UTC)


def door(url: str, ca: str = "") -> Door:
    """An endpoint under its address, or under a name that leads to this machine."""
    host = httpx.URL(url).host
    return Door(url, host if host.replace(".", "").isdigit() else "127.0.0.1", ca, public=not ca)


def authority(tmp_path: Path, host: str = "127.0.0.1", name: str = "") -> tuple[str, Path]:
    """A self-signed authority that is also the server's certificate; PEM and key file."""
    signed = x509.DNSName(name) if name else x509.IPAddress(ipaddress.ip_address(host))
    key = ec.generate_private_key(ec.SECP256R1())
    root = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "root")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(root)
        .issuer_name(root)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - datetime.timedelta(hours=1))
        .not_valid_after(NOW + datetime.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([signed]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM).decode()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    both = tmp_path / f"{host}.pem"
    both.write_text(pem + private)
    return pem, both


class Server:
    def __init__(self, key_file: Path | None = None) -> None:
        self.seen: list[tuple[str, str, dict[str, str], bytes]] = []
        self.status = 200
        self.body: bytes = b'{"status":"ready","revision":"abc123"}'
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                request = (self.command, self.path, dict(self.headers), self.rfile.read(length))
                server.seen.append(request)
                self.send_response(server.status)
                self.send_header("Content-Length", str(len(server.body)))
                self.end_headers()
                self.wfile.write(server.body)

            do_GET = do_POST = answer  # noqa: N815

            def log_message(self, *args: object) -> None:
                return

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if key_file is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(key_file)
            self.http.socket = context.wrap_socket(self.http.socket, server_side=True)
        self.url = f"{'https' if key_file else 'http'}://127.0.0.1:{self.http.server_address[1]}"
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()


@pytest.fixture
def plain() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[tuple[Server, str]]:
    pem, file = authority(tmp_path)
    server = Server(file)
    yield server, pem
    server.close()


def test_ready_over_a_private_authority(secure: tuple[Server, str]) -> None:
    server, pem = secure
    probe = PROBER.ready(door(server.url, pem))
    assert (probe.ok, probe.certificate_ok, probe.revision) == (True, True, "abc123")
    assert server.seen[0][:2] == ("GET", "/healthz/ready")


@pytest.mark.parametrize("ca", ["", "another"])
def test_an_authority_that_is_not_trusted(secure: tuple[Server, str], tmp_path: Path, ca: str) -> None:
    server, _ = secure
    other = authority(tmp_path, "127.0.0.2")[0] if ca else ""
    probe = PROBER.ready(door(server.url, other))
    assert not probe.ok
    assert not probe.certificate_ok
    assert "the certificate is not valid" in probe.message
    assert server.seen == []


def test_the_settings_of_a_connection_that_grew_old_are_used_again(
    secure: tuple[Server, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    handshakes: list[ssl.SSLContext] = []
    context_for, wrap = doors._context, ssl.SSLContext.wrap_socket

    def counted(ca: str, *, public: bool) -> ssl.SSLContext:
        made.append(ca)
        return context_for(ca, public=public)

    def wrapped(context: ssl.SSLContext, *args: Any, **keywords: Any) -> ssl.SSLSocket:
        handshakes.append(context)
        return wrap(context, *args, **keywords)

    server, pem = secure
    kept = HttpProber()
    monkeypatch.setattr(doors, "_context", counted)
    assert kept.ready(door(server.url, pem)).ok
    monkeypatch.setattr(ssl.SSLContext, "wrap_socket", wrapped)
    monkeypatch.setattr(doors, "_OLDEST", 0.0)
    for _ in range(2):
        assert kept.ready(door(server.url, pem)).ok
    assert len(made) == 1
    ours = [context for context in handshakes if context.protocol is ssl.PROTOCOL_TLS_CLIENT]
    assert len(ours) == 2, "the certificate is looked at again"


def test_a_certificate_for_another_address(tmp_path: Path) -> None:
    pem, file = authority(tmp_path, "127.0.0.3")
    server = Server(file)
    try:
        assert (
            "the certificate is not valid: IP address mismatch" in PROBER.ready(door(server.url, pem)).message
        )
    finally:
        server.close()


def test_an_authority_that_is_none() -> None:
    pem = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
    probe = PROBER.ready(door("https://127.0.0.1:1", pem))
    assert "not readable" in probe.message


def test_predict_sends_the_token_and_the_payload(plain: Server) -> None:
    probe = PROBER.predict(door(plain.url), "t0ken", {"text": "hi"})
    assert probe.ok
    assert probe.revision is None, "what a model answers is no statement about the revision"
    method, path, headers, body = plain.seen[0]
    assert (method, path, headers["Authorization"]) == ("POST", "/predict_dict", "Bearer t0ken")
    assert json.loads(body) == {"payload": {"text": "hi"}}
    assert not probe.certificate_ok


def test_a_status_is_quoted(plain: Server) -> None:
    plain.status, plain.body = 503, b"loading \x1b[31m" + b"x" * 1000
    probe = PROBER.ready(door(plain.url, ""))
    assert not probe.ok
    assert probe.message.startswith("GET /healthz/ready: status 503: loading [31mxxx")
    assert len(probe.message) < 260


def test_what_a_model_says_is_not_repeated(plain: Server) -> None:
    plain.status, plain.body = 502, b'{"code":"Refused","detail":"upstream refused s3cret"}'
    probe = PROBER.predict(door(plain.url), "t0ken", {"text": "hi"})
    assert not probe.ok
    assert probe.message == "POST /predict_dict: status 502; what it says is not repeated here"


def test_a_redirect_is_no_success(plain: Server) -> None:
    plain.status = 302
    assert not PROBER.ready(door(plain.url, "")).ok


def test_a_flood_is_cut(plain: Server) -> None:
    plain.body = b"[" * (8 * 1024 * 1024)
    probe = PROBER.ready(door(plain.url, ""))
    assert (probe.ok, probe.revision) == (True, None)


def test_proxies_of_the_environment_are_not_used(plain: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    assert PROBER.ready(door(plain.url, "")).ok


def test_refused() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    assert PROBER.ready(door(url, "")).message == "GET /healthz/ready: connection refused"


def test_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("budget_operator.cloud.probe._READY_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        probe = PROBER.ready(door(f"http://127.0.0.1:{silent.getsockname()[1]}", ""))
    assert probe.message.startswith("GET /healthz/ready: no answer within")


@pytest.mark.parametrize("public", [False, True])
def test_a_name_is_asked_for_at_the_known_address(tmp_path: Path, public: bool) -> None:
    pem, file = authority(tmp_path, name="model.test")
    server = Server(file)
    port = server.url.rpartition(":")[2]
    try:
        probe = PROBER.ready(Door(f"https://model.test:{port}", "127.0.0.1", pem, public))
        other = PROBER.ready(Door(f"https://other.test:{port}", "127.0.0.1", pem, public))
    finally:
        server.close()
    assert (probe.ok, probe.certificate_ok) == (True, True)
    assert server.seen[0][2]["Host"] == f"model.test:{port}"
    assert "Hostname mismatch" in other.message


@pytest.mark.parametrize("body", [b"", b"[]", b'{"revision":1}', b"\xff\xfe"])
def test_an_answer_without_a_revision(plain: Server, body: Any) -> None:
    plain.body = body
    assert PROBER.ready(door(plain.url, "")).revision is None
