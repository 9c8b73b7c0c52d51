"""What a predictor is handed, beside Starlette's own `UploadFile`.

`routes` makes these from the HTTP request; what comes back from `predict` is encoded by `results`.
"""

import io
import json
from typing import Any

from fastapi import Request
from starlette.datastructures import Headers, UploadFile
from starlette.exceptions import HTTPException

from budget_server.errors import InvalidBody


class PredictRequest(Request):
    """The FastAPI request of /predict, its body already received.

    So `await request.json()` works in an async predict, and a plain one, which cannot await, has `payload`.
    """

    @property
    def payload(self) -> Any:
        """The value of "payload" in the JSON body."""
        body = parse_json(self._body)
        if not isinstance(body, dict) or "payload" not in body:
            raise InvalidBody('Send a JSON object with the key "payload".')
        return body["payload"]


class DictPayload(dict[str, Any]):
    """The payload of /predict_dict: a dict, and readable as `request.payload` as BudgetML users write it."""

    @property
    def payload(self) -> dict[str, Any]:
        """The same entries as a plain dict."""
        return dict(self)


def parse_json(body: bytes) -> Any:
    """The body as JSON, or an answer that says what is wrong with it."""
    try:
        return json.loads(body)
    except RecursionError:
        raise InvalidBody("The JSON body is nested too deeply.") from None
    except ValueError as error:  # covers both malformed JSON and malformed UTF-8
        raise InvalidBody(f"The body is not JSON: {error}.") from None


async def predict_request(request: Request) -> PredictRequest:
    """Receive the body, so that the predictor can read it from any thread."""
    received = PredictRequest(request.scope, request.receive)
    await received.body()
    return received


async def dict_payload(request: Request) -> DictPayload:
    """The body of /predict_dict."""
    received = await predict_request(request)
    payload = received.payload
    if not isinstance(payload, dict):
        raise InvalidBody(f'"payload" must be a JSON object, not {type(payload).__name__}.')
    return DictPayload(payload)


async def image_upload(request: Request) -> UploadFile:
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


def _raw_image(body: bytes, media_type: str) -> UploadFile:
    if not body:
        raise InvalidBody('Send the image as the body, or as a file in the multipart field "request".')
    headers = Headers({"content-type": media_type or "application/octet-stream"})
    return UploadFile(io.BytesIO(body), size=len(body), filename="image", headers=headers)
