"""kopf as an informer: every change of a BudgetDeployment puts its key on the work queue.

The only importer of kopf. One `on.event` handler; no create, update or delete handlers, no timers, no
daemons, no annotations, no finalizer of kopf's own: none of them survives a failed patch, a watch gap or a
restart in the middle of a deletion. What keeps a watch honest is the full list that `process` makes every few
minutes, and `contact`: kopf repeats what fails for ever and tells nobody, so its session is listened to.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import aiohttp
import kopf

from budget_operator.cluster.access import Access
from budget_operator.cluster.contact import Contact
from budget_operator.core import api
from budget_operator.core.gateways import Document

log = logging.getLogger(__name__)

OnChange = Callable[[str, str], None]
OnVersion = Callable[[str, str, str], None]

# The API server ends every watch after so many seconds, and the next one begins where it ended. One that dies
# without a word is noticed `OVERDUE_SECONDS` later; lost rights are, when the next one is refused.
STREAM_SECONDS = 45
OVERDUE_SECONDS = 5
CONNECT_SECONDS = 10


class _Backoff:
    """Pauses between failed requests, in seconds; shared by all requests, so it can be iterated again."""

    def __iter__(self) -> Iterator[int]:
        yield from (1, 2, 4, 8)
        while True:
            yield 10


def settings(stream_seconds: int = STREAM_SECONDS) -> kopf.OperatorSettings:
    """kopf's settings for a pure informer."""
    result = kopf.OperatorSettings()
    result.networking.error_backoffs = _Backoff()
    result.networking.request_timeout = 30
    result.networking.connect_timeout = CONNECT_SECONDS
    result.watching.server_timeout = stream_seconds
    result.watching.inactivity_timeout = stream_seconds + OVERDUE_SECONDS
    result.watching.client_timeout = stream_seconds + 2 * OVERDUE_SECONDS
    result.watching.connect_timeout = CONNECT_SECONDS
    result.scanning.disabled = True  # else kopf wants to list CRDs and namespaces
    result.posting.enabled = False
    # kopf removes a finalizer with this name from objects that it does not handle: never ours.
    result.persistence.finalizer = f"{api.GROUP}/unused-by-design"
    return result


def changed(known: tuple[Any, ...] | None, body: Document) -> tuple[tuple[Any, ...], bool]:
    """The part of an object that calls for a pass, and whether it differs from what is known."""
    metadata = body["metadata"]
    current = (
        metadata["uid"],
        metadata.get("generation"),
        metadata.get("deletionTimestamp"),
        tuple(metadata.get("finalizers", ())),
        *((metadata.get("annotations") or {}).get(key) for key in (api.ABANDON, api.DRILL)),
    )
    return current, current != known


class Watch:
    """Runs kopf in a thread while the process lives; once that has `ended`, the process must end too.

    `on_change` is told of what calls for a pass, `on_version` of every version, status writes included.
    """

    def __init__(
        self,
        on_change: OnChange,
        on_version: OnVersion,
        access: Callable[[], Access],
        stream_seconds: int = STREAM_SECONDS,
    ) -> None:
        self._on_change = on_change
        self._on_version = on_version
        self._access = access
        self._settings = settings(stream_seconds)
        self._known: dict[tuple[str, str], tuple[Any, ...]] = {}
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self.contact = Contact()

    def start(self) -> None:
        """Start watching all namespaces."""
        self.contact.begin()
        self._thread.start()

    @property
    def ended(self) -> bool:
        """True once kopf has run and does so no longer."""
        return self._thread.ident is not None and not self._thread.is_alive()

    @property
    def troubled(self) -> bool:
        """Its requests fail, or the next one is overdue: changes may be missed."""
        reading = self.contact.read()
        overdue = (reading.quiet_for or 0.0) > (self._settings.watching.client_timeout or 0.0)
        return overdue or reading.failing_for is not None

    def see(self, kind: str | None, body: Document) -> None:
        """An object as the API server shows it; `kind` is that of the event, None in a list."""
        key = (body["metadata"]["namespace"], body["metadata"]["name"])
        current, differs = changed(self._known.get(key), body)
        if kind == "DELETED":
            if self._known.get(key, current)[0] == current[0]:  # not a newer object of the same name
                self._known.pop(key, None)
            differs = True
        else:
            self._known[key] = current
            self._on_version(*key, body["metadata"]["resourceVersion"])
        if differs:
            self._on_change(*key)

    def _run(self) -> None:
        try:
            asyncio.run(self._operator())
        except Exception:
            log.exception("the watch has ended")

    async def _operator(self) -> None:
        registry = kopf.OperatorRegistry()
        sessions = Sessions(self._access, self.contact)

        @kopf.on.login(registry=registry, errors=kopf.ErrorsMode.PERMANENT)
        async def _login(**_: Any) -> kopf.AiohttpSession | None:
            return sessions.renew()

        @kopf.on.event(api.GROUP, api.VERSION, api.PLURAL, registry=registry)
        async def _changed(type: str | None, body: kopf.Body, **_: Any) -> None:  # noqa: A002
            self.contact.succeeded()
            self.see(type, body)

        await kopf.operator(registry=registry, settings=self._settings, standalone=True, clusterwide=True)


class Sessions:
    """kopf's sessions: each is told about to `contact`, and reads the credentials anew."""

    def __init__(self, access: Callable[[], Access], contact: Contact) -> None:
        self._access = access
        self._contact = contact
        self._refused: Access | None = None
        self._last: Access | None = None

    def renew(self) -> kopf.AiohttpSession | None:
        """None if the same credentials would be refused again: then kopf ends, instead of asking for ever."""
        access = self._access()
        if access == self._refused:
            log.error("the Kubernetes API refuses the credentials, and there are no new ones")
            return None
        self._last = access
        tls = kopf.ConnectionInfo(
            server=access.server,
            ca_path=access.ca_file or None,
            insecure=not access.verify,
            certificate_path=access.certificate_file or None,
            private_key_path=access.key_file or None,
        )
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=tls.as_ssl_context()),
            headers={"Authorization": access.authorization} if access.authorization else {},
            trace_configs=[self._traces()],
        )
        return kopf.AiohttpSession(server=access.server, aiohttp_session=session)

    def _traces(self) -> aiohttp.TraceConfig:
        """Calls back when a request was answered; that of a watch is when its stream begins."""
        traces = aiohttp.TraceConfig()

        async def answered(_session: Any, _context: Any, end: aiohttp.TraceRequestEndParams) -> None:
            self._note(end.response.status, str(end.response.reason))

        async def unanswered(_session: Any, _context: Any, end: aiohttp.TraceRequestExceptionParams) -> None:
            self._contact.failed(f"the Kubernetes API does not answer ({type(end.exception).__name__})")

        traces.on_request_end.append(answered)
        traces.on_request_exception.append(unanswered)
        return traces

    def _note(self, status: int, reason: str) -> None:
        if status < 400:
            self._contact.succeeded()
            return
        self._contact.failed(f"the Kubernetes API answered {status} {reason}")
        if status == 401:
            self._refused = self._last
