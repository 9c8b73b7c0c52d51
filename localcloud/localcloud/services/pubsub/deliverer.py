"""Pushes messages to the endpoints of their subscriptions until they are accepted.

A message leaves the store only after its endpoint answered with success within the acknowledgement deadline;
a crash in between delivers it again. What waits, and for how long, is kept by `broker`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

import httpx

from localcloud.clock import Thread
from localcloud.context import Context
from localcloud.services.loop import Loop
from localcloud.services.pubsub.broker import Broker, Waiting
from localcloud.services.pubsub.models import RetryPolicy
from localcloud.services.pubsub.pacing import Pacing
from localcloud.store import Json

_log = logging.getLogger(__name__)
_ACCEPTED = frozenset({102, 200, 201, 202, 204})
USER_AGENT = "CloudPubSub-Google"  # what real pushes call themselves
_AT_ONCE = 16
_STOP_SECONDS = 5.0


@dataclass(frozen=True)
class Push:
    """One delivery to be made."""

    subscription: str
    endpoint: str
    deadline: float
    pacing: Pacing
    waiting: Waiting

    def body(self) -> Json:
        """The envelope of a push, with both spellings of its ids, as Google sends it."""
        message = self.waiting.message
        again = {"message_id": message["messageId"], "publish_time": message["publishTime"]}
        return {"subscription": self.subscription, "message": message | again}


class Deliverer:
    """One loop that finds what is due, and a thread for each delivery under way."""

    def __init__(self, context: Context, broker: Broker) -> None:
        self.broker = broker
        self._context = context
        self._loop = Loop("pubsub-deliverer", context.clock, self._step)
        self._flying: dict[str, Thread] = {}
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._http = httpx.Client(
            transport=context.pushes,
            trust_env=False,
            follow_redirects=False,
            headers={"user-agent": USER_AGENT},
        )
        broker.listeners.append(self._loop.poke)

    def start(self) -> None:
        self._loop.start()

    def stop(self) -> None:
        """Deliveries under way have some seconds to end; the others are made again at the next start."""
        self._loop.stop()
        with self._lock:
            flying = list(self._flying.values())
        for thread in flying:
            thread.join(_STOP_SECONDS / len(flying))
        self._closed.set()
        self._http.close()

    def _step(self) -> float | None:
        """Send off what is due; returns the seconds until the next message is."""
        now = self._context.clock.now()
        next_due: float | None = None
        for push in self._pushes():
            wait = (push.waiting.due - now).total_seconds()
            if wait > 0:
                next_due = wait if next_due is None else min(next_due, wait)
            elif not self._launch(push):
                break  # a delivery that ends pokes the loop
        return next_due

    def _pushes(self) -> Iterator[Push]:
        # Taken before the backlog is read: what ends in between is then neither here nor sent again.
        with self._lock:
            flying = set(self._flying)
        for name, body in self.broker.push_subscriptions():
            policy = body.get("retryPolicy")
            pacing = Pacing.of(RetryPolicy.model_validate(policy) if policy else None)
            for waiting in self.broker.backlog(name, body):
                if waiting.key not in flying:
                    endpoint = body["pushConfig"]["pushEndpoint"]
                    yield Push(name, endpoint, float(body["ackDeadlineSeconds"]), pacing, waiting)

    def _launch(self, push: Push) -> bool:
        """False if too many deliveries are under way."""
        thread = self._context.clock.thread(lambda: self._deliver(push), "pubsub-push")
        with self._lock:
            if len(self._flying) >= _AT_ONCE:
                return False
            self._flying[push.waiting.key] = thread
        thread.start()
        return True

    def _deliver(self, push: Push) -> None:
        try:
            accepted = self._post(push)
            if self._closed.is_set():
                return  # the store may be closed by now
            if accepted:
                self.broker.settle(push.waiting)
            else:
                pause = push.pacing.delay(push.waiting.attempts + 1)
                self.broker.postpone(push.waiting, self._context.clock.now() + timedelta(seconds=pause))
        finally:
            with self._lock:
                self._flying.pop(push.waiting.key, None)
            self._loop.poke()

    def _post(self, push: Push) -> bool:
        try:
            answer = self._http.post(push.endpoint, json=push.body(), timeout=push.deadline)
        except httpx.HTTPError as error:
            _log.info("push to %s failed: %s", push.endpoint, error)
            return False
        if answer.status_code not in _ACCEPTED:
            _log.info("push to %s was answered with %s", push.endpoint, answer.status_code)
        return answer.status_code in _ACCEPTED
