"""The sessions of real clients, mounted on a cloud in this process.

Every `requests` session is, Google's clients' own included: there is no constructor of theirs that takes one.
"""

import typing
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from io import BytesIO
from typing import Any

import requests
from requests.adapters import BaseAdapter
from requests.structures import CaseInsensitiveDict
from urllib3 import HTTPHeaderDict, HTTPResponse

from localcloud.accounts import token
from localcloud.mounted import Answer, Mounted

# Python 3.11 looks anew at each isinstance what a protocol consists of, and requests asks eight times a call.
typing._get_protocol_attrs = cache(typing._get_protocol_attrs)  # type: ignore[attr-defined]

#: Stands around every call: is handed the request and what carries it out, and may lose either.
Carrier = Callable[[requests.PreparedRequest, Callable[[], Answer]], Answer]


def carried(_: requests.PreparedRequest, carry: Callable[[], Answer]) -> Answer:
    """Nothing goes wrong."""
    return carry()


_ACCOUNT = ContextVar("_ACCOUNT", default="")


@contextmanager
def calling_as(account: str) -> Iterator[None]:
    """While this lasts, calls of this thread are this account's, as if its credentials stood in the way."""
    before = _ACCOUNT.set(account)
    try:
        yield
    finally:
        _ACCOUNT.reset(before)


class Adapter(BaseAdapter):
    """One cloud, and what may happen on the way to it."""

    def __init__(self, mounted: Mounted, carrier: Carrier) -> None:
        super().__init__()
        self._mounted = mounted
        self._carrier = carrier

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: float | tuple[float | None, float | None] | None = None,
        verify: bool | str = True,
        cert: bytes | str | tuple[bytes | str, bytes | str] | None = None,
        proxies: Mapping[str, str] | None = None,
    ) -> requests.Response:
        """Raises ReadTimeout if the cloud's clock says that the answer took too long."""
        clock = self._mounted.context.clock
        before = clock.monotonic()
        answer = self._carrier(request, lambda: self._answer(request))
        longest = timeout[1] if isinstance(timeout, tuple) else timeout
        if longest is not None and clock.monotonic() - before > longest:
            raise requests.ReadTimeout(f"no answer within {longest} s", request=request)
        return _response(request, answer)

    def close(self) -> None:
        """Nothing is open."""

    def _answer(self, request: requests.PreparedRequest) -> Answer:
        assert request.method is not None
        assert request.url is not None
        headers = {name: _text(value) for name, value in request.headers.items()}
        if account := _ACCOUNT.get():
            headers["Authorization"] = f"Bearer {token(account)['access_token']}"
        return self._mounted.answer(request.method, request.url, headers, _body(request.body))


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value


def _body(body: Any) -> bytes:
    if body is None:
        return b""
    if hasattr(body, "read"):
        read: bytes = body.read()
        return read
    return body.encode() if isinstance(body, str) else bytes(body)


def _response(request: requests.PreparedRequest, answer: Answer) -> requests.Response:
    response = requests.Response()
    response.status_code = answer.status
    response.headers = CaseInsensitiveDict(answer.headers)
    response.url = request.url or ""
    response.request = request
    response.encoding = "utf-8"
    response.raw = HTTPResponse(
        BytesIO(answer.body),
        headers=HTTPHeaderDict(answer.headers),
        status=answer.status,
        preload_content=False,
    )
    return response


@contextmanager
def mounted(cloud: Mounted, carrier: Carrier = carried) -> Iterator[None]:
    """While this lasts, sessions of this process that call the cloud's address reach it."""
    adapter, base = Adapter(cloud, carrier), cloud.context.settings.base_url
    get_adapter = requests.Session.get_adapter

    def adapter_for(session: requests.Session, url: str) -> BaseAdapter:
        if not url.startswith(base):
            return get_adapter(session, url)
        session.trust_env = False  # no proxy leads here; looking for one costs a tenth of a history
        return adapter

    requests.Session.get_adapter = adapter_for  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        requests.Session.get_adapter = get_adapter  # type: ignore[method-assign]
