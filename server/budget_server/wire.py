"""A complete answer in one write, where uvicorn takes two messages and looks at every header.

Only for answers this server makes itself, and only straight to uvicorn's own `send`: whatever stands between
(CORS, a test client) is asked the ordinary way.
"""

from collections.abc import Sequence

from starlette.types import Send
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from budget_server.results import Encoded

MOST_BYTES = 64 * 1024
"""Larger bodies are not copied to stand beside their head."""

Headers = Sequence[tuple[bytes, bytes]]


class _Head:
    """The first lines of every 200; uvicorn makes its own headers (the date) anew each second."""

    def __init__(self) -> None:
        self._of: Headers = ()
        self._lines = b""

    def lines(self, headers: Headers) -> bytes:
        if headers is not self._of:
            own = b"".join(b"%b: %b\r\n" % header for header in headers)
            self._of, self._lines = headers, b"HTTP/1.1 200 OK\r\n%bcontent-type: " % own
        return self._lines


_head = _Head()


def sent_at_once(send: Send, answer: Encoded) -> bool:
    """Whether it could be done: the 200 is written and the request is over."""
    cycle = getattr(send, "__self__", None)
    body, media_type = answer
    if type(cycle) is not RequestResponseCycle or len(body) > MOST_BYTES:
        return False
    busy = cycle.flow.write_paused or cycle.disconnected or cycle.response_started
    if busy or cycle.access_log or not cycle.keep_alive:
        return False
    cycle.response_started = cycle.response_complete = True
    cycle.transport.write(
        b"%b%b\r\ncontent-length: %d\r\n\r\n%b"
        % (_head.lines(cycle.default_headers), media_type, len(body), body)
    )
    cycle.message_event.set()
    cycle.on_response()
    return True
