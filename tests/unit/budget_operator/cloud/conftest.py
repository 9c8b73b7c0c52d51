"""A stand-in for Google's HTTP front: scripted answers, every request recorded."""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from budget_operator.cloud.connection import Connection


@dataclass
class Request:
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any


@dataclass
class Google:
    """Answers by "METHOD /path"; the last scripted answer of a call repeats."""

    endpoint: str = ""
    requests: list[Request] = field(default_factory=list)
    answers: dict[str, list[tuple[int, Any]]] = field(default_factory=dict)

    def answer(self, call: str, *answers: tuple[int, Any]) -> None:
        self.answers[call] = list(answers)

    def take(self, request: Request) -> tuple[int, Any]:
        self.requests.append(request)
        left = self.answers.get(f"{request.method} {request.path}")
        if not left:
            return error(404, "notFound", f"{request.path} was not found")
        return left.pop(0) if len(left) > 1 else left[0]

    @property
    def connection(self) -> Connection:
        return Connection("p1", self.endpoint, "anonymous")


def error(status: int, reason: str, message: str, **more: Any) -> tuple[int, Any]:
    """An error as Compute Engine words it."""
    legacy = [{"reason": reason, "message": message, "domain": "global"}]
    return status, {"error": {"code": status, "message": message, "errors": legacy, **more}}


@pytest.fixture
def google_error() -> Any:
    return error


@pytest.fixture
def google() -> Iterator[Google]:
    script = Google()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            url = urlsplit(self.path)
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            try:
                body = json.loads(raw) if raw else None
            except ValueError:
                body = raw
            query = {key: values[-1] for key, values in parse_qs(url.query).items()}
            status, answer = script.take(Request(self.command, url.path, query, dict(self.headers), body))
            payload = json.dumps(answer).encode() if answer is not None else b""
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any  # noqa: N815

        def log_message(self, *args: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    script.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    yield script
    server.shutdown()
    server.server_close()
