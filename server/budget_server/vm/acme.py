"""Caddy as a client of an ACME authority: how it is told to make one order, and what its log says of it.

Caddy repeats an order that fails after a minute, and makes another one at once for every other way to prove
the name. So it is given one way only, and the order leaves its configuration as soon as it has ended.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from budget_server.vm.certificates_rules import Challenge, Problem, Reason, Subject, seconds_asked
from budget_server.vm.errors import bounded

#: Caddy's own limit for an order; and ours, should it not keep it.
ORDER_SECONDS, WAIT_SECONDS = 90, 120
_MESSAGE_BYTES = 600
#: Whether its client logs below one or the other depends on which of Caddy's parts was made first.
_LOGGERS = ["tls.obtain", "tls.issuance", "http.acme_client"]
_REQUEST, _FAILED = "http request", ("will retry", "could not get certificate")


@dataclass(frozen=True)
class Order:
    """One attempt to have a certificate."""

    subject: Subject
    challenge: Challenge
    email: str
    #: PEM file of the roots to trust for the directory; None: the machine's.
    trust: Path | None
    #: Where Caddy tells about this order, and about no other.
    log: Path

    def policy(self, http_port: int, https_port: int) -> dict[str, object]:
        """Of Caddy's tls.automation.policies."""
        http, alpn = self.challenge == "http-01", self.challenge == "tls-alpn-01"
        issuer: dict[str, object] = {
            "module": "acme",
            "ca": self.subject.directory,
            # else it would ask Let's Encrypt's test authority when it tries again
            "test_ca": self.subject.directory,
            "acme_timeout": f"{ORDER_SECONDS}s",
            "challenges": {
                "http": {"disabled": not http, "alternate_port": http_port},
                "tls-alpn": {"disabled": not alpn, "alternate_port": https_port},
            },
        }
        if self.email:
            issuer["email"] = self.email
        if self.subject.profile:
            issuer["profile"] = self.subject.profile
        if self.trust:
            issuer["trusted_roots_pem_files"] = [str(self.trust)]
        return {"subjects": [self.subject.name], "issuers": [issuer]}

    def logger(self) -> dict[str, object]:
        """Of Caddy's logging.logs: at this level it tells the answers with their headers."""
        return {
            "level": "DEBUG",
            "writer": {"output": "file", "filename": str(self.log), "roll": False},
            "encoder": {"format": "json"},
            "include": _LOGGERS,
        }


@dataclass(frozen=True)
class Outcome:
    """How many orders the authority was asked for, and why it came to nothing, once that is known."""

    orders: int = 0
    problem: Problem | None = None


def read(log: Path, now: float) -> Outcome:
    """What the log of an order tells so far."""
    lines = list(_lines(log))
    requests = [line for line in lines if line.get("msg") == _REQUEST]
    orders = sum(_is_order(line) for line in requests)
    failed = [line for line in lines if str(line.get("msg", "")).startswith(_FAILED)]
    if not failed:
        return Outcome(orders)
    return Outcome(orders, _problem(failed[-1], requests, now))


def _lines(log: Path) -> Iterator[dict[str, object]]:
    try:
        text = log.read_text(errors="replace")
    except FileNotFoundError:
        return
    for line in text.splitlines(keepends=True):
        if line.endswith("\n"):  # else it is still being written
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if isinstance(entry, dict):
                yield entry


def _is_order(line: dict[str, object]) -> bool:
    path = str(line.get("url", "")).lower().replace("-", "")
    return line.get("method") == "POST" and path.endswith("/neworder")


def _problem(failed: dict[str, object], requests: list[dict[str, object]], now: float) -> Problem:
    told = bounded(_told(failed.get("error")), _MESSAGE_BYTES)
    last = requests[-1] if requests else {}
    asked = seconds_asked(_header(last, "Retry-After"), now)
    if last.get("status_code") == 429 or "ratelimited" in told.lower():
        return Problem(Reason.RATE_LIMITED, f"The authority limits its orders: {told}", asked)
    if not any(_is_success(line) for line in requests):
        message = f"The ACME directory cannot be used: {told}; check its address and caBundle"
        return Problem(Reason.DIRECTORY_UNREACHABLE, message, asked)
    return Problem(Reason.ORDER_FAILED, f"The authority issued no certificate: {told}", asked)


def _is_success(line: dict[str, object]) -> bool:
    status = line.get("status_code")
    return isinstance(status, int) and status < 400


def _told(error: object) -> str:
    if isinstance(error, dict):  # an ACME problem document
        return str(error.get("detail") or error.get("title") or error.get("type") or error)
    return str(error or "no reason given")


def _header(line: dict[str, object], name: str) -> str:
    headers = line.get("response_headers")
    values = headers.get(name) if isinstance(headers, dict) else None
    return str(values[0]) if isinstance(values, list) and values else ""
