"""A proxy between an operator and the API server, in which bad things happen to chosen requests."""

import http.client
import json
import re
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit


def status(code: int, reason: str, message: str) -> dict[str, Any]:
    """A failure in the API server's words."""
    kind = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
    return {**kind, "code": code, "reason": reason, "message": message}


@dataclass
class Refusal:
    """What matching requests are answered with, and how many were."""

    method: str
    path: re.Pattern[str]
    answer: dict[str, Any]
    count: int = 0


@dataclass(eq=False)
class Stream:
    """An open watch. A silent one swallows all, and so does one that is over."""

    handler: "Handler"
    lock: threading.Lock = field(default_factory=threading.Lock)
    silent: bool = False
    over: bool = False

    def send(self, data: bytes) -> None:
        """One chunk; no bytes end the stream."""
        with self.lock:
            if not self.silent and not self.over:
                self.handler.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
                self.over = not data


class Proxy:
    """Speaks HTTP to the operator and HTTPS to the API server; tokens pass through."""

    def __init__(self, server: str, authority: Path) -> None:
        self.upstream = str(urlsplit(server).netloc)
        self.tls = ssl.create_default_context(cafile=authority)
        self.refusals: list[Refusal] = []
        self.streams: set[Stream] = set()
        self.rewound = False
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"proxy": self}))
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, name="proxy", daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    @contextmanager
    def refusing(self, method: str, path: str, code: int, reason: str, message: str) -> Iterator[Refusal]:
        """While this lasts, matching requests do not reach the API server."""
        refusal = Refusal(method, re.compile(path), status(code, reason, message))
        self.refusals.append(refusal)
        try:
            yield refusal
        finally:
            self.refusals.remove(refusal)

    def silence(self) -> int:
        """From now on the open streams, as many as are returned, pass nothing on and are not closed."""
        streams = list(self.streams)
        for stream in streams:
            with stream.lock:
                stream.silent = True
        return len(streams)

    def end_streams(self, event: dict[str, Any]) -> int:
        """A last event for each open stream."""
        streams = list(self.streams)
        for stream in streams:
            stream.send(json.dumps(event).encode() + b"\n")
            stream.send(b"")
        return len(streams)

    def rewind(self) -> None:
        """The next watch asks for changes since the beginning of time: too old for any API server."""
        self.rewound = True


class Handler(BaseHTTPRequestHandler):
    """One connection of the operator."""

    proxy: Proxy
    protocol_version = "HTTP/1.1"

    def handle_one_request(self) -> None:
        """An API server that is down, or a caller that hangs up, ends the connection and nothing else."""
        try:
            super().handle_one_request()
        except (OSError, http.client.HTTPException):
            self.close_connection = True

    def do_GET(self) -> None:
        self._forward()

    def do_POST(self) -> None:
        self._forward()

    def do_PUT(self) -> None:
        self._forward()

    def do_PATCH(self) -> None:
        self._forward()

    def do_DELETE(self) -> None:
        self._forward()

    def _forward(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        for refusal in list(self.proxy.refusals):
            if refusal.method == self.command and refusal.path.search(self.path):
                refusal.count += 1
                code, data = int(refusal.answer["code"]), json.dumps(refusal.answer).encode()
                self._answer(code, "application/json", data)
                return
        watch = "watch=true" in self.path
        if watch and self.proxy.rewound:
            self.path = re.sub("resourceVersion=[0-9]+", "resourceVersion=1", self.path)
            self.proxy.rewound = False
        upstream = http.client.HTTPSConnection(self.proxy.upstream, context=self.proxy.tls)
        try:
            headers = {key: value for key, value in self.headers.items() if key.lower() != "host"}
            upstream.request(self.command, self.path, body or None, headers | {"Accept-Encoding": "identity"})
            answer = upstream.getresponse()
            if watch and answer.status == 200:
                self._stream(answer)
            else:
                self._answer(answer.status, answer.headers["Content-Type"], answer.read())
        finally:
            upstream.close()

    def _answer(self, code: int, content_type: str, data: bytes) -> None:
        self.send_response(code)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _stream(self, answer: http.client.HTTPResponse) -> None:
        self.send_response(200)
        self.send_header("Content-Type", answer.headers["Content-Type"])
        self.send_header("Transfer-Encoding", "chunked")
        self.send_header("Connection", "close")
        self.end_headers()
        stream = Stream(self)
        self.proxy.streams.add(stream)
        try:
            while line := answer.readline():
                stream.send(line)
            stream.send(b"")
        finally:
            self.proxy.streams.discard(stream)
        while stream.silent and self.connection.recv(1):
            pass  # the operator has to notice by itself

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """The operator's log tells enough."""
