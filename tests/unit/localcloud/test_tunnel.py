"""The proxy to the VMs: real sockets on loopback, whose addresses stand for those of VMs."""

import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from localcloud.names import Names
from localcloud.store import Store
from localcloud.tunnel import Refused, Tunnel, target

VMS = IPv4Network("127.77.0.0/24")
VM = "127.77.0.10"


@pytest.fixture
def names(tmp_path: Path) -> Names:
    return Names(Store(tmp_path / "store.db"))


@pytest.fixture
def tunnel(names: Names) -> Iterator[Tunnel]:
    made = Tunnel(("127.0.0.1", 0), names, VMS)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def vm() -> Iterator[socket.socket]:
    with socket.create_server((VM, 0)) as listening:
        listening.settimeout(10)
        yield listening


def port_of(listening: socket.socket) -> int:
    return int(listening.getsockname()[1])


def ask(tunnel: Tunnel, text: str) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", tunnel.port), timeout=10)
    client.sendall(text.encode())
    return client


def read_all(end: socket.socket) -> bytes:
    parts = []
    while part := end.recv(65_536):
        parts.append(part)
    return b"".join(parts)


def send_all(end: socket.socket, data: bytes) -> None:
    end.sendall(data)
    end.close()


def read_head(client: socket.socket) -> bytes:
    read = b""
    while not read.endswith(b"\r\n\r\n"):
        part = client.recv(1)
        assert part, read
        read += part
    return read


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("GET http://127.77.0.10/ HTTP/1.1\r\n", "405"),
        ("CONNECT 127.77.0.10 HTTP/1.1\r\n", "405"),
        ("CONNECT 127.0.0.1:80 HTTP/1.1\r\n", "403"),
        ("CONNECT 8.8.8.8:443 HTTP/1.1\r\n", "403"),
        ("CONNECT 127.77.0.10:0 HTTP/1.1\r\n", "403"),
        ("CONNECT 127.77.0.10:65536 HTTP/1.1\r\n", "403"),
        ("CONNECT nobody.example:443 HTTP/1.1\r\n", "403"),
        ("CONNECT 10-0-0-1.sslip.io:443 HTTP/1.1\r\n", "403"),
    ],
)
def test_it_leads_to_vms_only(names: Names, line: str, status: str) -> None:
    with pytest.raises(Refused) as refused:
        target(line.encode(), names, VMS)
    assert refused.value.status.startswith(status)


@pytest.mark.parametrize("name", [VM, "api.example.com", "127-77-0-10.sslip.io"])
def test_a_vm_is_known_by_its_address_and_its_names(names: Names, name: str) -> None:
    names.set("api.example.com", "A", [VM])
    assert target(f"CONNECT {name}:443 HTTP/1.1\r\n".encode(), names, VMS) == (VM, 443)


def test_bytes_pass_both_ways_and_each_end_by_itself(tunnel: Tunnel, vm: socket.socket) -> None:
    # what is sent before the answer belongs to the VM, too
    head = f"CONNECT {VM}:{port_of(vm)} HTTP/1.1\r\nHost: x\r\n\r\nearly "
    with closing(ask(tunnel, head)) as client:
        accepted, _ = vm.accept()
        with accepted:
            assert read_head(client).startswith(b"HTTP/1.1 200 ")
            client.sendall(b"question")
            client.shutdown(socket.SHUT_WR)
            assert read_all(accepted) == b"early question"
            answer = bytes(range(256)) * 10_000
            sender = threading.Thread(target=send_all, args=(accepted, answer))
            sender.start()
            assert read_all(client) == answer
            sender.join()


def test_a_vm_that_is_off_is_a_bad_gateway(tunnel: Tunnel, vm: socket.socket) -> None:
    port = port_of(vm)
    vm.close()
    with closing(ask(tunnel, f"CONNECT {VM}:{port} HTTP/1.1\r\n\r\n")) as client:
        answer = read_all(client).decode()
    assert answer.startswith("HTTP/1.1 502 ")
    assert f"{VM}:{port} does not answer" in answer


def test_a_head_without_end_is_refused(tunnel: Tunnel) -> None:
    with closing(ask(tunnel, "CONNECT " + "a" * 9000)) as client:
        assert read_all(client).startswith(b"HTTP/1.1 431 ")


def test_the_next_start_gets_the_same_port(names: Names, tunnel: Tunnel) -> None:
    port = tunnel.port
    ask(tunnel, "").close()
    tunnel.stop()
    again = Tunnel(("127.0.0.1", port), names, VMS)
    again.start()
    again.stop()
