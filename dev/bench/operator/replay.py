"""The cloud's part of the time: the calls that the operator made, made again without it.

They go to a cloud that is as empty as the operator's was, at once one after another, by as many callers as
the operator has workers.
"""

import base64
import json
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests


@dataclass(frozen=True)
class Call:
    """As it was made."""

    method: str
    url: str
    headers: dict[str, str]
    body: bytes


def read(file: Path, old: str, new: str) -> list[Call]:
    """What was written down, for another cloud."""
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    return [
        Call(
            line["method"],
            line["url"].replace(old, new),
            line["headers"],
            _without_address(base64.b64decode(line["body"])),
        )
        for line in lines
    ]


def _without_address(body: bytes) -> bytes:
    """An instance gets whatever address is free: the reserved ones are others in another cloud."""
    if b'"natIP"' not in body:
        return body
    instance: Any = json.loads(body)
    for interface in instance.get("networkInterfaces", ()):
        for access in interface.get("accessConfigs", ()):
            access.pop("natIP", None)
    return json.dumps(instance).encode()


def play(calls: Sequence[Call], callers: int) -> float:
    """Seconds that all of them take. Each caller has the next call, whoever made it."""
    waiting, lock = iter(calls), threading.Lock()
    threads = [threading.Thread(target=_caller, args=(waiting, lock)) for _ in range(callers)]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.monotonic() - started


def _caller(waiting: Iterable[Call], lock: threading.Lock) -> None:
    session = requests.Session()
    session.trust_env = False
    calls = iter(waiting)
    while True:
        with lock:
            call = next(calls, None)
        if call is None:
            return
        headers = {name: value for name, value in call.headers.items() if name.lower() != "content-length"}
        session.request(call.method, call.url, headers=headers, data=call.body or None, timeout=60)
