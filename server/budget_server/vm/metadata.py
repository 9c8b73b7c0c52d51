"""Client of the instance's metadata server: attributes, preemption, address, access token, guest attributes.

It answers 503 now and then and is briefly away while the host migrates, so reads are retried here; what the
values mean is the business of the callers.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import httpx

from budget_server.vm.plain import TRUSTS_NOBODY

WAIT_SECONDS = 60
GUEST_NAMESPACE = "budgetml"
_RETRIES = 6


class MetadataUnavailable(Exception):
    """The metadata server did not answer, or not with what was asked for."""


@dataclass(frozen=True)
class Attribute:
    """Value and etag of one entry; no value where the instance does not carry it."""

    value: str | None
    etag: str


class MetadataServer:
    """One per process; safe to use from several threads."""

    def __init__(self, host: str, pause: Callable[[float], object] = time.sleep) -> None:
        self._pause = pause
        self._http = httpx.Client(
            base_url=f"http://{host}/computeMetadata/v1/instance/",
            headers={"Metadata-Flavor": "Google"},
            timeout=httpx.Timeout(10, connect=5),
            trust_env=False,  # never through a proxy
            verify=TRUSTS_NOBODY,
        )

    def attribute(self, name: str) -> Attribute:
        return self._entry(f"attributes/{name}")

    def changed_attribute(self, name: str, etag: str, wait_seconds: int = WAIT_SECONDS) -> Attribute:
        """The attribute once it differs from `etag`, or unchanged after `wait_seconds`."""
        return self._changed(f"attributes/{name}", etag, wait_seconds)

    def preempted(self, etag: str = "") -> Attribute:
        """TRUE once Google has said that it takes this VM away; with an etag, waited for as above."""
        return self._changed("preempted", etag, WAIT_SECONDS) if etag else self._entry("preempted")

    def external_ip(self) -> str:
        """The public address, or the private one of an instance without."""
        return self.public_ip() or self._checked(self._get("network-interfaces/0/ip")).text.strip()

    def public_ip(self) -> str | None:
        """The public address; None of an instance without."""
        response = self._get("network-interfaces/0/access-configs/0/external-ip")
        if response.status_code == 404:
            return None
        return self._checked(response).text.strip() or None

    def machine_type(self) -> str:
        """The name of the machine's type, such as e2-medium."""
        return self._checked(self._get("machine-type")).text.strip().rpartition("/")[2]

    def access_token(self) -> str:
        response = self._checked(self._get("service-accounts/default/token"))
        try:
            return str(response.json()["access_token"])
        except (ValueError, KeyError, TypeError) as error:
            raise MetadataUnavailable("The metadata server gave no access token.") from error

    def publish(self, key: str, value: str) -> None:
        """Set a guest attribute, once; whoever calls decides about another try."""
        try:
            response = self._http.put(f"guest-attributes/{GUEST_NAMESPACE}/{key}", content=value.encode())
        except httpx.HTTPError as error:
            raise MetadataUnavailable(f"Guest attribute {key} was not taken: {error}") from error
        self._checked(response)

    def close(self) -> None:
        self._http.close()

    def _changed(self, path: str, etag: str, wait_seconds: int) -> Attribute:
        query = {"wait_for_change": "true", "last_etag": etag, "timeout_sec": str(wait_seconds)}
        return self._entry(path, query, timeout=wait_seconds + 15)

    def _entry(self, path: str, query: dict[str, str] | None = None, timeout: float = 10) -> Attribute:
        response = self._get(path, query, timeout)
        if response.status_code == 404:
            return Attribute(None, "")
        return Attribute(self._checked(response).text, response.headers.get("etag", ""))

    def _get(self, path: str, query: dict[str, str] | None = None, timeout: float = 10) -> httpx.Response:
        cause = ""
        for attempt in range(_RETRIES):
            if attempt:
                self._pause(min(0.25 * 2**attempt, 5))
            try:
                response = self._http.get(path, params=query, timeout=httpx.Timeout(timeout, connect=5))
            except httpx.HTTPError as error:
                cause = str(error) or type(error).__name__
                continue
            if response.status_code < 500 and response.status_code != 429:
                return response
            cause = f"HTTP {response.status_code}"
        raise MetadataUnavailable(f"The metadata server did not deliver {path}: {cause}")

    @staticmethod
    def _checked(response: httpx.Response) -> httpx.Response:
        if response.is_success:
            return response
        path, status = response.url.path, response.status_code
        raise MetadataUnavailable(f"The metadata server answered {status} for {path}")
