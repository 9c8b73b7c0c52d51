"""Around every call: faults asked for are made, and what was answered is written to the journal.

Of the faults these are the ones of calls: failing and late answers, APIs that are off or fresh, permissions,
rates. Those of machines are made where machines are.
"""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from localcloud.accounts import account_of
from localcloud.clock import rfc3339
from localcloud.context import Context
from localcloud.demands import Sent, demands
from localcloud.errors import ApiError, render
from localcloud.faults import CallFault, DisabledApi, Faults, PermissionDenied, RateLimit
from localcloud.iam import Demand, denied
from localcloud.journal import Entry
from localcloud.permissions import Asked, asked
from localcloud.web import REPEATED

CONTROL = "/_localcloud/"


class Gate:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp, context: Context) -> None:
        self._app = app
        self._context = context
        self._rates = Rates(context.faults)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(CONTROL):
            await self._app(scope, receive, send)
            return
        told, served, call = _Status(500), _Status(0), _asked(scope)
        asks = _Asking(_account(scope))
        try:
            if call is not None and await self._context.blocking.run(self._permissions_matter, asks.account):
                receive = await self._demand(call, asks, scope, receive)
            refused = None if call is None else await self._context.blocking.run(self._refusal, call, asks)
            if refused is None:
                await self._answer(scope, receive, told.of(send), served)
            else:
                await render(scope["path"], refused)(scope, receive, told.of(send))
        finally:
            await self._context.blocking.run(self._record, scope, call, asks, (told, served))

    async def _answer(self, scope: Scope, receive: Receive, send: Send, served: _Status) -> None:
        fault = await self._context.blocking.run(self._context.faults.take, scope["method"], scope["path"])
        if fault is None:
            await self._app(scope, receive, served.of(send))
            return
        await self._faulty(fault, scope, receive, send, served)

    async def _faulty(
        self, fault: CallFault, scope: Scope, receive: Receive, send: Send, served: _Status
    ) -> None:
        if fault.when == "before":
            await self._context.blocking.sleep(fault.latency)
            if fault.code == 0:
                await self._app(scope, receive, served.of(send))
                return
        else:
            messages: list[Message] = []
            await self._app(scope, receive, served.of(_keep(messages)))
            await self._context.blocking.sleep(fault.latency)
            if fault.code == 0:
                for message in messages:
                    await send(message)
                return
        error = ApiError(fault.code, fault.reason, "A fault asked for with localcloud's control API.")
        await render(scope["path"], error)(scope, receive, send)

    def _permissions_matter(self, account: str) -> bool:
        denials = self._context.faults.of(PermissionDenied)
        return self._context.iam.asks(account) or next(denials, None) is not None

    async def _demand(self, call: Asked, asks: _Asking, scope: Scope, receive: Receive) -> Receive:
        """Note what the call needs; it can be received once more."""
        request = Request(scope, receive)
        body = await request.body()
        sent = Sent(_raw_path(scope), request.query_params, request.headers.get("content-type", ""), body)
        asks.demands = await self._context.blocking.run(demands, call, sent, self._context.store)
        return _again(body, receive)

    def _refusal(self, call: Asked, asks: _Asking) -> ApiError | None:
        now = self._context.clock.now()
        return (
            refusal(self._context.faults, call, asks.demands, now)
            or self._forbidden(call, asks)
            or self._rates.refusal(call, now)
        )

    def _forbidden(self, call: Asked, asks: _Asking) -> ApiError | None:
        missing = self._context.iam.missing(asks.account, asks.demands)
        return None if missing is None else denied(call.service, missing, asks.account)

    def _record(
        self, scope: Scope, call: Asked | None, asks: _Asking, statuses: tuple[_Status, _Status]
    ) -> None:
        told, served = statuses
        query = scope["query_string"].decode("latin-1")
        entry = Entry(
            id=0,
            time=rfc3339(self._context.clock.now()),
            method=scope["method"],
            path=scope["path"] + (f"?{query}" if query else ""),
            status=told.code,
            agent=_header(scope, b"user-agent"),
            permission="" if call is None else call.permission,
            took_effect=200 <= served.code < 300 and REPEATED not in scope,
            account=asks.account,
            demanded=" ".join(dict.fromkeys(each.permission for each in asks.demands)),
        )
        self._context.journal.record(entry)


@dataclass
class _Asking:
    """Whose a call is, and what it needs; nothing where nobody asks for permissions."""

    account: str
    demands: tuple[Demand, ...] = ()


class _Status:
    """The status of an answer that goes by."""

    def __init__(self, code: int) -> None:
        self.code = code

    def of(self, send: Send) -> Send:
        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.code = message["status"]
            await send(message)

        return watched


def _asked(scope: Scope) -> Asked | None:
    return asked(scope["method"], _raw_path(scope))


def _raw_path(scope: Scope) -> str:
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    return raw.decode("latin-1").split("?")[0]


def _account(scope: Scope) -> str:
    return account_of(_header(scope, b"authorization"))


def _header(scope: Scope, name: bytes) -> str:
    value: bytes = dict(scope["headers"]).get(name, b"")
    return value.decode("latin-1")


def _again(body: bytes, receive: Receive) -> Receive:
    whole: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def received() -> Message:
        return whole.pop() if whole else await receive()

    return received


def _keep(messages: list[Message]) -> Send:
    async def keep(message: Message) -> None:
        messages.append(message)

    return keep


def refusal(faults: Faults, call: Asked, needed: tuple[Demand, ...], now: datetime) -> ApiError | None:
    """Why an API does not take this call, if a fault says so."""
    host = f"{call.service}.googleapis.com"
    for _ in faults.of(DisabledApi, lambda each: each.service == call.service):
        message = (
            f"{host} has not been used in this project before or it is disabled. Enable it and retry. If you "
            "enabled it recently, wait a few minutes for the action to propagate to our systems."
        )
        return ApiError(403, "accessNotConfigured", message).because("SERVICE_DISABLED", service=host)
    if not call.reads and faults.fresh(call.service, now):
        message = (
            f"{host} was enabled recently; it may take a few minutes before all necessary permissions are "
            "propagated to the service agent."
        )
        return ApiError(400, "failedPrecondition", message, "FAILED_PRECONDITION")
    for fault in faults.of(PermissionDenied):
        for demand in needed:
            if fnmatchcase(demand.permission, fault.permission):
                return denied(call.service, demand, "")
    return None


class Rates:
    """Counts calls of the present minute, as far as a fault limits them."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._lock = threading.Lock()
        self._minute = -1
        self._seen: Counter[str] = Counter()

    def refusal(self, call: Asked, now: datetime) -> ApiError | None:
        """The call counts, and is one too many."""
        group = "read" if call.reads else "write"
        limits = list(
            self._faults.of(RateLimit, lambda each: (each.service, each.calls) == (call.service, group))
        )
        if not limits:
            return None
        minute, key = int(now.timestamp() // 60), f"{call.service} {group}"
        with self._lock:
            if minute != self._minute:
                self._minute = minute
                self._seen.clear()
            self._seen[key] += 1
            over = self._seen[key] > min(each.per_minute for each in limits)
        message = (
            f"Quota exceeded for quota metric '{group.capitalize()} requests' and limit "
            f"'{group.capitalize()} requests per minute' of service '{call.service}.googleapis.com'."
        )
        # Compute has said 403 from its beginning, the others 429.
        error = ApiError(403 if call.service == "compute" else 429, "rateLimitExceeded", message)
        return error.because("RATE_LIMIT_EXCEEDED") if over else None
