"""Real requests through a deployment's public URL: the only proof that it serves.

The other side is a VM running somebody's model, and may answer anything: time and size are bounded and its
words are cleaned. What an outcome means for the deployment is `core.serving`'s business.
"""

import json
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from budget_operator.cloud.doors import (
    CONNECT_SECONDS,
    Answer,
    Doors,
    NoConnection,
    Request,
    UnreadableAuthority,
)
from budget_operator.cloud.guest import clean
from budget_operator.core.gateways import Door
from budget_operator.core.observed import Probe

_READY_SECONDS = 5.0
_PREDICT_SECONDS = 30.0
_QUOTED = 200
# Of a prediction: what a model says when it fails may hold a secret, in whatever form.
_UNTOLD = "; what it says is not repeated here"
# Nothing compressed: a small answer must not unfold into a large one.
_HEADERS = {"Accept-Encoding": "identity", "User-Agent": "budget-operator"}
_READY = Request("GET", "/healthz/ready", _READY_SECONDS, headers=_HEADERS, kept=True)


class Way(Protocol):
    """How a request reaches a door; failures are those of `Doors.ask`."""

    def ask(self, door: Door, request: Request) -> Answer: ...
    def ask_kept(self, doors: Sequence[Door], request: Request) -> Mapping[Door, Answer]: ...


class HttpProber:
    """`core.gateways.Prober`; through `way`, or else the network."""

    def __init__(self, way: Way | None = None) -> None:
        self._way = Doors() if way is None else way

    def ready(self, door: Door) -> Probe:
        """Whether the front door, its certificate and the model's workers answer."""
        return _with_revision(*self._ask(door, _READY))

    def many_ready(self, doors: Sequence[Door]) -> Mapping[Door, Probe]:
        """At once, of those that answer over a connection that is kept."""
        answers = self._way.ask_kept(doors, _READY)
        return {door: _with_revision(*_judged(door, _READY, answer)) for door, answer in answers.items()}

    def predict(self, door: Door, token: str, payload: object) -> Probe:
        """A prediction with the user's own example."""
        headers = {**_HEADERS, "Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        body = json.dumps({"payload": payload}).encode()
        return self._ask(door, Request("POST", "/predict_dict", _PREDICT_SECONDS, body, headers))[0]

    def _ask(self, door: Door, request: Request) -> tuple[Probe, bytes]:
        what = f"{request.method} {request.path}"
        try:
            answer = self._way.ask(door, request)
        except TimeoutError as error:
            limit = CONNECT_SECONDS if isinstance(error, NoConnection) else request.seconds
            return Probe(False, f"{what}: no answer within {limit:.0f} s"), b""
        except OSError as error:
            return Probe(False, f"{what}: {_cause(error)}"), b""
        return _judged(door, request, answer)


def _judged(door: Door, request: Request, answer: Answer) -> tuple[Probe, bytes]:
    """What an answer says, and its body."""
    message, ok = f"{request.method} {request.path}: status {answer.status}", 200 <= answer.status < 300
    if not ok:
        message += f": {_quoted(answer)}" if request is _READY else _UNTOLD
    return Probe(ok, message, certificate_ok=door.url.startswith("https://")), answer.body


def _quoted(answer: Answer) -> str:
    return clean(answer.body.decode(errors="replace"))[:_QUOTED]


def _with_revision(probe: Probe, body: bytes) -> Probe:
    return replace(probe, revision=_revision(body))


def _cause(error: Exception) -> str:
    """What failed: TLS, a refused connection, an answer that is none."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate is not valid: {error.verify_message}"
    if isinstance(error, UnreadableAuthority):
        return "the certificate authority reported by the VM is not readable"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {error.reason or error}"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    return clean(str(error))[:_QUOTED] or type(error).__name__


def _revision(body: bytes) -> str | None:
    """The revision a JSON answer names, if it does."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None
    revision = found.get("revision") if isinstance(found, dict) else None
    return clean(revision)[:64] if isinstance(revision, str) else None
