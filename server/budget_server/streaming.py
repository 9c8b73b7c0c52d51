"""Answers that come in pieces: predictors that yield.

The first item decides what the whole answer is: bytes as they are, text, server-sent events, or one line of
JSON for each item. What a generator raises after its first item cannot become an error any more: the
connection is closed before the answer's end, which every client notices.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeGuard

from fastapi.sse import ServerSentEvent, format_sse_event
from starlette.types import Receive, Send

from budget_server.results import Encoded, encode, quick

READER_SECONDS = 60.0
"""How long a caller may take to receive a piece before it counts as gone."""
_EVENT_FIELDS = ("data:", "event:", "id:", "retry:")
_END = object()


@dataclass(frozen=True, slots=True)
class Stream:
    """An answer whose pieces are still to come."""

    chunks: AsyncGenerator[bytes, None]
    media_type: bytes

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """No proxy may hold pieces back until it has them all."""
        return [
            (b"content-type", self.media_type),
            (b"cache-control", b"no-cache"),
            (b"x-accel-buffering", b"no"),
        ]


def is_stream(value: Any) -> TypeGuard["AsyncIterator[Any] | Iterator[Any]"]:
    """Whether predict returned a generator, or another iterator that is consumed as it is read."""
    kind = type(value)
    return hasattr(kind, "__anext__") or (hasattr(kind, "__next__") and hasattr(kind, "__iter__"))


async def open_stream(
    items: "AsyncIterator[Any] | Iterator[Any]", in_thread: Callable[[Callable[[], Any]], Any]
) -> Stream:
    """The stream of these items, once the first is there; what that one raises is an ordinary failure."""
    pieces = items if isinstance(items, AsyncIterator) else _threaded(items, in_thread)
    try:
        first = await anext(pieces, _END)
    except BaseException:
        await _close(pieces)
        raise
    if first is _END:
        return Stream(_chunks(_END, pieces, _text), b"text/plain; charset=utf-8")
    media_type, write = _form(first)
    return Stream(_chunks(first, pieces, write), media_type)


async def send_stream(stream: Stream, receive: Receive, send: Send) -> bool:
    """Piece by piece; False if the caller hung up or stopped reading. Raises what the generator raises."""
    gone = asyncio.ensure_future(_hung_up(receive))
    try:
        await send({"type": "http.response.start", "status": 200, "headers": stream.headers})
        while (chunk := await _unless(gone, stream.chunks)) is not None:
            async with asyncio.timeout(READER_SECONDS):
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        if gone.done():
            return False
        await send({"type": "http.response.body", "body": b""})
    except TimeoutError:
        return False
    finally:
        gone.cancel()
        await stream.chunks.aclose()
    return True


async def _unless(gone: "asyncio.Future[None]", chunks: AsyncIterator[bytes]) -> bytes | None:
    """The next piece; None at the end, or as soon as the caller is gone."""
    step = asyncio.ensure_future(_next(chunks))
    both: set[asyncio.Future[Any]] = {step, gone}
    await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    if step.done():
        return step.result()
    step.cancel()
    await asyncio.wait({step})
    return None


async def _next(chunks: AsyncIterator[bytes]) -> bytes | None:
    return await anext(chunks, None)


async def _hung_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _threaded(
    items: Iterator[Any], in_thread: Callable[[Callable[[], Any]], Any]
) -> AsyncIterator[Any]:
    """A plain generator, every step of it in a thread."""
    while (item := await in_thread(lambda: next(items, _END))) is not _END:
        yield item


async def _chunks(
    first: Any, rest: AsyncIterator[Any], write: Callable[[Any], bytes]
) -> AsyncGenerator[bytes, None]:
    try:
        if first is not _END:
            yield write(first)
        async for item in rest:
            yield write(item)
    finally:
        await _close(rest)


async def _close(items: Any) -> None:
    close = getattr(items, "aclose", None)
    if close is not None:
        await close()


def _form(first: Any) -> tuple[bytes, Callable[[Any], bytes]]:
    if isinstance(first, bytes | bytearray | memoryview):
        return b"application/octet-stream", bytes
    if isinstance(first, ServerSentEvent):
        return b"text/event-stream", _event
    if isinstance(first, str):
        is_event = first.startswith(_EVENT_FIELDS)
        return (b"text/event-stream" if is_event else b"text/plain; charset=utf-8"), _text
    return b"application/x-ndjson", _line


def _text(item: Any) -> bytes:
    return (item if isinstance(item, str) else str(item)).encode("utf-8", "replace")


def _line(item: Any) -> bytes:
    encoded: Encoded = quick(item) or encode(item)
    return encoded.body + b"\n"


def _event(item: Any) -> bytes:
    """An event, or data for one without a name."""
    event = item if isinstance(item, ServerSentEvent) else ServerSentEvent(data=item)
    text = None
    if event.raw_data is not None:
        text = event.raw_data
    elif event.data is not None:
        text = _line(event.data)[:-1].decode()
    return format_sse_event(
        data_str=text, event=event.event, id=event.id, retry=event.retry, comment=event.comment
    )
