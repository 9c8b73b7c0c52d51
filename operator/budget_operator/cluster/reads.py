"""GET requests to the API server over connections that stay open, one for each thread.

The generated client takes three times as long for the same; where thousands of deployments refer to a Secret
each, that is most of what there is to do. What is read, and what failures mean, is in `kube`.
"""

import socket
import ssl
import threading
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from budget_operator.cluster.access import Access
from budget_operator.exchange import exchange, exchange_all, request

PORTS = {"https": 443, "http": 80}


class Reads:
    """Safe to share between threads. The authorization comes with each request: tokens are replaced."""

    def __init__(self, access: Access) -> None:
        self._server = urlsplit(access.server)
        self._context = _context(access) if self._server.scheme == "https" else None
        self._kept = threading.local()

    def get(self, target: str, headers: Mapping[str, str], timeout: tuple[float, float]) -> tuple[int, bytes]:
        """Status and body. `timeout`: seconds to connect, and to wait for an answer.

        Raises:
            OSError: no answer.
        """
        kept = self._taken()
        sent = request("GET", target, {"Host": self._server.netloc, **headers})
        if kept is not None:
            try:
                return self._ask(kept, sent)
            except TimeoutError:
                raise
            except OSError:
                pass  # the server has closed it meanwhile: a read may be made again
        return self._ask(self._connected(timeout), sent)

    def get_all(
        self, targets: Sequence[str], headers: Mapping[str, str], timeout: tuple[float, float]
    ) -> list[tuple[int, bytes]]:
        """Statuses and bodies, in order, asked for at once; fewer where the connection breaks off.

        Raises:
            OSError: there is no connection.
        """
        sent = [request("GET", target, {"Host": self._server.netloc, **headers}) for target in targets]
        kept = self._taken()
        answers = [] if kept is None else self._ask_all(kept, sent)
        # The server closes a connection that was idle for long: nothing came, and reads may be made again.
        return answers or self._ask_all(self._connected(timeout), sent)

    def _ask_all(self, connection: socket.socket, sent: Sequence[bytes]) -> list[tuple[int, bytes]]:
        answers, reusable = exchange_all(connection, sent)
        if reusable:
            self._kept.connection = connection
        else:
            connection.close()
        return [(answer.status, answer.body) for answer in answers]

    def _taken(self) -> socket.socket | None:
        found: socket.socket | None = getattr(self._kept, "connection", None)
        self._kept.connection = None
        return found

    def _ask(self, connection: socket.socket, sent: bytes) -> tuple[int, bytes]:
        try:
            answer = exchange(connection, sent)
        except BaseException:
            connection.close()
            raise
        if answer.reusable:
            self._kept.connection = connection
        else:
            connection.close()
        return answer.status, answer.body

    def _connected(self, timeout: tuple[float, float]) -> socket.socket:
        host, port = self._server.hostname or "", self._server.port or PORTS[self._server.scheme]
        made = socket.create_connection((host, port), timeout[0])
        try:
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._context is not None:
                made = self._context.wrap_socket(made, server_hostname=host)
            made.settimeout(timeout[1])
        except BaseException:
            made.close()
            raise
        return made


def _context(access: Access) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=access.ca_file or None)
    if not access.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if access.certificate_file:
        context.load_cert_chain(access.certificate_file, access.key_file or None)
    return context
