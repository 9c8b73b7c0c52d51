"""What a predictor is handed, beside Starlette's own `UploadFile`.

`endpoints` calls these with the ASGI messages; what comes back from `predict` is encoded by `results`.
"""

import io
import json
from collections.abc import Callable
from typing import Any

import orjson
from fastapi import Request
from starlette.datastructures import Headers, UploadFile
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope

from budget_server.errors import InvalidBody
from budget_server.images import Normalised


class PredictRequest(Request):
    """The FastAPI request of /predict, its body already received.

    So `await request.json()` works in an async predict, and a plain one, which cannot await, has `payload`.
    """

    def __init__(self, scope: Scope, receive: Receive, body: bytes) -> None:
        super().__init__(scope, receive)
        self._body = body

    @property
    def payload(self) -> Any:
        """The value of "payload" in the JSON body."""
        return payload_of(self._body)

    @property
    def received(self) -> Any:
        """All that the caller sent, for what must not be logged."""
        try:
            return orjson.loads(self._body)
        except ValueError:
            return self._body


class DictPayload(dict[str, Any]):
    """The payload of /predict_dict: a dict, and readable as `request.payload` as BudgetML users write it."""

    __slots__ = ()

    @property
    def payload(self) -> dict[str, Any]:
        """The same entries as a plain dict."""
        return dict(self)


def parse_json(body: bytes) -> Any:
    """The body as JSON, or an answer that says what is wrong with it."""
    try:
        return orjson.loads(body)
    except ValueError:
        pass
    # The standard library takes a little more, such as NaN, and its messages say where the error is.
    try:
        return json.loads(body)
    except RecursionError:
        raise InvalidBody("The JSON body is nested too deeply.") from None
    except json.JSONDecodeError as error:
        place = f"line {error.lineno} column {error.colno}"
        raise InvalidBody(f"The body is not JSON: {error.msg} at {place}.") from None
    except ValueError:
        raise InvalidBody("The body is not JSON: it is not UTF-8.") from None


def payload_of(body: bytes) -> Any:
    """The value of "payload" in a JSON body."""
    content = parse_json(body)
    try:
        return content["payload"]
    except (KeyError, TypeError):
        raise InvalidBody('Send a JSON object with the key "payload".') from None


def dict_payload(body: bytes) -> DictPayload:
    """The body of /predict_dict."""
    payload = payload_of(body)
    if not isinstance(payload, dict):
        raise InvalidBody(f'"payload" must be a JSON object, not {type(payload).__name__}.')
    return DictPayload(payload)


async def image_upload(request: PredictRequest) -> UploadFile:
    """The image of /predict_image: multipart field `request`, else the first file, else the raw body."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "multipart/form-data":
        return _raw_image(await request.body(), media_type)
    try:
        form = await request.form()
    except HTTPException as error:
        raise InvalidBody(f"The multipart form cannot be read: {error.detail}") from None
    files = [(name, value) for name, value in form.multi_items() if isinstance(value, UploadFile)]
    if not files:
        raise InvalidBody('Send the image as a file in the multipart field "request".')
    return dict(reversed(files)).get("request", files[0][1])


def upright(upload: UploadFile, normalise: Callable[[bytes], Normalised]) -> UploadFile:
    """The same upload with its image made upright and RGB; decodes, so call it in a thread."""
    image = normalise(upload.file.read())
    headers = Headers({"content-type": image.media_type})
    return UploadFile(io.BytesIO(image.data), size=len(image.data), filename=upload.filename, headers=headers)


def _raw_image(body: bytes, media_type: str) -> UploadFile:
    if not body:
        raise InvalidBody('Send the image as the body, or as a file in the multipart field "request".')
    headers = Headers({"content-type": media_type or "application/octet-stream"})
    return UploadFile(io.BytesIO(body), size=len(body), filename="image", headers=headers)
