"""A way to the VMs from machines that do not reach their addresses: an HTTP proxy on one port.

Docker Desktop keeps containers' addresses to itself, and so does a node of kind. One published port leads to
this proxy, and a client behind it (`curl --proxy … --proxytunnel`) speaks TLS with the VM itself, under the
VM's own address or name. Only CONNECT, and only to addresses of this cloud: it leads nowhere else.
"""

from __future__ import annotations

import re
import select
import socket
import socketserver
import threading
from ipaddress import AddressValueError, IPv4Address, IPv4Network

from localcloud.names import Names

CONNECT_SECONDS = 10.0
HEAD_SECONDS = 10.0
_HEAD_BYTES = 8192
_CHUNK = 65_536
_CONNECT = re.compile(rb"CONNECT ([A-Za-z0-9.-]{1,253}):(\d{1,5}) HTTP/1\.[01]\r\n")


class Refused(Exception):
    """What the client is told instead of a connection: an HTTP status with its words, and a sentence."""

    def __init__(self, status: str, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status

    def answer(self) -> bytes:
        """The whole response."""
        body = f"{self}\n".encode()
        head = f"HTTP/1.1 {self.status}\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n"
        return f"{head}Connection: close\r\n\r\n".encode() + body


def target(head: bytes, names: Names, subnet: IPv4Network) -> tuple[str, int]:
    """Address and port that a request's head asks for.

    Raises:
        Refused: it is no CONNECT, or leads to no address of this cloud.
    """
    asked = _CONNECT.match(head)
    if asked is None:
        raise Refused("405 Method Not Allowed", "This proxy only knows CONNECT: curl --proxytunnel")
    name, port = asked[1].decode(), int(asked[2])
    address = _address(name, names)
    if address is None or address not in subnet or not 0 < port < 65_536:
        raise Refused(
            "403 Forbidden", f"{name}:{port} is no VM of this cloud: they have addresses in {subnet}"
        )
    return str(address), port


def _address(name: str, names: Names) -> IPv4Address | None:
    try:
        return IPv4Address(name)
    except AddressValueError:
        known = names.values(name, "A")
        return IPv4Address(known[0]) if known else None


class Tunnel:
    """`context.Background`: listens at one address, a thread for each connection."""

    def __init__(self, address: tuple[str, int], names: Names, subnet: IPv4Network) -> None:
        self._address = address
        self._names = names
        self._subnet = subnet
        self._server: socketserver.ThreadingTCPServer | None = None

    @property
    def port(self) -> int:
        """Where it listens."""
        assert self._server is not None
        return int(self._server.server_address[1])

    def start(self) -> None:
        names, subnet = self._names, self._subnet

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                _serve(self.request, names, subnet)

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True
            block_on_close = False  # a tunnel may be open for ever

        self._server = Server(self._address, Handler)
        threading.Thread(target=self._server.serve_forever, name="tunnel", daemon=True).start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()


def _serve(client: socket.socket, names: Names, subnet: IPv4Network) -> None:
    try:
        client.settimeout(HEAD_SECONDS)
        head, early = _read_head(client)
        vm = _connect(*target(head, names, subnet))
    except Refused as refused:
        client.sendall(refused.answer())
        return
    except OSError:  # the client has gone, or says nothing
        return
    with vm:
        client.settimeout(None)
        client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        vm.sendall(early)
        _carry(client, vm)


def _read_head(client: socket.socket) -> tuple[bytes, bytes]:
    """The request up to its empty line, and what was sent after it without waiting."""
    read = b""
    while b"\r\n\r\n" not in read:
        part = client.recv(_CHUNK)
        if not part:
            raise ConnectionError
        read += part
        if len(read) > _HEAD_BYTES:
            raise Refused("431 Request Header Fields Too Large", "The request's head is too long")
    head, _, early = read.partition(b"\r\n\r\n")
    return head + b"\r\n", early


def _connect(address: str, port: int) -> socket.socket:
    try:
        vm = socket.create_connection((address, port), timeout=CONNECT_SECONDS)
    except OSError as error:
        raise Refused("502 Bad Gateway", f"{address}:{port} does not answer: {error}") from error
    vm.settimeout(None)
    return vm


def _carry(client: socket.socket, vm: socket.socket) -> None:
    """Both ways, until both have ended or one of them broke off."""
    other = {client: vm, vm: client}
    open_ends = [client, vm]
    try:
        while open_ends:
            for end in select.select(open_ends, [], [])[0]:
                part = end.recv(_CHUNK)
                if part:
                    other[end].sendall(part)
                else:
                    open_ends.remove(end)
                    other[end].shutdown(socket.SHUT_WR)
    except OSError:
        return
