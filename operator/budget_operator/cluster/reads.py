"""GET requests to the API server over connections that stay open, one for each thread.

The generated client takes three times as long for the same; where thousands of deployments refer to a Secret
each, that is most of what there is to do. What is read, and what failures mean, is in `kube`.
"""

import http.client
import ssl
import threading
from collections.abc import Mapping
from urllib.parse import urlsplit

from budget_operator.cluster.access import Access


class Reads:
    """Safe to share between threads. The authorization comes with each request: tokens are replaced."""

    def __init__(self, access: Access) -> None:
        self._server = urlsplit(access.server)
        self._context = _context(access) if self._server.scheme == "https" else None
        self._kept = threading.local()

    def get(self, target: str, headers: Mapping[str, str], timeout: tuple[float, float]) -> tuple[int, bytes]:
        """Status and body. `timeout`: seconds to connect, and to wait for an answer.

        Raises:
            OSError, http.client.HTTPException: no answer.
        """
        kept: http.client.HTTPConnection | None = getattr(self._kept, "connection", None)
        if kept is not None:
            try:
                return self._ask(kept, target, headers)
            except TimeoutError:
                raise
            except (OSError, http.client.HTTPException):
                pass  # the server has closed it meanwhile: a read may be made again
        return self._ask(self._connected(timeout), target, headers)

    def _ask(
        self, connection: http.client.HTTPConnection, target: str, headers: Mapping[str, str]
    ) -> tuple[int, bytes]:
        self._kept.connection = None
        try:
            connection.request("GET", target, headers=dict(headers))
            answer = connection.getresponse()
            body = answer.read()
        except BaseException:
            connection.close()
            raise
        if not answer.will_close:
            self._kept.connection = connection
        return answer.status, body

    def _connected(self, timeout: tuple[float, float]) -> http.client.HTTPConnection:
        host, port = self._server.hostname or "", self._server.port
        made: http.client.HTTPConnection
        if self._context is None:
            made = http.client.HTTPConnection(host, port, timeout=timeout[0])
        else:
            made = http.client.HTTPSConnection(host, port, timeout=timeout[0], context=self._context)
        made.connect()
        made.sock.settimeout(timeout[1])
        return made


def _context(access: Access) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=access.ca_file or None)
    if not access.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if access.certificate_file:
        context.load_cert_chain(access.certificate_file, access.key_file or None)
    return context
