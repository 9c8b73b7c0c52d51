"""The resolver of the VMs, on the UDP port beside the API: set names, sslip.io, and what the host knows.

A VM asks 169.254.169.254, as on Google; what runs there passes all but its neighbours' names on to this one.
Answers for set names are short-lived, so a changed record is seen at once.
"""

from __future__ import annotations

import logging
import re
import socket
import socketserver
import threading
from collections.abc import Callable, Iterable
from ipaddress import ip_address
from pathlib import Path

import dns.exception
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from localcloud.store import Store

TTL_SECONDS = 1
UPSTREAM_SECONDS = 2.0
_KIND = "localcloud.dns"
_SHARED = re.compile(r"(?:.*[.-])?(\d{1,3})-(\d{1,3})-(\d{1,3})-(\d{1,3})\.sslip\.io\.", re.IGNORECASE)
_LARGEST = 65_535

log = logging.getLogger("localcloud.names")


class Names:
    """The records that were set; they survive a restart."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def set(self, name: str, kind: str, values: Iterable[str]) -> None:
        """Replace the records of one name and type (A or AAAA); with no value the name has none of it."""
        try:
            dns.name.from_text(_absolute(name))
        except dns.exception.DNSException as error:
            raise ValueError(f"{name!r} is not a name: {error}") from error
        version = 4 if kind == "A" else 6
        texts = [str(ip_address(value)) for value in values]
        for text in texts:
            if ip_address(text).version != version:
                raise ValueError(f"{text} is not an address for a record of type {kind}")
        self._store.put(_KIND, f"{_absolute(name)} {kind}", {"values": texts})

    def unset(self, name: str) -> bool:
        """Forget a name; true if it was known."""
        keys = [f"{_absolute(name)} {kind}" for kind in ("A", "AAAA")]
        known = [self._store.delete(_KIND, key) for key in keys]
        return any(known)

    def values(self, name: str, kind: str) -> list[str] | None:
        """What a name leads to; None: not known here."""
        name = _absolute(name)
        known = {other: self._store.get(_KIND, f"{name} {other}") for other in ("A", "AAAA")}
        if any(known.values()):
            found = known.get(kind)
            return list(found["values"]) if found else []
        shared = _SHARED.fullmatch(name)
        if shared is None:
            return None
        return [".".join(shared.groups())] if kind == "A" else []


def _absolute(name: str) -> str:
    return f"{name.lower().rstrip('.')}."


def answer(query: bytes, names: Names, ask_host: Callable[[bytes], bytes | None]) -> bytes | None:
    """The datagram that answers this one; None where it is no question."""
    try:
        asked = dns.message.from_wire(query)
        question = asked.question[0]
    except (dns.exception.DNSException, IndexError):
        return None
    kind = dns.rdatatype.to_text(question.rdtype)
    values = names.values(question.name.to_text(), kind)
    if values is None:
        return ask_host(query) or _failed(asked)
    reply = dns.message.make_response(asked, recursion_available=True)
    if values:
        reply.answer.append(
            dns.rrset.from_text_list(question.name, TTL_SECONDS, dns.rdataclass.IN, question.rdtype, values)
        )
    return bytes(reply.to_wire())


def _failed(asked: dns.message.Message) -> bytes:
    reply = dns.message.make_response(asked, recursion_available=True)
    reply.set_rcode(dns.rcode.SERVFAIL)
    return bytes(reply.to_wire())


def host_resolver(path: Path = Path("/etc/resolv.conf")) -> Callable[[bytes], bytes | None]:
    """Passes datagrams on to the first resolver of this machine."""

    def ask(query: bytes) -> bytes | None:
        found = re.search(r"^nameserver\s+([0-9.]+)", path.read_text() if path.exists() else "", re.MULTILINE)
        if found is None:
            return None
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as upstream:
            upstream.settimeout(UPSTREAM_SECONDS)
            try:
                upstream.sendto(query, (found[1], 53))
                return upstream.recv(_LARGEST)
            except OSError:
                return None

    return ask


class Resolver:
    """`context.Background`: answers on UDP at one address, a thread for each question."""

    def __init__(
        self, address: tuple[str, int], names: Names, ask_host: Callable[[bytes], bytes | None]
    ) -> None:
        self._address = address
        self._names = names
        self._ask_host = ask_host
        self._server: socketserver.ThreadingUDPServer | None = None

    def start(self) -> None:
        names, ask_host = self._names, self._ask_host

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                query, back = self.request
                reply = answer(query, names, ask_host)
                if reply is not None:
                    back.sendto(reply, self.client_address)

        self._server = socketserver.ThreadingUDPServer(self._address, Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, name="resolver", daemon=True).start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
