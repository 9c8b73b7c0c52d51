"""The predict routes as plain ASGI callables: login, limits, body, predictor, answer.

FastAPI's own chain (dependencies, a pydantic body, middleware) takes several times what a small prediction
takes; docs/serving.md has the figures. `app` asks these first; `openapi` documents them on the same page.
"""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import orjson
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from budget_server import images, openinference
from budget_server.auth import Auth, TokenExpired
from budget_server.errors import CallerError, ClientGone, Internal, MethodNotAllowed, Unauthorized
from budget_server.inputs import (
    DictPayload,
    PredictRequest,
    dict_payload,
    image_upload,
    parse_json,
    upright,
)
from budget_server.limits import Admission, read_body, too_large, turn_or_gone
from budget_server.metrics import ROUTE_INDEX, Board, Slot
from budget_server.predictor import Answer, PredictorHost, user_traceback
from budget_server.results import Encoded
from budget_server.settings import Settings
from budget_server.streaming import Stream, send_stream
from budget_server.throttle import Throttle, client_of
from budget_server.wire import sent_at_once

CLIENT_GONE = 499
"""The status that counts requests whose caller has hung up; nginx' number for it."""

log = logging.getLogger("budget_server.endpoints")
Given = Callable[[Scope, Receive, bytes], Any]
"""What the predictor is asked with, from a received body; raises InvalidBody."""
Ask = Callable[[Any], Awaitable[Answer]]


@dataclass
class Parts:
    """What the routes work with; one per application, as `app.state.parts`."""

    settings: Settings
    auth: Auth
    host: PredictorHost
    admission: Admission
    logins: Throttle
    tokens: Throttle
    app: Any = None
    """The FastAPI application, for predictors that ask their request for it."""
    board: Board = field(default_factory=Board)
    slot: Slot = field(init=False)

    def __post_init__(self) -> None:
        self.use(self.board, self.board.slots[0])

    def use(self, board: Board, slot: Slot) -> None:
        """Count on this board: the one that all workers share."""
        self.board, self.slot = board, slot
        self.host.on_batch = slot.batch
        self.host.on_exception = slot.exception

    @property
    def most_bytes(self) -> int:
        return self.settings.max_body_mib * 2**20

    def authorize(self, scope: Scope, value: bytes | None) -> None:
        """Refuse whose Authorization header is not good, and for a while who has guessed too often."""
        if value is not None and self.auth.is_known(value):
            return
        client = client_of(scope)
        self.tokens.check(client)
        try:
            self.auth.check_header(value)
        except TokenExpired:  # no guess
            raise
        except Unauthorized:
            if value is not None:
                self.tokens.failed(client)
            raise


def check_method(scope: Scope) -> None:
    if scope["method"] != "POST":
        raise MethodNotAllowed("Only POST is served here.", {"Allow": "POST"})


class Predict:
    """One route of the predictor."""

    def __init__(self, parts: Parts, route: str, given: Given, ask: Ask) -> None:
        self.route = route
        self._parts = parts
        self._index = ROUTE_INDEX[route]
        self._given = given
        self._ask = ask
        self._most_bytes = parts.most_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = perf_counter()
        parts = self._parts
        status = CLIENT_GONE
        try:
            if scope["method"] != "POST":
                raise MethodNotAllowed("Only POST is served here.", {"Allow": "POST"})  # noqa: TRY301
            credential, length = None, 0
            for name, value in scope["headers"]:
                if name == b"authorization":
                    credential = value
                elif name == b"content-length":
                    length = int(value)
            if credential is None or not parts.auth.is_known(credential):
                parts.authorize(scope, credential)
            if length > self._most_bytes:
                raise too_large(self._most_bytes)  # noqa: TRY301
            status = await self._admitted(scope, receive, send)
        except CallerError as error:
            status = await answer_error(self.route, error, send)
        except ClientDisconnect:
            pass
        except Exception as error:
            log.error("Not answered:\n%s", user_traceback(error))  # noqa: TRY400 - without our frames
            status = await answer_error(self.route, Internal("The server failed; the log has more."), send)
        finally:
            parts.slot.answered(self._index, status, perf_counter() - began)

    async def _admitted(self, scope: Scope, receive: Receive, send: Send) -> int:
        admission, slot = self._parts.admission, self._parts.slot
        admission.admit()
        try:
            given = self._given(scope, receive, await read_body(receive, self._most_bytes))
            turn = admission.turn()
            slot.occupied(admission.running, admission.admitted)
            if turn is not None:
                if not await turn_or_gone(turn, receive):
                    raise ClientGone("The caller hung up while waiting.")
                slot.occupied(admission.running, admission.admitted)
            try:
                answer = await self._ask(given)
                if type(answer) is Stream:
                    # A stream is the predictor at work, so it keeps its turn to the end.
                    return await self._stream(answer, given, receive, send)
            finally:
                admission.done()
        finally:
            admission.leave()
            slot.occupied(admission.running, admission.admitted)
        if type(answer) is Encoded:
            if not sent_at_once(send, answer):
                await send_bytes(send, 200, answer.media_type, answer.body)
            return 200
        assert isinstance(answer, Response)
        await answer(scope, receive, send)
        return answer.status_code

    async def _stream(self, stream: Stream, given: object, receive: Receive, send: Send) -> int:
        try:
            complete = await send_stream(stream, receive, send)
        except Exception as error:
            # The answer has begun, so the caller is told by its missing end: uvicorn closes the connection.
            self._parts.host.failure(error, given)
            return 500
        return 200 if complete else CLIENT_GONE


async def send_bytes(
    send: Send, status: int, media_type: bytes, body: bytes, headers: list[tuple[bytes, bytes]] | None = None
) -> None:
    """A complete answer."""
    all_headers = [(b"content-type", media_type), (b"content-length", b"%d" % len(body))]
    if headers:
        all_headers += headers
    await send({"type": "http.response.start", "status": status, "headers": all_headers})
    await send({"type": "http.response.body", "body": body})


def content_of(error: CallerError, path: str) -> dict[str, Any]:
    """The body of an error: one shape, with what the Open Inference Protocol asks for on its own routes."""
    if path.startswith("/v2"):
        return {"error": error.detail, **error.content}
    return error.content


async def answer_error(path: str, error: CallerError, send: Send) -> int:
    """Send an error; the status that was sent."""
    if isinstance(error, ClientGone):
        return CLIENT_GONE
    if error.status >= 500:
        log.error("Answered %d: %s", error.status, error)
    headers = [
        (name.lower().encode(), value.encode("latin-1", "replace")) for name, value in error.headers.items()
    ]
    await send_bytes(send, error.status, b"application/json", orjson.dumps(content_of(error, path)), headers)
    return int(error.status)


def predict_endpoints(parts: Parts) -> dict[str, Predict]:
    """Every predict route by its path."""
    host = parts.host

    def request_of(scope: Scope, receive: Receive, body: bytes) -> PredictRequest:
        scope["app"] = parts.app
        return PredictRequest(scope, receive, body)

    def payload(_scope: Scope, _receive: Receive, body: bytes) -> DictPayload:
        return dict_payload(body)

    async def ask_with_image(request: PredictRequest) -> Answer:
        upload = await image_upload(request)
        image = await host.threads.run(lambda: upright(upload, images.normalised))
        return await host.predict(image)

    return {
        "/predict": Predict(parts, "/predict", request_of, host.predict),
        "/predict_dict": Predict(
            parts, "/predict_dict", lambda _scope, _receive, body: dict_payload(body), host.predict_item
        ),
        "/predict_image": Predict(parts, "/predict_image", request_of, ask_with_image),
        **_inference_endpoints(parts),
    }


def _inference_endpoints(parts: Parts) -> dict[str, Predict]:
    """The Open Inference Protocol's question to this server's one model, with and without its version."""
    host, settings = parts.host, parts.settings
    name = openinference.model_name(settings.name)

    def tensors(scope: Scope, _receive: Receive, body: bytes) -> tuple[DictPayload, openinference.Wanted]:
        openinference.check_headers(scope["headers"])
        inputs, wanted = openinference.payload_of(parse_json(body))
        return DictPayload(inputs), wanted

    async def ask(given: tuple[DictPayload, openinference.Wanted]) -> Answer:
        payload, wanted = given

        def answer(value: Any) -> Encoded:
            return Encoded(orjson.dumps(openinference.response_of(value, wanted, name, settings.revision)))

        return await host.convert(payload, answer)

    infer = Predict(parts, "/v2/models/{name}/infer", tensors, ask)
    versions = [f"/versions/{settings.revision}"] if settings.revision else []
    return {f"/v2/models/{name}{version}/infer": infer for version in ("", *versions)}
