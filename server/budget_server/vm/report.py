"""Tells the operator what goes on here: guest attributes `budgetml/{state,ca,certificate,notice}`.

Written by a thread of its own, the latest value of each key only, tried until it is taken: telling must never
hold up serving.
"""

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from budget_server.vm.metadata import MetadataUnavailable
from budget_server.vm.process import log
from budget_server.vm.revisions import Failure
from budget_server.vm.room import NO_USAGE, Usage

_RETRY_MOST = 30.0
_TOLD = {"revision", "reason", "message", "log"}


@dataclass(frozen=True)
class State:
    """What stands in `budgetml/state`."""

    phase: str = "boot"
    target: str = ""
    active: str | None = None
    boot: dict[str, float] = field(default_factory=dict)
    failure: Failure | None = None
    #: The revision before which another one was stopped, because memory does not hold two.
    recreated: str | None = None
    usage: Usage = NO_USAGE

    def to_json(self, now: float) -> str:
        failure = self.failure and self.failure.model_dump(include=_TOLD)
        document: dict[str, object] = {
            "phase": self.phase,
            "target": self.target,
            "active": self.active,
            "boot": {name: round(seconds, 2) for name, seconds in self.boot.items()},
            "failure": failure,
            "at": int(now),
        }
        if self.recreated:
            document["recreated"] = self.recreated
        document |= self.usage.document()
        return json.dumps(document, ensure_ascii=False, separators=(",", ":"))


class Reporter:
    """Holds the state and keeps the guest attributes up with it."""

    def __init__(self, publish: Callable[[str, str], None], clock: Callable[[], float] = time.time) -> None:
        self._publish = publish
        self._clock = clock
        self._changed = threading.Condition()
        self._state = State()
        self._pending: dict[str, str] = {}
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="report", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def update(self, **changes: object) -> None:
        """Change some of the state's fields."""
        with self._changed:
            self._set(replace(self._state, **changes))  # type: ignore[arg-type]

    def took(self, phase: str, seconds: float) -> None:
        """Note the seconds of one phase of the boot."""
        with self._changed:
            self._set(replace(self._state, boot={**self._state.boot, phase: seconds}))

    def certificate_authority(self, pem: str) -> None:
        """The root to trust; empty where everybody knows whom to trust, or nobody needs to."""
        self._tell("ca", pem)

    def certificate(self, document: str) -> None:
        self._tell("certificate", document)

    def notice(self) -> None:
        """Google has said that it takes this VM away."""
        self._tell("notice", json.dumps({"at": int(self._clock())}, separators=(",", ":")))

    def _tell(self, key: str, value: str) -> None:
        with self._changed:
            self._pending[key] = value
            self._changed.notify()

    def close(self, seconds: float) -> None:
        """Stop; what is still unwritten gets this long."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(seconds)

    def _set(self, state: State) -> None:
        self._state = state
        self._pending["state"] = state.to_json(self._clock())
        self._changed.notify()

    def _run(self) -> None:
        failures = 0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closing or self._pending)
                taken, self._pending = self._pending, {}
                if not taken:
                    return
            left = self._write(taken)
            failures = failures + 1 if left else 0
            with self._changed:
                # a newer value replaces the one that was not taken
                self._pending = {**left, **self._pending}
                if left and self._closing:
                    return
                if left:
                    pause = min(2.0 ** min(failures - 1, 32), _RETRY_MOST)
                    self._changed.wait_for(lambda: self._closing, timeout=pause)

    def _write(self, values: dict[str, str]) -> dict[str, str]:
        left = {}
        for key, value in values.items():
            try:
                self._publish(key, value)
            except MetadataUnavailable as error:
                log(str(error))
                left[key] = value
        return left
