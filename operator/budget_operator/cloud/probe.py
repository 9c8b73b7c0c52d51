"""Real requests through a deployment's public URL: the only proof that it serves.

The other side is a VM running somebody's model, and may answer anything: time and size are bounded and its
words are cleaned. What an outcome means for the deployment is `core.serving`'s business.
"""

import json
import ssl
import time
from dataclasses import replace
from functools import lru_cache

import httpx

from budget_operator.cloud.guest import clean
from budget_operator.core.gateways import Door
from budget_operator.core.observed import Probe

_CONNECT_SECONDS = 3.0
_READY_SECONDS = 5.0
_PREDICT_SECONDS = 30.0
_BODY_LIMIT = 64 * 1024
_QUOTED = 200
# Nothing compressed: a small answer must not unfold into a large one.
_HEADERS = {"Accept-Encoding": "identity"}


class HttpProber:
    """`core.gateways.Prober` over httpx; through `transport`, or else the network."""

    def __init__(self, transport: httpx.BaseTransport | None = None) -> None:
        self._transport = transport

    def ready(self, door: Door) -> Probe:
        """Whether the front door, its certificate and the model's workers answer."""
        probe, body = self._ask(_request(door, "GET", "/healthz/ready"), door, _READY_SECONDS)
        return replace(probe, revision=_revision(body))

    def predict(self, door: Door, token: str, payload: object) -> Probe:
        """A prediction with the user's own example."""
        request = _request(door, "POST", "/predict_dict", {"payload": payload})
        request.headers["Authorization"] = f"Bearer {token}"
        return self._ask(request, door, _PREDICT_SECONDS)[0]

    def _ask(self, request: httpx.Request, door: Door, seconds: float) -> tuple[Probe, bytes]:
        what = f"{request.method} {request.url.path}"
        try:
            context = _context(door.ca, public=door.public)
        except ssl.SSLError:
            return Probe(False, "the certificate authority reported by the VM is not readable"), b""
        timeout = httpx.Timeout(seconds, connect=_CONNECT_SECONDS)
        try:
            # trust_env off: neither a proxy nor a .netrc of the operator's pod is for this request.
            with httpx.Client(
                verify=context, timeout=timeout, trust_env=False, transport=self._transport
            ) as client:
                response = client.send(request, stream=True)
                body = _body(response, time.monotonic() + seconds)
                response.close()
        except httpx.TimeoutException as error:
            limit = _CONNECT_SECONDS if isinstance(error, httpx.ConnectTimeout) else seconds
            return Probe(False, f"{what}: no answer within {limit:.0f} s"), b""
        except httpx.HTTPError as error:
            return Probe(False, f"{what}: {_cause(error)}"), b""
        message = f"{what}: status {response.status_code}"
        if not response.is_success:
            message += f": {clean(body.decode(errors='replace'))[:_QUOTED]}"
        return Probe(response.is_success, message, certificate_ok=request.url.scheme == "https"), body


def _request(door: Door, method: str, path: str, content: object = None) -> httpx.Request:
    """To the known address under the public name: whether the name leads there is what the VM looks at."""
    public = httpx.URL(f"{door.url}{path}")
    return httpx.Request(
        method,
        public.copy_with(host=door.ip),
        json=content,
        headers={**_HEADERS, "Host": public.netloc.decode("ascii")},
        extensions={"sni_hostname": public.host},
    )


@lru_cache(maxsize=256)
def _context(ca: str, *, public: bool) -> ssl.SSLContext:
    """TLS settings that trust `ca`, the public authorities, or both."""
    if not public:
        return ssl.create_default_context(cadata=ca)
    context = httpx.create_ssl_context(trust_env=False)
    if ca:
        context.load_verify_locations(cadata=ca)
    return context


def _body(response: httpx.Response, deadline: float) -> bytes:
    """The beginning of the body; a VM that trickles or floods does not hold the operator up."""
    read = b""
    for chunk in response.iter_raw():
        read += chunk
        if len(read) >= _BODY_LIMIT or time.monotonic() > deadline:
            break
    return read[:_BODY_LIMIT]


def _cause(error: Exception) -> str:
    """What failed below httpx: TLS, a refused connection, a name that does not resolve."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ssl.SSLCertVerificationError):
            return f"the certificate is not valid: {seen.verify_message}"
        if isinstance(seen, ssl.SSLError):
            return f"TLS failed: {seen.reason or seen}"
        if isinstance(seen, ConnectionRefusedError):
            return "connection refused"
        seen = seen.__cause__ or seen.__context__
    return clean(str(error))[:_QUOTED] or type(error).__name__


def _revision(body: bytes) -> str | None:
    """The revision a JSON answer names, if it does."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None
    revision = found.get("revision") if isinstance(found, dict) else None
    return clean(revision)[:64] if isinstance(revision, str) else None
