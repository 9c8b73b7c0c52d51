"""Guessing slowed down, for each client by itself; and who the client is.

A `Throttle` gives every client a bucket of failures that refills with time. While it is empty the client is
refused unheard, also with the right password: the answer tells a guesser nothing. Others are not affected.
What is wrong with a credential is decided in `auth`.
"""

import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from starlette.types import Scope

from budget_server.errors import TooManyRequests, Unauthorized

MOST_CLIENTS = 4096
"""Remembered by each throttle; beyond, who failed least recently is forgotten."""


@dataclass(frozen=True)
class Rate:
    """How many failures a client may have at once, and in how many seconds one of them is forgiven."""

    burst: int
    seconds: float


LOGINS = Rate(10, 3.0)
TOKENS = Rate(60, 1.0)


class Throttle:
    """The failures of many clients, in bounded memory."""

    def __init__(self, rate: Rate, now: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._now = now
        # When each client's bucket will be full again; who failed least recently stands first.
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def check(self, client: str) -> None:
        """Refuse a client that has failed too often."""
        full_at = self._full_at.get(client)
        if full_at is None:
            return
        wait = full_at - self._now() - (self._rate.burst - 1) * self._rate.seconds
        if wait > 0:
            seconds = str(math.ceil(wait))
            raise TooManyRequests("Too many failed logins from here; wait.", {"Retry-After": seconds})

    def failed(self, client: str) -> None:
        """One more failure."""
        now = self._now()
        full_at = max(self._full_at.pop(client, now), now) + self._rate.seconds
        self._full_at[client] = min(full_at, now + self._rate.burst * self._rate.seconds)
        if len(self._full_at) > MOST_CLIENTS:
            self._full_at.popitem(last=False)

    def forgive(self, client: str) -> None:
        """Take one failure back, which was counted before it was known how the attempt ends."""
        if client in self._full_at:
            self._full_at[client] -= self._rate.seconds
            if self._full_at[client] <= self._now():
                del self._full_at[client]

    @contextmanager
    def attempt(self, client: str) -> Iterator[None]:
        """`check` around what takes time, counted beforehand: of many attempts at once none is free.

        Only Unauthorized is a failure: who was refused because the server is busy has guessed nothing.
        """
        self.check(client)
        self.failed(client)
        try:
            yield
        except Unauthorized:
            raise
        except BaseException:
            self.forgive(client)
            raise
        self.forgive(client)


def client_of(scope: Scope) -> str:
    """Who asks: the address, for IPv6 its /64, which is what one customer gets.

    On the unix socket the front door is the only peer, and tells the address in X-Forwarded-For, which it
    overwrites; on any other socket that header is the caller's own word and counts for nothing.
    """
    peer = scope.get("client")
    address = peer[0] if peer else _forwarded_for(scope)
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address[:64]
    if parsed.version == 6:
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)


def is_local(scope: Scope) -> bool:
    """Whether the caller is on this machine and asks for itself: nobody has forwarded its request."""
    if any(name in (b"x-forwarded-for", b"x-real-ip", b"forwarded", b"via") for name, _ in scope["headers"]):
        return False
    peer = scope.get("client")
    if not peer:
        return True
    try:
        return ipaddress.ip_address(peer[0]).is_loopback
    except ValueError:
        return False


def _forwarded_for(scope: Scope) -> str:
    """The last address is what the nearest proxy has seen."""
    for name, value in scope["headers"]:
        if name == b"x-forwarded-for":
            return str(value.decode("latin-1").rpartition(",")[2].strip())
    return ""
