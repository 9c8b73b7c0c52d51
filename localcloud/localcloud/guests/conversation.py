"""A simulated guest's side of HTTP/1.1: bytes in, bytes out. Who the guest is, is asked at every request.

It answers as the project's VM does, as far as callers of a deployment see. It has no credentials: a bearer
token is not looked at, so a wrong one or none is as good as any. Sockets and TLS are `listener`'s.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import h11

from localcloud.guests.guest import Guest

BODY_LIMIT = 1024 * 1024
_ALIVE = {"status": "alive"}


@dataclass(frozen=True)
class Asked:
    """A request; `target` as it was sent."""

    method: str
    target: str
    host: str = ""
    body: bytes = b""

    @property
    def path(self) -> str:
        return self.target.partition("?")[0].rstrip("/") or "/"


@dataclass(frozen=True)
class Answer:
    status: int
    content: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


def answer(guest: Guest, asked: Asked, encrypted: bool) -> Answer:
    """What the guest says to this."""
    methods, say = _ROUTES.get(asked.path, _NOWHERE)
    if not encrypted and guest.is_encrypted and say is not _live:
        return Answer(308, headers={"Location": f"https://{asked.host}{asked.target}"})
    if methods and asked.method not in methods:
        return _error(405, "MethodNotAllowed", "Method Not Allowed", {"Allow": methods[0]})
    return say(guest, asked)


def _root(guest: Guest, _: Asked) -> Answer:
    return Answer(200, {**_ALIVE, "name": guest.deployment, "revision": guest.revision})


def _live(_guest: Guest, _asked: Asked) -> Answer:
    return Answer(200, _ALIVE)


def _ready(guest: Guest, _: Asked) -> Answer:
    return _not_ready(guest) or Answer(200, {"status": "ready", "revision": guest.revision})


def _predict(guest: Guest, asked: Asked) -> Answer:
    """The body, whatever it is."""
    return _not_ready(guest) or _read(asked)


def _predict_dict(guest: Guest, asked: Asked) -> Answer:
    """The payload."""
    read = _predict(guest, asked)
    if read.status != HTTPStatus.OK:
        return read
    if not isinstance(read.content, dict) or "payload" not in read.content:
        return _error(422, "InvalidBody", 'The body is not {"payload": ...}.')
    return Answer(200, read.content["payload"])


def _nothing(_guest: Guest, _asked: Asked) -> Answer:
    return _error(404, "NotFound", "Not Found")


def _not_ready(guest: Guest) -> Answer | None:
    return _error(503, "NotReady", guest.obstacle, {"Retry-After": "5"}) if guest.obstacle else None


def _read(asked: Asked) -> Answer:
    try:
        return Answer(200, json.loads(asked.body))
    except (ValueError, RecursionError):
        return _error(422, "InvalidBody", "The body is not JSON.")


_READ = ("GET", "HEAD")
_NOWHERE: tuple[tuple[str, ...], Callable[[Guest, Asked], Answer]] = ((), _nothing)
_ROUTES = {
    "/": (_READ, _root),
    "/healthz/live": (_READ, _live),
    "/healthz/ready": (_READ, _ready),
    "/predict": (("POST",), _predict),
    "/predict_dict": (("POST",), _predict_dict),
}


def _error(status: int, code: str, detail: str, headers: Mapping[str, str] | None = None) -> Answer:
    return Answer(status, {"code": code, "detail": detail}, headers or {})


class Conversation:
    """One connection, from its first byte to its last; `over` once nothing more will be said."""

    def __init__(self, guest: Callable[[], Guest | None], *, encrypted: bool) -> None:
        self._guest = guest
        self._encrypted = encrypted
        self._http = h11.Connection(h11.SERVER)
        self._request: h11.Request | None = None
        self._body = bytearray()
        self.over = False

    def receive(self, data: bytes) -> bytes:
        """What to send now that this was received."""
        try:
            self._http.receive_data(data)
            return self._talk()
        except h11.RemoteProtocolError as error:
            self.over = True
            if self._http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
                return b""
            return self._said(_error(error.error_status_hint, "BadRequest", str(error)))

    def _talk(self) -> bytes:
        said = b""
        while not self.over:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                break
            if event is h11.PAUSED:
                self._http.start_next_cycle()
            elif isinstance(event, h11.Request):
                self._request, self._body = event, bytearray()
                said += self._goes_on()
            elif isinstance(event, h11.Data):
                self._body += event.data
                said += self._refused(len(self._body))
            elif isinstance(event, h11.EndOfMessage):
                said += self._answered()
            else:
                self.over = True
        return said

    def _goes_on(self) -> bytes:
        """To a request's head: a body that is too long is not waited for, one that waits is asked for."""
        refused = self._refused(int(self._header(b"content-length") or 0))
        if refused or not self._http.they_are_waiting_for_100_continue:
            return refused
        return self._http.send(h11.InformationalResponse(status_code=100, headers=[])) or b""

    def _refused(self, size: int) -> bytes:
        if size <= BODY_LIMIT:
            return b""
        self.over = True
        return self._said(_error(413, "BodyTooLarge", f"A simulated guest takes {BODY_LIMIT} bytes."))

    def _answered(self) -> bytes:
        guest = self._guest()
        if guest is None:  # the VM went off: nobody is there to say so
            self.over = True
            return b""
        assert self._request is not None
        method, target = self._request.method.decode("ascii"), self._request.target.decode("ascii")
        asked = Asked(method, target, self._header(b"host"), bytes(self._body))
        return self._said(answer(guest, asked, self._encrypted))

    def _said(self, answered: Answer) -> bytes:
        redirects = answered.status == HTTPStatus.PERMANENT_REDIRECT
        body = b"" if redirects else json.dumps(answered.content).encode()
        headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), **answered.headers}
        if self.over:
            headers["Connection"] = "close"
        said = self._http.send(
            h11.Response(
                status_code=answered.status,
                headers=list(headers.items()),
                reason=HTTPStatus(answered.status).phrase,
            )
        )
        if self._request is None or self._request.method != b"HEAD":
            said = (said or b"") + (self._http.send(h11.Data(data=body)) or b"")
        said = (said or b"") + (self._http.send(h11.EndOfMessage()) or b"")
        self.over = self.over or self._http.our_state is not h11.DONE
        return said

    def _header(self, name: bytes) -> str:
        assert self._request is not None
        return next((value.decode("latin-1") for key, value in self._request.headers if key == name), "")
