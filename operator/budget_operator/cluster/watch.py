"""kopf as an informer: every change of a BudgetDeployment puts its key on the work queue.

The only importer of kopf. One `on.event` handler; no create, update or delete handlers, no timers, no
daemons, no annotations, no finalizer of kopf's own: none of them survives a failed patch, a watch gap or a
restart in the middle of a deletion. What keeps a watch honest is the full list that `process` makes every few
minutes.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import kopf

from budget_operator.cluster.contact import Contact
from budget_operator.core import api

log = logging.getLogger(__name__)

OnChange = Callable[[str, str], None]


class _Backoff:
    """Pauses between failed requests, in seconds; shared by all requests, so it can be iterated again."""

    def __iter__(self) -> Iterator[int]:
        yield from (1, 2, 4, 8, 15)
        while True:
            yield 30


def settings() -> kopf.OperatorSettings:
    """kopf's settings for a pure informer."""
    result = kopf.OperatorSettings()
    result.networking.error_backoffs = _Backoff()
    result.networking.request_timeout = 30
    result.networking.connect_timeout = 10
    result.watching.server_timeout = 300
    result.watching.client_timeout = 330
    result.watching.connect_timeout = 10
    result.scanning.disabled = True  # else kopf wants to list CRDs and namespaces
    result.posting.enabled = False
    # kopf removes a finalizer with this name from objects that it does not handle: never ours.
    result.persistence.finalizer = f"{api.GROUP}/unused-by-design"
    return result


def changed(known: tuple[Any, ...] | None, body: dict[str, Any]) -> tuple[tuple[Any, ...], bool]:
    """The part of an object that calls for a pass, and whether it differs from what is known."""
    metadata = body["metadata"]
    current = (
        metadata["uid"],
        metadata.get("generation"),
        metadata.get("deletionTimestamp"),
        tuple(metadata.get("finalizers", ())),
        (metadata.get("annotations") or {}).get(api.ABANDON),
    )
    return current, current != known


class Watch:
    """Runs kopf in a thread; once that has `ended`, the operator must end too."""

    def __init__(self, on_change: OnChange) -> None:
        self._on_change = on_change
        self._known: dict[tuple[str, str], tuple[Any, ...]] = {}
        self._stop = threading.Event()
        self.contact = Contact()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def start(self) -> None:
        """Start watching all namespaces."""
        self._thread.start()

    @property
    def ended(self) -> bool:
        """True once kopf has run and does so no longer."""
        return self._thread.ident is not None and not self._thread.is_alive()

    def stop(self, timeout: float = 10.0) -> None:
        """End kopf and wait for its thread."""
        self._stop.set()
        self._thread.join(timeout)

    def _event(self, kind: str | None, body: dict[str, Any]) -> None:
        self.contact.succeeded()
        key = (body["metadata"]["namespace"], body["metadata"]["name"])
        current, differs = changed(self._known.get(key), body)
        if kind == "DELETED":
            if self._known.get(key, current)[0] == current[0]:  # not a newer object of the same name
                self._known.pop(key, None)
            differs = True
        else:
            self._known[key] = current
        if differs:
            self._on_change(*key)

    def _run(self) -> None:
        try:
            asyncio.run(self._operator())
        except Exception:
            log.exception("the watch has ended")

    async def _operator(self) -> None:
        registry = kopf.OperatorRegistry()

        @kopf.on.login(registry=registry)
        def _login(**kwargs: Any) -> kopf.ConnectionInfo | None:
            return kopf.login_via_client(**kwargs)

        @kopf.on.event(api.GROUP, api.VERSION, api.PLURAL, registry=registry)
        async def _changed(type: str | None, body: kopf.Body, **_: Any) -> None:  # noqa: A002
            self._event(type, dict(body))

        try:
            await kopf.operator(
                registry=registry,
                settings=settings(),
                standalone=True,
                clusterwide=True,
                stop_flag=self._stop,
            )
        finally:
            # asyncio.run would wait for the executor thread that waits for this flag.
            self._stop.set()
