"""Work that outlives the request that asked for it, and a restart of the server.

A task is a document; it is removed when its handler has returned. Tasks of one lane (usually one resource)
run one after the other, lanes run beside each other. What a task does, and the operation a client sees,
belong to the services.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable

from localcloud.clock import Clock, Thread
from localcloud.store import Json, Store

log = logging.getLogger(__name__)

Handler = Callable[[Json], None]
_STOP_WITHIN = 5.0


class Interrupted(Exception):
    """The server stops; the task is taken up again at the next start, so handlers let this pass."""


class Tasks:
    """The durable tasks of one service. Register handlers by verb, then add it to `registry.background`.

    Handlers must be idempotent: after a restart an unfinished one is run again from its beginning, unless
    its work is known to be `over`: then the server died before it could forget the task, and whoever was told
    of the end may have gone on. An exception other than `Interrupted` is logged and given to `failed`, and
    the task is over.
    """

    def __init__(self, service: str, store: Store, clock: Clock) -> None:
        self._kind = f"{service}.task"
        self._store = store
        self._clock = clock
        self._handlers: dict[str, Handler] = {}
        self._failed: Callable[[Json, Exception], None] = _only_logged
        self._over: Callable[[Json], bool] = _never
        self._lanes: dict[str, deque[str]] = {}
        self._threads: dict[str, Thread] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._running = False
        keys = [int(key) for key, _ in store.list(self._kind)]
        self._numbers = itertools.count(max(keys, default=0) + 1)

    def on(self, verb: str, handler: Handler) -> None:
        self._handlers[verb] = handler

    def on_failure(self, failed: Callable[[Json, Exception], None]) -> None:
        self._failed = failed

    def unless(self, over: Callable[[Json], bool]) -> None:
        self._over = over

    def add(self, lane: str, verb: str, args: Json) -> None:
        """Persist and begin. Inside a transaction the task waits for its end; a roll-back takes it back."""
        with self._store.transaction():
            key = f"{next(self._numbers):012d}"
            self._store.insert(self._kind, key, {"lane": lane, "verb": verb, "args": args})
            self._enqueue(lane, key)

    def busy(self, lane: str) -> bool:
        with self._lock:
            return lane in self._lanes

    def sleep(self, seconds: float) -> None:
        """For handlers: let time pass, or raise Interrupted."""
        if self._clock.wait(seconds, self._stopping):
            raise Interrupted

    def start(self) -> None:
        with self._lock:
            self._running = True
            waiting = list(self._lanes)
            for lane in waiting:
                self._spawn(lane)
        queued = {key for lane in waiting for key in self._lanes.get(lane, ())}
        for key, task in self._store.list(self._kind):
            if key not in queued:
                self._enqueue(task["lane"], key)

    def stop(self) -> None:
        """Tasks that do not end soon (a VM's shutdown) are left to themselves and taken up again later."""
        self._stopping.set()
        with self._lock:
            self._running = False
            threads = list(self._threads.values())
        deadline = time.monotonic() + _STOP_WITHIN
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _enqueue(self, lane: str, key: str) -> None:
        with self._lock:
            queue = self._lanes.setdefault(lane, deque())
            queue.append(key)
            if self._running and lane not in self._threads:
                self._spawn(lane)

    def _spawn(self, lane: str) -> None:
        thread = self._clock.thread(lambda: self._run(lane), f"{self._kind} {lane}")
        self._threads[lane] = thread
        thread.start()

    def _run(self, lane: str) -> None:
        while True:
            with self._lock:
                queue = self._lanes[lane]
                if not queue or self._stopping.is_set():
                    del self._lanes[lane]
                    del self._threads[lane]
                    return
                key = queue.popleft()
            self._handle(key)

    def _handle(self, key: str) -> None:
        task = self._store.get(self._kind, key)
        if task is None:  # the transaction that added it was rolled back
            return
        try:
            if not self._over(task["args"]):
                self._handlers[task["verb"]](task["args"])
        except Interrupted:
            return
        except Exception as error:
            log.exception("task %s failed", task)
            self._failed(task["args"], error)
        self._store.delete(self._kind, key)


def _only_logged(_args: Json, _error: Exception) -> None:
    """The default of `on_failure`."""


def _never(_args: Json) -> bool:
    """The default of `unless`."""
    return False
