"""The copy of account, certificates and ledger in the bucket, sealed for this deployment alone.

It is read once, by a boot whose disk has none, and written after each change by a thread of its own: the
bucket being away must never hold up serving.
"""

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import quote

import httpx
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from budget_server.vm.artifact import derive
from budget_server.vm.config import BudgetConfig
from budget_server.vm.metadata import MetadataUnavailable
from budget_server.vm.process import log

PURPOSE = b"budgetml/certificates/v1"
_NONCE_BYTES = 12
_MOST_BYTES = 1 << 20
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 300.0


class CopyUnreachable(Exception):
    """The bucket did not answer, or not with yes or no."""


class CopyUnreadable(Exception):
    """What lies there was not sealed by this deployment, or was changed since."""


def seal(plain: bytes, key: bytes, deployment: str) -> bytes:
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + AESGCM(derive(key, PURPOSE)).encrypt(nonce, plain, deployment.encode())


def unseal(sealed: bytes, key: bytes, deployment: str) -> bytes:
    try:
        cipher = AESGCM(derive(key, PURPOSE))
        return cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], deployment.encode())
    except (InvalidTag, ValueError):
        raise CopyUnreadable("it does not open with this VM's budget-key") from None


@dataclass(frozen=True)
class Place:
    """Where the copy lies."""

    storage: str
    bucket: str
    deployment: str

    @classmethod
    def of(cls, config: BudgetConfig) -> "Place":
        return cls(config.storage, config.bucket, config.deployment)

    @property
    def name(self) -> str:
        return f"state/{self.deployment}/certificates.sealed"

    def read(self, token: str) -> bytes | None:
        """The copy; None if there is none."""
        url = f"{self.storage}/storage/v1/b/{quote(self.bucket, safe='')}/o/{quote(self.name, safe='')}"
        try:
            answer = httpx.get(url, params={"alt": "media"}, headers=_authorization(token), timeout=15)
            if answer.status_code == 404:
                return None
            content = answer.raise_for_status().content
        except httpx.HTTPError as error:
            raise CopyUnreachable(str(error)) from error
        return content if len(content) <= _MOST_BYTES else b""

    def write(self, token: str, content: bytes) -> None:
        url = f"{self.storage}/upload/storage/v1/b/{quote(self.bucket, safe='')}/o"
        params = {"uploadType": "media", "name": self.name}
        headers = _authorization(token) | {"Content-Type": "application/octet-stream"}
        try:
            httpx.post(url, params=params, headers=headers, content=content, timeout=30).raise_for_status()
        except httpx.HTTPError as error:
            raise CopyUnreachable(str(error)) from error


def _authorization(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


class Uploader:
    """Writes the latest content only, until it is taken."""

    def __init__(
        self,
        token: Callable[[], str],
        key: Callable[[], bytes],
        written: Callable[[bytes], None],
        stopping: threading.Event,
    ) -> None:
        self._token = token
        self._key = key
        self._written = written
        self._stopping = stopping
        self._changed = threading.Condition()
        self._pending: tuple[Place, bytes] | None = None
        threading.Thread(target=self._run, name="copy of certificates", daemon=True).start()

    def put(self, place: Place, plain: bytes) -> None:
        with self._changed:
            self._pending = (place, plain)
            self._changed.notify()

    def _run(self) -> None:
        pause = _FIRST_PAUSE
        while not self._stopping.is_set():
            with self._changed:
                self._changed.wait_for(lambda: self._pending is not None)
                taken = self._pending
            assert taken
            try:
                place, plain = taken
                place.write(self._token(), seal(plain, self._key(), place.deployment))
                self._written(plain)
            except (CopyUnreachable, MetadataUnavailable, OSError, ValueError) as error:
                log(f"The copy of the certificates was not written, again in {pause:.0f} s: {error}")
                self._stopping.wait(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)
                continue
            pause = _FIRST_PAUSE
            with self._changed:
                if self._pending is taken:
                    self._pending = None
