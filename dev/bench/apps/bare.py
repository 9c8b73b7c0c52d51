"""The bare ASGI callable: reads the body, works, answers. No routing, no login, no checks."""

from typing import Any

import orjson

from dev.bench.work import chosen

_work = chosen().work


async def app(_scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Answer whatever is asked."""
    body = b""
    more = True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    answer = orjson.dumps(_work(orjson.loads(body)["payload"]))
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(answer))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})
