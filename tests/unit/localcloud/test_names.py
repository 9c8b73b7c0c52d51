"""Names that VMs see: asked over real datagrams with dnspython's own client."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import dns.flags
import dns.message
import dns.query
import dns.rcode
import pytest

from localcloud.names import Names, Resolver, answer
from localcloud.ports import free_port
from localcloud.store import Store


@pytest.fixture
def names(tmp_path: Path) -> Names:
    return Names(Store(tmp_path / "store.db"))


def host(query: bytes) -> bytes | None:
    """A host that knows one name."""
    asked = dns.message.from_wire(query)
    if asked.question[0].name.to_text() != "known.org.":
        return None
    reply = dns.message.make_response(asked)
    reply.answer.append(dns.rrset.from_text(asked.question[0].name, 60, "IN", "A", "192.0.2.1"))
    return bytes(reply.to_wire())


@pytest.fixture
def port(names: Names) -> Iterator[int]:
    free = free_port(kind=socket.SOCK_DGRAM)
    resolver = Resolver(("127.0.0.1", free), names, host)
    resolver.start()
    yield free
    resolver.stop()


def ask(port: int, name: str, kind: str = "A") -> tuple[str, list[str]]:
    reply = dns.query.udp(dns.message.make_query(name, kind), "127.0.0.1", timeout=5, port=port)
    values = [item.to_text() for rrset in reply.answer for item in rrset]
    return dns.rcode.to_text(reply.rcode()), values


def test_a_set_name_leads_where_it_was_set_to_and_nowhere_else(port: int, names: Names) -> None:
    names.set("Model.Test.", "A", ["10.0.0.7"])
    assert ask(port, "model.test") == ("NOERROR", ["10.0.0.7"])
    assert ask(port, "MODEL.test", "AAAA") == ("NOERROR", [])
    names.set("model.test", "AAAA", ["2001:db8::1"])
    assert ask(port, "model.test", "AAAA") == ("NOERROR", ["2001:db8::1"])
    names.set("model.test", "AAAA", [])
    assert ask(port, "model.test", "AAAA") == ("NOERROR", [])
    assert names.unset("model.test")
    assert not names.unset("model.test")
    assert ask(port, "model.test") == ("SERVFAIL", [])


def test_names_survive_a_restart(tmp_path: Path) -> None:
    Names(Store(tmp_path / "store.db")).set("model.test", "A", ["10.0.0.7"])
    assert Names(Store(tmp_path / "store.db")).values("model.test.", "A") == ["10.0.0.7"]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("10-202-50-10.sslip.io", ["10.202.50.10"]),
        ("www-10-202-50-10.sslip.io", ["10.202.50.10"]),
        ("a.10-202-50-10.sslip.io", ["10.202.50.10"]),
    ],
)
def test_the_shared_domain_leads_to_the_address_in_the_name(port: int, name: str, values: list[str]) -> None:
    assert ask(port, name) == ("NOERROR", values)
    assert ask(port, name, "AAAA") == ("NOERROR", [])


def test_what_is_not_known_here_is_the_hosts_to_answer(port: int) -> None:
    assert ask(port, "known.org") == ("NOERROR", ["192.0.2.1"])
    assert ask(port, "unknown.org") == ("SERVFAIL", [])


@pytest.mark.parametrize(("kind", "value"), [("A", "2001:db8::1"), ("AAAA", "10.0.0.1"), ("A", "example")])
def test_what_is_no_address_of_that_type_is_refused(names: Names, kind: str, value: str) -> None:
    with pytest.raises(ValueError):
        names.set("model.test", kind, [value])


@pytest.mark.parametrize("name", ["a..b", "a" * 64, ".x"])
def test_what_is_no_name_is_refused(names: Names, name: str) -> None:
    with pytest.raises(ValueError, match="is not a name"):
        names.set(name, "A", ["10.0.0.1"])


@pytest.mark.parametrize("datagram", [b"", b"hello", b"\x00" * 12])
def test_what_is_no_question_gets_no_answer(names: Names, datagram: bytes) -> None:
    assert answer(datagram, names, host) is None
