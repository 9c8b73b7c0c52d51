"""What the VM's resolver says about a name: its A and AAAA records, at the end of all CNAMEs.

What the answer means for a certificate is decided in `certificates_rules`.
"""

import ipaddress
from dataclasses import dataclass

import dns.exception
import dns.resolver

_LIFETIME_SECONDS = 6.0


@dataclass(frozen=True)
class Answers:
    """The addresses of a name; with a problem where the resolver could not tell them."""

    v4: tuple[str, ...] = ()
    v6: tuple[str, ...] = ()
    problem: str = ""


class Resolver:
    """Asks the machine's resolver, or the one at `address` (`host` or `host:port`)."""

    def __init__(self, address: str = "") -> None:
        self._resolver = dns.resolver.Resolver(configure=not address)
        self._resolver.lifetime = _LIFETIME_SECONDS
        if address:
            host, _, port = address.partition(":")
            self._resolver.nameservers = [host]
            self._resolver.port = int(port or 53)

    def ask(self, name: str) -> Answers:
        try:
            v4 = self._records(name, "A")
            # an authority prefers IPv6: what cannot be known about it must be waited for, too
            return Answers(v4, self._records(name, "AAAA"))
        except dns.exception.DNSException as error:
            return Answers(problem=str(error).rstrip(".") or type(error).__name__)

    def _records(self, name: str, kind: str) -> tuple[str, ...]:
        try:
            # with the dot at the end: the machine's search domains are not the world's
            answer = self._resolver.resolve(f"{name}.", kind, raise_on_no_answer=False)
        except dns.resolver.NXDOMAIN:
            return ()
        return tuple(sorted(str(ipaddress.ip_address(record.address)) for record in answer.rrset or ()))
