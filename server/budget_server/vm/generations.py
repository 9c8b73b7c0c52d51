"""Generations of the web side: one set of gunicorn workers each, on a socket of its own.

Started under the model's user with the highest oom score, so that a generation still loading is what a full
machine ends, never the one that serves. Which one answers callers is decided in `converge`.
"""

import json
import os
import stat
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from dataclasses import dataclass
from pathlib import Path

import httpx

from budget_server.vm import room
from budget_server.vm.artifact import TOKEN_PURPOSE, Artifact, derive
from budget_server.vm.config import Server
from budget_server.vm.errors import (
    Died,
    DiskFull,
    Interrupted,
    LoadFailed,
    OutOfMemory,
    ReadinessFailed,
    RolloutError,
    Unanswered,
)
from budget_server.vm.plain import TRUSTS_NOBODY
from budget_server.vm.process import EXPENDABLE, Child, Identity, Masker, describe_exit, members

#: An old generation is still asked by requests that were under way when the front door switched.
SWITCH_SECONDS = 2.0
DRAIN_MOST_SECONDS = 300.0
_POLL_SECONDS = 0.1
_FAILURE_BYTES = 65536
_TOLD_LIMIT = 500
#: What the web side may tell of itself; any other reason is a failed load.
_TOLD: Mapping[str, type[RolloutError]] = {
    "OutOfMemory": OutOfMemory,
    "DiskFull": DiskFull,
    "WorkerDied": Died,
}
_SETTLE = 'score=$1; shift; for pid; do echo "$score" >"/proc/$pid/oom_score_adj"; done'


@dataclass(frozen=True)
class Launch:
    """All that a generation is started with."""

    artifact: Artifact
    python: Path
    key: bytes
    base_env: Mapping[str, str]
    #: Where temporary files belong, on the disk; removed with the generation.
    scratch: Path | None = None

    @property
    def signing_key(self) -> str:
        """Who knows it can log in as anybody."""
        return derive(self.key, TOKEN_PURPOSE).hex()

    @property
    def secrets(self) -> tuple[str, ...]:
        """What the web side is given and must not appear in any log."""
        return (*self.artifact.secrets.values(), self.signing_key)


def web_environment(launch: Launch, failure_file: Path) -> dict[str, str]:
    """The environment of gunicorn: what the container has, the user's own, and the web side's settings."""
    artifact, manifest, secrets = launch.artifact, launch.artifact.manifest, launch.artifact.secrets
    path = f"{launch.python.parent}{os.pathsep}{launch.base_env.get('PATH', os.defpath)}"
    return {
        **launch.base_env,
        "PATH": path,
        **({"TMPDIR": str(launch.scratch)} if launch.scratch else {}),
        **secrets.env,
        "BUDGET_USERNAME": secrets.username,
        "BUDGET_PWD": secrets.password,
        "BUDGET_TOKEN": secrets.token,
        "BUDGET_SIGNING_KEY": launch.signing_key,
        "BUDGET_TOKEN_TTL": str(manifest.token_ttl_seconds),
        "BUDGET_NAME": manifest.deployment,
        "BUDGET_REVISION": artifact.config.revision,
        "BUDGET_ENTRYPOINT": manifest.entrypoint,
        "BUDGET_CODE_DIR": str(artifact.code_dir),
        **_server_environment(manifest.server),
        "BUDGET_FAILURE_FILE": str(failure_file),
    }


def _server_environment(server: Server) -> dict[str, str]:
    return {
        "BUDGET_WORKERS": str(server.workers),
        "BUDGET_THREADS": str(server.threads),
        "BUDGET_MAX_CONCURRENCY": str(server.max_concurrency),
        "BUDGET_MAX_QUEUE": str(server.max_queue),
        "BUDGET_MAX_BODY_MIB": str(server.max_body_mib),
        "BUDGET_BATCH_SIZE": str(server.batch.max_size),
        "BUDGET_BATCH_WINDOW_MS": str(server.batch.window_milliseconds),
        "BUDGET_CORS_ORIGINS": " ".join(server.cors_origins),
    }


class Generation:
    """A running set of workers for one revision."""

    def __init__(self, number: int, launch: Launch, run_dir: Path, identity: Identity) -> None:
        self._launch = launch
        self._identity = identity
        self._mask = Masker(launch.secrets)
        place = run_dir / f"generation-{number}"
        identity.remove(place)
        self.place = identity.own(place)
        self.revision = launch.artifact.config.revision
        self.socket = place / "http.sock"
        self._failure_file = place / "failure.json"
        self._started = time.monotonic()
        if launch.scratch:
            identity.remove(launch.scratch)
            identity.own(launch.scratch)
        self._child = Child(
            [*EXPENDABLE, *self._command()],
            env=web_environment(launch, self._failure_file),
            identity=identity,
            cwd=launch.artifact.code_dir,
            mask=self._mask,
        )

    @property
    def ended(self) -> str | None:
        """How it ended, for people; None while it runs."""
        code = self._child.exit_code
        return None if code is None else describe_exit(code)

    @property
    def age(self) -> float:
        return time.monotonic() - self._started

    def tail(self) -> str:
        return self._child.tail()

    def memory(self) -> int:
        """Bytes that it uses now."""
        return room.used(members(self._child.pid))

    def workers(self) -> tuple[int, ...]:
        """The processes behind gunicorn's own."""
        return tuple(pid for pid in members(self._child.pid) if pid != self._child.pid)

    def wait_ready(self, given_up: Callable[[], bool]) -> None:
        """Return once the model is loaded and has answered the readiness payload."""
        readiness = self._launch.artifact.manifest.readiness
        deadline = self._started + readiness.startup_seconds
        with self._client() as client:
            while not self._answers_ready(client):
                self._check(given_up)
                if time.monotonic() > deadline:
                    seconds = f"{readiness.startup_seconds:.0f} s"
                    raise LoadFailed(f"The model was not loaded within {seconds}", self._last_words())
                time.sleep(_POLL_SECONDS)
            if readiness.payload is not None:
                self._predict(client, readiness.payload, max(deadline - time.monotonic(), 1), given_up)

    def settle(self) -> None:
        """It serves now: give it back the oom score of everybody else."""
        score = Path("/proc/self/oom_score_adj").read_text().strip()
        pids = [str(pid) for pid in members(self._child.pid)]
        self._identity.run(["/bin/sh", "-c", _SETTLE, "sh", score, *pids])

    def retire(self) -> threading.Thread:
        """End it in the background, once the requests under way have had their time."""
        thread = threading.Thread(target=self._drain, name=f"drain {self.place.name}", daemon=True)
        thread.start()
        return thread

    def terminate(self) -> None:
        """Begin to end it; `stop` waits for that."""
        self._child.terminate()

    def stop(self, seconds: float) -> None:
        """End it within these seconds, gracefully if they suffice."""
        self._child.terminate()
        if not self._child.wait(seconds):
            self._child.kill()

    def discard(self) -> None:
        """End it at once; it never served."""
        self._child.kill()
        self._clear()

    def _command(self) -> list[str]:
        options = ["-c", "python:budget_server.gunicorn_conf", "--bind", f"unix:{self.socket}"]
        return [str(self._launch.python), "-m", "gunicorn", *options, "budget_server.app:app"]

    def _client(self) -> httpx.Client:
        transport = httpx.HTTPTransport(verify=TRUSTS_NOBODY, uds=str(self.socket))
        return httpx.Client(transport=transport, base_url="http://localhost", timeout=2)

    @staticmethod
    def _answers_ready(client: httpx.Client) -> bool:
        try:
            return client.get("/healthz/ready").status_code == 200
        except httpx.HTTPError:
            return False

    def _check(self, given_up: Callable[[], bool]) -> None:
        if given_up():
            raise Interrupted
        if told := self._told_failure():
            raise told
        if ended := self.ended:
            # told just before it ended, perhaps
            raise self._told_failure() or Died(f"The server {ended} while loading", self.tail())

    def _told_failure(self) -> RolloutError | None:
        """What the web side wrote about its failure. It is the model's word: bounded, and never followed."""
        try:
            descriptor = os.open(self._failure_file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            return None
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return None
            try:
                told = json.loads(file.read(_FAILURE_BYTES))
                message, log = str(told["message"]), str(told.get("log") or "")
                kind = _TOLD.get(str(told.get("reason")), LoadFailed)
            except (ValueError, KeyError, TypeError, AttributeError):
                return None  # half written
        return kind(self._mask(message)[:_TOLD_LIMIT], self._mask(log) or self.tail())

    def _predict(
        self, client: httpx.Client, payload: object, seconds: float, given_up: Callable[[], bool]
    ) -> None:
        token = self._launch.artifact.secrets.token.encode()
        headers = {b"Authorization": b"Bearer " + token}

        def post() -> httpx.Response:
            return client.post("/predict_dict", json={"payload": payload}, headers=headers, timeout=seconds)

        pool = ThreadPoolExecutor(1, thread_name_prefix="readiness")
        asked = pool.submit(post)
        pool.shutdown(wait=False)
        try:
            response = self._patiently(asked, given_up)
        except httpx.HTTPError as error:
            cause = str(error) or type(error).__name__
            message = f"The prediction with readiness.payload failed: {cause}"
            raise Unanswered(message, self._last_words()) from error
        if response.status_code != 200:
            answer = self._mask(response.text)[:_TOLD_LIMIT]
            message = f"The prediction with readiness.payload answered {response.status_code}: {answer}"
            raise ReadinessFailed(message, self._last_words())

    def _patiently(self, asked: "Future[httpx.Response]", given_up: Callable[[], bool]) -> httpx.Response:
        while True:
            try:
                return asked.result(timeout=_POLL_SECONDS)
            except NotYet:
                if asked.done():
                    raise
                if given_up():
                    raise Interrupted from None

    def _last_words(self) -> str:
        """Ends it, so that all it said has been read: its answer arrives before its log does."""
        self._child.kill()
        return self.tail()

    def _drain(self) -> None:
        time.sleep(SWITCH_SECONDS)
        self.stop(DRAIN_MOST_SECONDS)
        self._clear()

    def _clear(self) -> None:
        for path in (self.place, self._launch.scratch):
            if path:
                self._identity.remove(path)
