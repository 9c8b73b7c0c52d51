"""The operator, with every call to the cloud written down: `python -m dev.bench.operator.recorded FILE`.

One JSON line a call, in the order in which they were answered, for `replay`.
"""

import base64
import json
import sys
import threading
from pathlib import Path
from typing import Any

import requests

from budget_operator.main import app


def record(file: Path) -> None:
    """Every call that a session of `requests` makes from now on, Google's clients' own included."""
    send, lock, out = requests.Session.send, threading.Lock(), file.open("a")

    def recorded(session: requests.Session, request: requests.PreparedRequest, **more: Any) -> Any:
        answer = send(session, request, **more)
        line = {
            "method": request.method,
            "url": request.url,
            "headers": {name: _text(value) for name, value in request.headers.items()},
            "body": base64.b64encode(_bytes(request.body)).decode(),
        }
        with lock:
            out.write(json.dumps(line) + "\n")
            out.flush()
        return answer

    requests.Session.send = recorded  # type: ignore[method-assign, assignment]


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value


def _bytes(body: Any) -> bytes:
    if body is None:
        return b""
    return body.encode() if isinstance(body, str) else bytes(body)


if __name__ == "__main__":
    record(Path(sys.argv.pop(1)))
    app()
